"""What a version has seen in training, it and all that it was fine-tuned from; and whether that spoils a comparison.

A model that was trained on what it is judged by looks better than it is, and a fair newcomer loses to it. So a version
keeps, in ``metrics["seen"]``, by which rule products were set aside and a sample of what it was trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from shop_similarity.training.triplets.sides import Sides
from shop_similarity.training.triplets.sketch import Sketch
from shop_similarity.training.triplets.table import Triplets

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

SEEN = "seen"
"""Key in a version's metrics."""

LEAK = "leak"
"""Key in its ``metrics["evaluation"]``: what :meth:`Leak.to_dict` gives; missing where nothing leaks."""


@dataclass(frozen=True)
class Seen:
    """What training showed to a version.

    Attributes:
        photos: sample of the sha256 of all photos.
        groups: sample of the names of all products and styles.
        sides: rules by which products were set aside, one for each training that set some aside.
        without_sides: whether one of the trainings set none aside by a rule.
        unknown: names of versions of which nothing is recorded.
    """

    photos: Sketch = field(default_factory=Sketch)
    groups: Sketch = field(default_factory=Sketch)
    sides: tuple[Sides, ...] = ()
    without_sides: bool = False
    unknown: tuple[str, ...] = ()

    @classmethod
    def in_training(cls, sets: Sequence[Triplets], sides: Sides | None) -> Self:
        """What a training on these triplets shows.

        Args:
            sets: with their pictures.
            sides: the rule by which others were set aside; None where a validation set was given.
        """
        return cls(
            Sketch.of(picture.sha256 for triplets in sets for picture in triplets.pictures),
            Sketch.of(name for triplets in sets for name in _named(triplets.keys, triplets.group_names())),
            (sides,) if sides else (),
            sides is None,
        )

    @classmethod
    def of_products(cls, keys: str, groups: Collection[str]) -> Self:
        """What calibration shows, which learns from photos of one product that they are of one product.

        Args:
            keys: what the groups are named by.
            groups: names of the products or styles that it learned from.
        """
        return cls(groups=Sketch.of(_named(keys, groups)))

    def __or__(self, other: Seen) -> Seen:
        return Seen(
            self.photos | other.photos,
            self.groups | other.groups,
            tuple(dict.fromkeys(self.sides + other.sides)),
            self.without_sides or other.without_sides,
            tuple(dict.fromkeys(self.unknown + other.unknown)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, at most 6 KB but for the names."""
        return {
            "photos": self.photos.to_dict(),
            "groups": self.groups.to_dict(),
            "sides": [sides.to_dict() for sides in self.sides],
            "without_sides": self.without_sides,
            "unknown": list(self.unknown),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for anything else.
        """
        try:
            return cls(
                Sketch.from_dict(values["photos"]),
                Sketch.from_dict(values["groups"]),
                tuple(Sides.from_dict(each) for each in values["sides"]),
                bool(values["without_sides"]),
                tuple(str(name) for name in values["unknown"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("This is no record of what a version was trained on.") from error


def seen_by(version: ModelVersion) -> Seen:
    """What a stored version has seen.

    One that was calibrated on photos alone has seen nothing. One that was stored before there was a record, or by other
    means, is unknown.
    """
    metrics = version.metrics if isinstance(version.metrics, Mapping) else {}
    if SEEN in metrics:
        try:
            return Seen.from_dict(metrics[SEEN])
        except ValueError:
            return Seen(unknown=(version.name,))
    calibration = metrics.get("calibration")
    if "training" not in metrics and isinstance(calibration, Mapping) and not calibration.get("pairs"):
        return Seen()
    return Seen(unknown=(version.name,))


@dataclass(frozen=True)
class Leak:
    """Why figures of a version on some validation set can't be trusted; false where they can.

    Attributes:
        photos, groups: of those that are validated on: how many were trained on, and of how many that is known.
        other_origin: whether products may have been trained on, for another rule set others aside.
        unknown: names of versions in its line of which nothing is recorded.
    """

    photos: tuple[int, int] = (0, 0)
    groups: tuple[int, int] = (0, 0)
    other_origin: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether something that is validated on was trained on, beyond doubt."""
        return bool(self.photos[0] or self.groups[0])

    def __bool__(self) -> bool:
        return bool(self.is_certain or self.other_origin or self.unknown)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "is_certain": self.is_certain,
            "photos": list(self.photos),
            "groups": list(self.groups),
            "other_origin": self.other_origin,
            "unknown": list(self.unknown),
        }

    def about(self, name: str) -> str:
        """The leak in a sentence, of a version of that name."""
        if self.is_certain:
            what = " and ".join(
                f"{seen:,} of {known:,} {noun} that could be looked up"
                for (seen, known), noun in ((self.photos, "photos"), (self.groups, "products"))
                if seen
            )
            return (
                f"The comparison leaks: {name} was trained on what it is validated on here ({what}), so its figures "
                f"are too good."
            )
        if self.unknown:
            return (
                f"The comparison leaks, as far as anybody knows: it is not recorded what {' and '.join(self.unknown)} "
                f"was trained on, so {name} may know the photos that it is validated on here."
            )
        return (
            f"The comparison leaks: for {name} other products were set aside when it was trained, on a CSV or with "
            f"another share, so it may know products that it is validated on here."
        )


def leak_of(seen: Seen, photos: Collection[str], keys: str, groups: Collection[str], sides: Sides | None) -> Leak:
    """What spoils the figures of a version.

    Args:
        seen: by the version.
        photos: different sha256 of all photos that it is measured on.
        keys: what the groups are named by.
        groups: names of the groups that it is validated on.
        sides: the rule by which these were set aside; None where they were given.
    """
    other = sides is not None and (seen.without_sides or any(not sides.keep_apart(earlier) for earlier in seen.sides))
    return Leak(seen.photos.found(photos), seen.groups.found(_named(keys, groups)), other, seen.unknown)


def _named(keys: str, groups: Collection[str]) -> list[str]:
    """Names of groups as samples keep them; two shops or files may mean different things by one name."""
    return [f"{keys}: {name}" for name in groups]
