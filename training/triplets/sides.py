"""On which side of the split into training and validation a product stands, once and for all.

The side follows from the product's own key and nothing else: products may come and go, and none of them ever changes
its side. So a version that was trained in spring can be judged in autumn by products that it has not seen. The rule is
the usual one of stable splits, a hash against a threshold; a larger share keeps all that a smaller one sets aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

VALIDATION_SHARE = 0.1
"""Share of the products that training sets aside."""

LARGEST_SHARE = 0.5
RULE = "blake2b-64"
SALT = "shop-similarity sides 1"
"""Whoever changes it, or the rule, gives every product a new side, and all earlier versions have seen the answers."""

TABLE = "table"
"""What :attr:`Sides.keys` is where the keys are names of groups in a CSV of triplets."""

Side = Literal["training", "validation"]
TRAINING: Side = "training"
VALIDATION: Side = "validation"


def side_of(key: str, share: float = VALIDATION_SHARE) -> Side:
    """The side of a product.

    Args:
        key: of the product or, where it has one, of its group of variants, as
            :func:`shop_similarity.training.triplets.product_groups.group_names` writes it; in a CSV of triplets the
            name of the group.
        share: of all products that are validated on, above 0 and below 1.

    Raises:
        ValueError: for another share.
    """
    _check(share)
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=SALT.encode()).digest()
    return VALIDATION if int.from_bytes(digest, "big") < share * 2**64 else TRAINING


@dataclass(frozen=True)
class Sides:
    """The rule by which a run was split, as the run and the stored version record it.

    Attributes:
        share: of all keys that are validated on.
        keys: what the keys are: :data:`TABLE`, or the shop's products and groups of variants, as
            :func:`shop_similarity.training.triplets.product_groups.keys_of_the_shop` names them.
        rule, salt: of :func:`side_of`.
    """

    share: float = VALIDATION_SHARE
    keys: str = TABLE
    rule: str = RULE
    salt: str = SALT

    def keep_apart(self, earlier: Sides) -> bool:
        """Whether no product that this run validates on was trained on by a run with the ``earlier`` sides."""
        same = (self.keys, self.rule, self.salt) == (earlier.keys, earlier.rule, earlier.salt)
        return same and self.share <= earlier.share

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for anything else.
        """
        try:
            return cls(float(values["share"]), *(str(values[name]) for name in ("keys", "rule", "salt")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{values!r} is no record of a split.") from error


def shares(share: float) -> list[float]:
    """The share, and larger ones for a shop so small that nothing falls to it.

    Raises:
        ValueError: for a share that is not above 0 and below 1.
    """
    _check(share)
    steps = [share]
    while steps[-1] < LARGEST_SHARE:
        steps.append(min(2 * steps[-1], LARGEST_SHARE))
    return steps


def _check(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"The share for validation must be between 0 and 1, not {share!r}.")
