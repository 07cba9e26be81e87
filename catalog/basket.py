"""A basket kept in the visitor's session: product key -> quantity."""

from dataclasses import dataclass
from decimal import Decimal

from catalog.models import Product
from catalog.products import visible_products

SESSION_KEY = "basket"
MOST_PER_PRODUCT = 99


@dataclass(frozen=True, slots=True)
class Line:
    """One product in the basket."""

    product: Product
    quantity: int

    @property
    def most(self) -> int:
        """How many can be had at once."""
        return min(self.product.stock, MOST_PER_PRODUCT)

    @property
    def total(self) -> Decimal:
        return self.product.price * self.quantity


class Basket:
    """Reads and changes the basket of a request's session. A visitor without a session costs no query."""

    def __init__(self, session) -> None:
        self.session = session

    @property
    def _quantities(self) -> dict[str, int]:
        return self.session.get(SESSION_KEY, {})

    def __len__(self) -> int:
        return sum(self._quantities.values())

    def add(self, product: Product, quantity: int = 1) -> int:
        """Put more of a product in, at most what is in stock; the quantity that is in the basket afterwards."""
        return self.put(product, self._quantities.get(str(product.pk), 0) + quantity)

    def put(self, product: Product, quantity: int) -> int:
        """Set the quantity of a product (0 takes it out); the quantity that is in the basket afterwards."""
        quantity = max(0, min(quantity, product.stock, MOST_PER_PRODUCT)) if product.price is not None else 0
        quantities = dict(self._quantities)
        if quantity:
            quantities[str(product.pk)] = quantity
        else:
            quantities.pop(str(product.pk), None)
        self.session[SESSION_KEY] = quantities
        return quantity

    def lines(self) -> list[Line]:
        """What is in the basket and can still be bought, in the order in which it was put in."""
        quantities = self._quantities
        products = {str(p.pk): p for p in visible_products().filter(pk__in=list(quantities), price__isnull=False)}
        lines = [
            Line(products[key], min(quantity, products[key].stock))
            for key, quantity in quantities.items()
            if key in products
        ]
        return [line for line in lines if line.quantity]
