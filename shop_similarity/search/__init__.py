"""Search: which products look like a product, like several, or like a vector.

Ways to the same candidates, chosen by how many photos there are among the products that may be shown:

* *exact*: few photos, every vector is compared;
* *codes*: more, all sign codes are scanned and the nearest ones compared exactly;
* *index*: many, the HNSW index over the codes of the version names the candidates, which are compared exactly;
* *engine*: many, and an engine beside Postgres names them (``docs/engines.md``).

What is found is ranked: the merchandiser's rules, the category's preference, variants collapsed, diversity. A list that
comes out shorter than asked goes on with three times as many candidates, up to a bound of what one request may cost.
``docs/searching.md`` goes through it step by step.
"""

from .candidates import Match, find_matches
from .options import Filters, SearchOptions
from .paths import Path
from .queries import Query
from .results import can_lean, search_by_vector, searched_version, similar_products, similar_to_several

__all__ = [
    "Filters",
    "Match",
    "Path",
    "Query",
    "SearchOptions",
    "can_lean",
    "find_matches",
    "search_by_vector",
    "searched_version",
    "similar_products",
    "similar_to_several",
]
