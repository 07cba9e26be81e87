"""The category tree, read in one query."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Count, Q

from catalog.models import Category


@dataclass(slots=True)
class Node:
    """A category with its place in the tree; `count` is the number of published products in it and below it."""

    category: Category
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    own_count: int = 0

    @property
    def count(self) -> int:
        return sum(node.own_count for node in self.subtree())

    @property
    def ancestors(self) -> list["Node"]:
        """From the root down, without the node itself."""
        path = []
        node = self.parent
        while node is not None:
            path.append(node)
            node = node.parent
        return path[::-1]

    @property
    def shown_children(self) -> list["Node"]:
        return [child for child in self.children if child.count]

    def subtree(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            yield from child.subtree()

    def subtree_ids(self) -> list[int]:
        return [node.category.pk for node in self.subtree()]


class CategoryTree:
    """All categories; `roots` holds those at the top that have something to sell, in alphabetical order."""

    def __init__(self) -> None:
        published = Count("products", filter=Q(products__is_published=True))
        categories = Category.objects.annotate(own_count=published).order_by("name", "pk")
        self.nodes = {category.pk: Node(category, own_count=category.own_count) for category in categories}
        below = defaultdict(list)
        for node in self.nodes.values():
            node.parent = self.nodes.get(node.category.parent_id)
            below[node.category.parent_id].append(node)
        for node in self.nodes.values():
            node.children = below[node.category.pk]
        self.roots = [node for node in below[None] if node.count]

    def by_slug(self, slug: str) -> Node | None:
        return next((node for node in self.nodes.values() if node.category.slug == slug), None)

    def trail(self, category_id: int) -> list[Node]:
        """From the root to the category itself."""
        node = self.nodes.get(category_id)
        return [*node.ancestors, node] if node else []


def tree_of(request) -> CategoryTree:
    """The tree, read once per request."""
    if not hasattr(request, "category_tree"):
        request.category_tree = CategoryTree()
    return request.category_tree
