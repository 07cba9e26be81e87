"""Blocks for StreamFields, by which editors place look-alikes on a page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from wagtail import blocks
from wagtail.snippets.blocks import SnippetChooserBlock

from ...conf import SETTING

# Blocks are imported by the shop's models, before the plugin's own: nothing here may need models, nor fail by a setting
# that `manage.py check` has more to say about. The numbers are those of WidgetOptions.
_PRODUCT_MODEL = (getattr(settings, SETTING, None) or {}).get("PRODUCT_MODEL")
_LIMIT, _MOST = 8, 50
_HELP = _("Leave it empty on the page of a product to show what is similar to that one.")


class SimilarProductsBlock(blocks.StructBlock):
    """Look-alikes of a product page: of the one that the block stands on, or of one that the editor chooses."""

    heading = blocks.CharBlock(
        label=_("Heading"), required=False, max_length=200, help_text=_("Empty: “Similar products”.")
    )
    product = blocks.PageChooserBlock(label=_("Similar to"), required=False, page_type=_PRODUCT_MODEL, help_text=_HELP)
    limit = blocks.IntegerBlock(label=_("Most products"), default=_LIMIT, min_value=1, max_value=_MOST)

    class Meta:
        icon = "image"
        label = _("Similar products")
        template = "shop_similarity/wagtail/similar_products_block.html"

    def get_context(self, value: Any, parent_context: dict[str, Any] | None = None) -> dict[str, Any]:
        from .products import product_of

        context = super().get_context(value, parent_context)
        context["product"] = product_of(value.get("product") or context.get("page"))
        return context


class SimilarSnippetsBlock(SimilarProductsBlock):
    """The same for products that are snippets, of which the editor chooses one."""

    product = SnippetChooserBlock(_PRODUCT_MODEL, label=_("Similar to"), required=False, help_text=_HELP)

    class Meta:
        icon = "image"
        label = _("Similar products")
        template = "shop_similarity/wagtail/similar_products_block.html"
