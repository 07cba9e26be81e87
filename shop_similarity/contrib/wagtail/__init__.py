"""The plugin in a Wagtail shop: settings for products that are pages or snippets, a block, a tag, a report, a panel.

docs/wagtail.md tells how to use it. Nothing here imports Wagtail before the app is installed.
"""

from .defaults import wagtail_settings

__all__ = ["wagtail_settings"]
