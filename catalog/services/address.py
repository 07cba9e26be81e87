"""The record of where an embedded server listens and where its data lies, read by the shop's settings."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from .password import write_private


@dataclass(frozen=True)
class Address:
    """Port on 127.0.0.1 (None before the first start) and the data folder, if it is not below the given one."""

    port: int | None = None
    data: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The recorded address; an unreadable or missing record is an empty one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(port=values.get("port"), data=values.get("data"))
        except (FileNotFoundError, ValueError, AttributeError):
            return cls()

    def write(self, path: Path, **changes: object) -> Self:
        """Record this address with `changes` and return it."""
        address = replace(self, **changes)
        write_private(path, json.dumps(asdict(address)) + "\n")
        return address
