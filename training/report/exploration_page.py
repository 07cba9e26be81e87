"""What was found in a data set, as one HTML file with contact sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shop_similarity.training.report.contact_sheets import Tile, sheet
from shop_similarity.training.report.page import Sections, Table, shown_plots, write_page
from shop_similarity.training.report.plots import histogram
from shop_similarity.training.report.samples import Row, data_uri
from shop_similarity.training.triplets.exploration import Exploration
from shop_similarity.training.triplets.leakage import Overlap

_ROWS_OF_A_KIND, _KINDS, _PAIRS, _CATEGORIES = 4, 12, 12, 40
_SIDE = 132


def write_exploration(path: Path, sets: Sequence[Exploration], shared: Overlap | None = None, seed: int = 0) -> Path:
    """Write a self-contained HTML file.

    Args:
        path: where to.
        sets: what was explored; with a validation set the training set comes first.
        shared: what the two share.
        seed: of the choice of triplets.

    Raises:
        OSError: the file can't be written.
    """
    summary: list[tuple[str, list[str]]] = [
        (f"{exploration.name.capitalize()}:", exploration.lines()) for exploration in sets
    ]
    if shared is not None:
        summary.append(("Between the two:", shared.lines()))
    sections = Sections()
    for exploration in sets:
        name = exploration.name.capitalize()
        sections.add(f"{name}: what is in it", plots=shown_plots(_plots(exploration)), tables=_tables(exploration))
        intro = "Chosen at random, some of each kind."
        sections.add(f"{name}: triplets", intro, narrow=True, rows=_triplets(exploration, seed))
        paths, images = exploration.triplets.paths(), exploration.triplets.images
        twins = [(places[0], places[1]) for places in exploration.same_bytes] + [
            tuple(pair) for pair in exploration.near.tolist()
        ]
        pairs = [(paths[one], paths[other], images[one], images[other]) for one, other in twins]
        intro = "Equal bytes first, then pictures that are nearly the same."
        sections.add(f"{name}: photos that stand there twice", intro, narrow=True, rows=_pairs(pairs))
    if shared is not None and len(sets) == 2:
        leaks = [*shared.leakage.same_file, *shared.leakage.same_bytes, *shared.near]
        roots = sets[0].triplets.root, sets[1].triplets.root
        pairs = [(roots[0] / one, roots[1] / other, one, other) for one, other in leaks]
        sections.add("Photos on both sides", "Training left, validation right.", narrow=True, rows=_pairs(pairs))
    return write_page(path, f"Data set: {', '.join(exploration.name for exploration in sets)}", summary, sections)


def _plots(exploration: Exploration):
    sizes = exploration.sizes()
    name = exploration.name
    if len(sizes):
        yield histogram(f"Shorter side, {name}", {"photos": sizes.min(axis=1)}, "pixels", "photos")
        ratio = np.log2(sizes[:, 0] / np.maximum(sizes[:, 1], 1))
        yield histogram(f"Shape, {name}", {"photos": ratio}, "log2(width / height): 0 is square", "photos")
    per_query = exploration.per_query()
    yield histogram(f"Triplets of a query, {name}", {"queries": per_query["triplets"]}, "triplets", "queries")
    if exploration.groups:
        values = np.array(list(exploration.groups.values()))
        yield histogram(f"Photos of a group, {name}", {"groups": values}, "photos", "groups")


def _tables(exploration: Exploration) -> list[Table]:
    counts = exploration.counts
    tables = []
    for caption, counted in (("Positives", counts.positive_types), ("Negatives", counts.negative_types)):
        if counted:
            rows = [(name, *_share(count, counted)) for name, count in counted.items()]
            tables.append(Table(f"{caption} by type, {exploration.name}", ("Type", "Triplets", "Share"), rows))
    if exploration.categories:
        shown = list(exploration.categories)[:_CATEGORIES]
        shares = [
            (
                name,
                *_share(exploration.categories[name], exploration.categories),
                *_share(exploration.query_categories.get(name, 0), exploration.query_categories),
            )
            for name in shown
        ]
        more = len(exploration.categories) - len(shown)
        caption = f"Categories, {exploration.name}" + (f" (the {len(shown)} largest; {more:,} more)" if more else "")
        head = ("Category", "Photos", "Share", "Triplets by their query", "Share")
        tables.append(Table(caption, head, shares))
    return tables


def _share(count: int, counted: Mapping[str, int]) -> tuple[str, str]:
    return f"{count:,}", f"{count / max(1, sum(counted.values())):.1%}"


def _triplets(exploration: Exploration, seed: int) -> list[Row]:
    triplets = exploration.triplets
    kinds = list(zip(triplets.positive_type.tolist(), triplets.negative_type.tolist(), strict=True))
    paths = triplets.paths()
    dice = np.random.default_rng(seed)
    rows = []
    for kind, _count in Counter(kinds).most_common(_KINDS):
        places = [place for place, other in enumerate(kinds) if other == kind]
        words = ", ".join(filter(None, kind)) or "no kind named"
        for place in dice.permutation(places)[:_ROWS_OF_A_KIND].tolist():
            names = [triplets.images[photo] for photo in triplets.rows[place]]
            tiles = [
                Tile(paths[photo], (word,), "query" if word == "query" else None)
                for word, photo in zip(("query", "positive", "negative"), triplets.rows[place].tolist(), strict=True)
            ]
            alt = f"Query {names[0]}; positive {names[1]}; negative {names[2]}."
            rows.append(Row(data_uri(sheet([tiles], thumbnail=_SIDE)), words, alt))
    return rows


def _pairs(pairs: Sequence[tuple[Path, Path, str, str]]) -> list[Row]:
    return [
        Row(
            data_uri(sheet([[Tile(one), Tile(other)]], thumbnail=_SIDE)),
            f"{name} and {other_name}",
            f"{name} beside {other_name}.",
        )
        for one, other, name, other_name in pairs[:_PAIRS]
    ]
