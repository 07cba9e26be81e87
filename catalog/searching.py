"""Search by words: name, SKU and category."""

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector, TrigramWordSimilarity
from django.db.models import Q, QuerySet

from catalog.models import Product

LANGUAGE = "english"
CLOSE_ENOUGH = 0.5
LONGEST_QUERY = 100


def search_products(products: QuerySet[Product], words: str) -> QuerySet[Product]:
    """Those of `products` that the words describe, best first.

    A product is found by the stem of its words (full text), by any part of its name or SKU, and by a name that is
    spelt nearly so (trigrams).
    """
    words = " ".join(words.replace("\x00", " ").split())[:LONGEST_QUERY]
    if not words:
        return products.none()
    vector = (
        SearchVector("name", weight="A", config=LANGUAGE)
        + SearchVector("sku", weight="A", config="simple")
        + SearchVector("category__name", weight="C", config=LANGUAGE)
    )
    query = SearchQuery(words, config=LANGUAGE, search_type="websearch")
    return (
        products.annotate(
            rank=SearchRank(vector, query),
            closeness=TrigramWordSimilarity(words, "name"),
            document=vector,
        )
        .filter(Q(document=query) | Q(name__icontains=words) | Q(sku__icontains=words) | Q(closeness__gte=CLOSE_ENOUGH))
        .order_by("-rank", "-closeness", "name", "pk")
    )
