"""What a training and a validation set share, so that validation would measure what was learned by heart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shop_similarity.training.triplets.exploration import Exploration, Products
from shop_similarity.training.triplets.photo_hashes import same_pictures
from shop_similarity.training.triplets.table import EXAMPLES, Triplets


@dataclass(frozen=True)
class Leakage:
    """Photos that stand on both sides; false where there are none.

    Attributes:
        same_file: (train, validation) names of one file.
        same_bytes: (train, validation) names of two files with the same bytes.
        same_group: names of groups that stand on both sides.
        validation_triplets: triplets of the validation set that one of these photos is in.
    """

    same_file: tuple[tuple[str, str], ...] = ()
    same_bytes: tuple[tuple[str, str], ...] = ()
    same_group: tuple[str, ...] = ()
    validation_triplets: int = 0
    _total: int = field(default=0, repr=False)

    def __bool__(self) -> bool:
        return bool(self.same_file or self.same_bytes or self.same_group)

    def to_dict(self) -> dict[str, int]:
        return {
            "same_file": len(self.same_file),
            "same_bytes": len(self.same_bytes),
            "same_group": len(self.same_group),
            "validation_triplets": self.validation_triplets,
        }

    def __str__(self) -> str:
        if not self:
            return "No photo stands in both the training and the validation set."
        lines = [
            f"The validation set is not independent of the training set: its figures will be too good. Photos that "
            f"are in both are in {self.validation_triplets:,} of {self._total:,} validation triplets."
        ]
        for what, pairs in (("the same file", self.same_file), ("the same bytes under two names", self.same_bytes)):
            if pairs:
                shown = ", ".join(
                    f"“{one}”" if one == other else f"“{one}” = “{other}”" for one, other in pairs[:EXAMPLES]
                )
                lines.append(f"- {len(pairs):,} x {what}: {shown}{', ...' if len(pairs) > EXAMPLES else ''}.")
        if self.same_group:
            shown = ", ".join(f"“{name}”" for name in self.same_group[:EXAMPLES])
            more = ", ..." if len(self.same_group) > EXAMPLES else ""
            lines.append(f"- {len(self.same_group):,} x the same group: {shown}{more}.")
        lines.append("Take these photos out of one of the two files.")
        return "\n".join(lines)


def check_leakage(
    train: Triplets, validation: Triplets, train_sha256: Sequence[str], validation_sha256: Sequence[str]
) -> Leakage:
    """Look for photos and groups that stand in both sets: by path, by bytes, and by group where the files name them.

    Args:
        train, validation: the sets.
        train_sha256, validation_sha256: of their photos' bytes, in the order of their ``images``.
    """
    files = {os.path.realpath(path): name for path, name in zip(train.paths(), train.images, strict=True)}
    contents = dict(zip(train_sha256, train.images, strict=True))
    same_file, same_bytes = [], []
    leaked = np.zeros(len(validation.images), dtype=bool)
    photos = zip(validation.paths(), validation.images, validation_sha256, strict=True)
    for place, (path, name, digest) in enumerate(photos):
        real = os.path.realpath(path)
        if real in files:
            same_file.append((files[real], name))
        elif digest in contents:
            same_bytes.append((contents[digest], name))
        else:
            continue
        leaked[place] = True
    memberships, names = validation.memberships
    same_group = tuple(sorted(set(train.group_names()) & set(validation.group_names())))
    shared = np.isin(names, same_group)
    leaked[memberships[shared[memberships[:, 1]], 0]] = True
    in_rows = leaked[validation.rows].any(axis=1)
    return Leakage(tuple(same_file), tuple(same_bytes), same_group, int(in_rows.sum()), len(validation))


@dataclass(frozen=True, eq=False)
class Overlap:
    """What a training and a validation set share.

    Attributes:
        leakage: equal files, equal bytes and equal groups, as
            :func:`check_leakage` finds them.
        near: (train, validation) names of photos that show the same picture in different bytes.
        product_groups: groups of the products' file on both sides.
        near_triplets: triplets of the validation set that one of the near photos is in.
    """

    leakage: Leakage
    near: tuple[tuple[str, str], ...]
    product_groups: tuple[str, ...]
    near_triplets: int

    def __bool__(self) -> bool:
        return bool(self.leakage or self.near or self.product_groups)

    def to_dict(self) -> dict[str, int]:
        return self.leakage.to_dict() | {
            "near_duplicates": len(self.near),
            "product_groups": len(self.product_groups),
            "near_triplets": self.near_triplets,
        }

    def lines(self) -> list[str]:
        """What leaks, in sentences."""
        sentences = str(self.leakage).splitlines() if self.leakage or not self else []
        if self.near:
            shown = ", ".join(f"“{one}” ~ “{other}”" for one, other in self.near[:EXAMPLES])
            more = ", ..." if len(self.near) > EXAMPLES else ""
            sentences.append(
                f"{len(self.near):,} pairs of photos show the same picture in different bytes (or nearly so), in "
                f"{self.near_triplets:,} validation triplets: {shown}{more}."
            )
        if self.product_groups:
            shown = ", ".join(f"“{name}”" for name in self.product_groups[:EXAMPLES])
            more = ", ..." if len(self.product_groups) > EXAMPLES else ""
            sentences.append(f"{len(self.product_groups):,} groups of products are on both sides: {shown}{more}.")
        return sentences


def overlap(train: Triplets, validation: Triplets, products: Products | None = None) -> Overlap:
    """What two sets share: files, bytes, pictures, groups.

    Args:
        train, validation: with their pictures.
        products: groups of the photos, where another file than the triplets' tells them.
    """
    digests, others = ([picture.sha256 for picture in side.pictures] for side in (train, validation))
    leakage = check_leakage(train, validation, digests, others)
    known = set(digests)
    new = np.array([place for place, digest in enumerate(others) if digest not in known], dtype=np.intp)
    pairs = same_pictures(train.pictures, [validation.pictures[place] for place in new.tolist()])
    pairs[:, 1] = new[pairs[:, 1]]
    near = tuple((train.images[one], validation.images[other]) for one, other in pairs.tolist())
    leaked = np.zeros(len(validation.images), dtype=bool)
    leaked[pairs[:, 1]] = True
    groups: tuple[str, ...] = ()
    if products and products.group:
        sides = [{products.group.get(image) for image in side.images} for side in (train, validation)]
        groups = tuple(sorted(name for name in sides[0] & sides[1] if name))
    return Overlap(leakage, near, groups, int(leaked[validation.rows].any(axis=1).sum()))


def usable(exploration: Exploration) -> Triplets:
    """The triplets whose three photos can be read, with their pictures."""
    readable = exploration.readable()
    triplets = exploration.triplets.select(readable[exploration.triplets.rows].all(axis=1))
    pictures = {
        image: photo.picture
        for image, photo in zip(exploration.triplets.images, exploration.photos, strict=True)
        if photo.picture
    }
    return replace(triplets, pictures=tuple(pictures[image] for image in triplets.images))
