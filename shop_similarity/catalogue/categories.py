"""The categories of the shop as choices: the values of the ``CATEGORY`` setting with names that people know."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef

from .category_tree import CategoryTree, is_of_product
from .field_paths import setting_value
from .shop import get_catalogue


def category_choices(*, with_hidden: bool, most: int, separator: str) -> list[tuple[str, str]]:
    """Value and label of the categories that products have, by label; empty without the ``CATEGORY`` setting.

    Where the value is a row of a model, its rows give the names, with the names of those above them if they form a tree
    (:mod:`.category_tree`), and those above are choices too; one statement, and one more for a tree. Each category is
    looked up among the products, not each product. Only where products hold the value in a column of their own, which
    need not have an index, or where several paths or a callable lead to it, all of them have to be read. Labels that
    several values share get the value behind them.

    Args:
        with_hidden: also of products that the shop does not show, and categories that their manager leaves out.
        most: choices at most; which ones are left out is not said.
        separator: between the names of parent and child.
    """
    value = setting_value("category")
    if value is None:
        return []
    catalogue = get_catalogue()
    products = catalogue.all_products() if with_hidden else catalogue.visible_products()
    field, model = value.field, getattr(value.field, "model", None)
    if model is None or is_of_product(value):
        labels = {text: _label(field, text) for text in value.values(products).distinct()[:most]}
    else:
        everything = (model._base_manager if with_hidden else model._default_manager).order_by()
        if value.path is not None:
            rows = everything.filter(Exists(products.order_by().filter(**{value.path: OuterRef(field.attname)})))
        else:
            rows = everything.filter(**{f"{field.attname}__in": value.values(products)})
        used = list(rows[:most])
        if tree := CategoryTree.of(value):
            values = [getattr(row, field.attname) for row in used]
            used = list(everything.filter(**{f"{field.attname}__in": tree.above(values)})[:most])
        # The value is the category itself, not a text of it.
        if value.ends_at_key and tree:
            named = {getattr(row, field.attname): str(row) for row in used}
            trails = tree.trails(used).items()
            labels = {key: separator.join(_own_names([named[part] for part in trail])) for key, trail in trails}
        elif value.ends_at_key:
            labels = {getattr(row, field.attname): str(row) for row in used}
        else:
            labels = {text: _label(field, text) for row in used if (text := getattr(row, field.attname)) is not None}
    choices = [(str(value), label) for value, label in labels.items() if str(value)]
    shared = Counter(label for _value, label in choices)
    choices = [(value, f"{label} ({value})" if shared[label] > 1 else label) for value, label in choices]
    return sorted(choices, key=lambda choice: choice[1].casefold())


def _own_names(names: Sequence[str]) -> list[str]:
    """The names of a trail from the top, without what each repeats of the one above it.

    Some shops name a category by its whole path, such as django-oscar: "Women > Tops".
    """
    own = list(names[:1])
    for above, name in itertools.pairwise(names):
        repeated = re.fullmatch(re.escape(above) + r"(?:\s+[^\w\s]+\s+|\s*[/>|›»]\s*)(.+)", name, re.DOTALL)
        own.append(repeated[1] if repeated else name)
    return own


def _label(field: models.Field, value: Any) -> str:
    return str(dict(getattr(field, "flatchoices", ())).get(value, value))
