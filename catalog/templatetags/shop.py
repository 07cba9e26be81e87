"""Template helpers of the storefront: photos in the right size, prices."""

from decimal import Decimal

from django import template
from django.conf import settings
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from catalog.models import ProductPhoto
from catalog.thumbnails import thumbnail

register = template.Library()


@register.filter
def money(price: Decimal | None) -> str:
    """A price with the shop's currency sign, or that it is to be asked for."""
    if price is None:
        return _("Price on request")
    sign, amount = getattr(settings, "SHOP_CURRENCY", "$"), number_format(price, 2, use_l10n=True, force_grouping=True)
    return pgettext("price", "%(sign)s%(amount)s") % {"sign": sign, "amount": amount}


@register.simple_tag
def photo(picture: ProductPhoto | None, size: str, alt: str = "", sizes: str = "", eager: bool = False) -> SafeString:
    """An img for one size of a photo, or several separated by a comma; lazy unless `eager`.

    Width and height are set, so that nothing on the page moves when the photo arrives. A missing or unreadable photo
    becomes a quiet placeholder.
    """
    copies = [copy for name in size.split(",") if picture and (copy := thumbnail(picture, name.strip()))]
    if not copies:
        return format_html('<span class="no-photo" role="img" aria-label="{}"></span>', _("No photo"))
    largest = copies[-1]
    attributes = [("src", largest.url), ("alt", alt)]
    if largest.width:
        attributes += [("width", largest.width), ("height", largest.height)]
        if len(copies) > 1 and copies[0].width != largest.width:
            attributes.append(("srcset", ", ".join(f"{copy.url} {copy.width}w" for copy in copies)))
            attributes.append(("sizes", sizes or "100vw"))
    attributes += [("fetchpriority", "high")] if eager else [("loading", "lazy")]
    attributes.append(("decoding", "async"))
    return format_html("<img {}>", format_html_join(" ", '{}="{}"', attributes))


@register.filter
def shape(picture: ProductPhoto | None) -> str:
    """Whether a photo is wide, tall or about square: which frame suits it."""
    if picture is None or not picture.width or not picture.height:
        return "square"
    ratio = picture.width / picture.height
    return "wide" if ratio > 1.2 else "tall" if ratio < 0.85 else "square"
