"""The plugin in a django-oscar shop: its settings, Oscar's look and prices, a panel in Oscar's dashboard.

docs/oscar.md tells how to use it. Nothing here imports Oscar before the app is installed.
"""

from .defaults import oscar_settings

__all__ = ["oscar_settings"]
