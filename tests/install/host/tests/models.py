"""One more of the shop's apps, whose name the plugin uses, too."""
