"""Options that are kept as plain JSON values: in a model version, in the folder of a run, in the name of a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self


class PlainValues:
    """A frozen dataclass that is written to and read from plain JSON values.

    Attributes:
        kind: what one of its fields is called, for people.
    """

    kind: ClassVar[str]

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote; missing keys take their defaults.

        Raises:
            ValueError: for an unknown key or a wrong value: guessing would give silently wrong embeddings.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown {cls.kind}: {', '.join(unknown)}.")
        return cls(**values)
