"""Triplets from what shoppers clicked in rows of similar products.

A click alone says little: what stands first is clicked because it stands first. But who clicks the fourth product has
looked at the first three and left them, so the fourth is preferred to each of them: "click > skip above" (Joachims,
"Optimizing Search Engines using Clickthrough Data", KDD 2002; found to hold against eye tracking in Joachims et al.,
SIGIR 2005). Nothing is concluded about what stands below the click, which may not have been seen, and nothing from a
click on the first. A single click may be a slip, so a preference counts only when it was shown often and seldom
contradicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from shop_similarity.training.triplets.table import TripletError, Triplets

MIN_CLICKS = 3
MIN_SHARE = 0.75


def click_triplets(
    clicks: Iterable[tuple[str, Sequence[str], str]],
    root: Path,
    min_clicks: int = MIN_CLICKS,
    min_share: float = MIN_SHARE,
) -> Triplets:
    """Turn clicks into triplets.

    Args:
        clicks: one (query photo, shown photos in the order in which they were shown, clicked photo) for each click;
            names relative to ``root``. Leave out what no person did (crawlers, the shop's own staff).
        root: the folder of the photos.
        min_clicks: so many clicks must prefer one photo to the other.
        min_share: of all clicks that chose between the two, so many must agree; above a half.

    Returns:
        One triplet for each preference: query, clicked, skipped, in the order of the names. ``positive_type`` is
        ``clicked`` and ``negative_type`` ``skipped``. ``notices`` say how many clicks were of use.

    Raises:
        ValueError: a limit out of its range.
        TripletError: no preference is certain enough.
    """
    check_limits(min_clicks, min_share)
    total = useful = 0
    preferred: Counter[tuple[str, str, str]] = Counter()
    for query, shown, clicked in clicks:
        total += 1
        if clicked == query or clicked not in shown:
            continue
        above = set(shown[: list(shown).index(clicked)]) - {query, clicked}
        useful += bool(above)
        preferred.update((query, clicked, skipped) for skipped in above)
    kept = certain(preferred, min_clicks, min_share)
    if not kept:
        raise TripletError(
            f"The {total:,} recorded clicks give no triplet: {useful:,} were on a product with others skipped above "
            f"it, and no choice between the same two products was made {min_clicks} times with {min_share:.0%} "
            f"agreement. Record more clicks, or train on the catalogue."
        )
    names = sorted({name for row in kept for name in row})
    places = {name: place for place, name in enumerate(names)}
    return Triplets(
        tuple(names),
        np.array([[places[name] for name in row] for row in kept], dtype=np.int32),
        positive_type=["clicked"] * len(kept),
        negative_type=["skipped"] * len(kept),
        root=Path(root),
        notices=(
            f"{len(kept):,} triplets from {total:,} clicks, {useful:,} of which had a skipped product above them.",
        ),
    )


def check_limits(min_clicks: int, min_share: float) -> None:
    """Raise ValueError for a limit out of its range."""
    if min_clicks < 1:
        raise ValueError(f"min_clicks must be 1 or more, not {min_clicks!r}.")
    if not 0.5 < min_share <= 1:
        raise ValueError(f"min_share must be above 0.5 and at most 1, not {min_share!r}.")


def certain(preferred: Mapping[tuple[str, str, str], int], min_clicks: int, min_share: float) -> list[tuple]:
    """The (query, clicked, skipped) that were counted often enough and seldom contradicted, in order."""
    return sorted(
        (query, clicked, skipped)
        for (query, clicked, skipped), count in preferred.items()
        if count >= min_clicks and count >= min_share * (count + preferred.get((query, skipped, clicked), 0))
    )
