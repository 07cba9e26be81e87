"""What `demo --check` proves: a product page, fetched over HTTP, shows the product's look-alikes."""

import html
from dataclasses import dataclass
from urllib.request import Request, urlopen

from django.utils.translation import gettext as _

from catalog.demo.errors import DemoError
from catalog.products import visible_products
from shop_similarity.search import similar_products

LIMIT = 8


@dataclass(frozen=True)
class LookAlikes:
    """A product and its look-alikes, best first, with their cosine similarity."""

    product: str
    look_alikes: list[tuple[str, float]]

    def as_json(self) -> dict:
        return {
            "product": self.product,
            "look_alikes": [{"name": name, "similarity": similarity} for name, similarity in self.look_alikes],
        }


def check_page(base_url: str) -> LookAlikes:
    """Fetch the page of the first product that has look-alikes. Raises DemoError if it does not show them."""
    for product in visible_products().order_by("name", "pk"):
        if found := similar_products(product, limit=LIMIT):
            break
    else:
        raise DemoError(_("No product has look-alikes."))
    url = base_url.rstrip("/") + product.get_absolute_url()
    page = _fetch(url)
    for other in found:
        if f'href="{html.escape(other.get_absolute_url())}"' not in page:
            raise DemoError(
                _("The page %(url)s does not show the look-alike “%(name)s”.") % {"url": url, "name": other.name}
            )
    return LookAlikes(product.name, [(other.name, round(float(other.similarity), 4)) for other in found])


def _fetch(url: str) -> str:
    try:
        request = Request(url, headers={"Accept": "text/html"})  # noqa: S310 - our own server
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server  # nosec B310
            return answer.read().decode("utf-8")
    except OSError as error:  # HTTPError and URLError are among them
        raise DemoError(_("The page %(url)s cannot be fetched: %(error)s") % {"url": url, "error": error}) from error
