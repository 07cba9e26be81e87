"""Which products may be shown, and which stand in where no look-alikes are known yet."""

from django.db.models import Case, IntegerField, QuerySet, Value, When

from catalog.models import Product


def visible_products() -> QuerySet[Product]:
    """The published products, with all that a product card shows in two queries."""
    return Product.objects.filter(is_published=True).select_related("category").prefetch_related("photos")


def fallback_products(product: Product, limit: int) -> QuerySet[Product]:
    """At most `limit` other products that are in stock: of the same category first, then of its sister categories."""
    nearness = [When(category_id=product.category_id, then=Value(0))]
    if product.category.parent_id:
        nearness.append(When(category__parent_id=product.category.parent_id, then=Value(1)))
    return (
        visible_products()
        .filter(stock__gt=0)
        .exclude(pk=product.pk)
        .alias(nearness=Case(*nearness, default=Value(2), output_field=IntegerField()))
        .order_by("nearness", "-created_at", "pk")[:limit]
    )
