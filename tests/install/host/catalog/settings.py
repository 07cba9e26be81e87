raise ImportError("These are the shop's preferences for its catalogue, and no settings of Django.")
