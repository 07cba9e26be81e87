"""Values as they stand in addresses and forms, read as strictly as the schema describes them.

REST framework's own fields also take ``yes`` for true, ``1_000`` for a number and the digits of other scripts, which no
other program expects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ..request_text import is_usable

_INTEGER = re.compile(r"[+-]?\d{1,18}(\.0+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,330})?([eE][+-]?\d{1,3})?", re.ASCII)
_CROP_EDGE = r"(0(\.\d{1,9})?|1(\.0{1,9})?)"


def choice_schema(values: Sequence[str]) -> dict[str, Any]:
    """The schema of a choice, for a field class that gives it a component name.

    Otherwise it would be named after the field, and the shop may have other fields with the name ``state``.
    """
    return {"type": "string", "enum": list(values)}


class BodySerializer(serializers.Serializer):
    """A JSON object, or one within it. What it does not name is ignored, whatever it is."""

    default_error_messages = {"unusable": _("The value has characters that no text has.")}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values = data if isinstance(data, Mapping) else {}
        names: Iterable[str] = self.fields.keys()
        sent = {name: values[name] for name in names if isinstance(values.get(name), str)}
        if wrong := [name for name, text in sent.items() if not is_usable(text, most=math.inf)]:
            raise serializers.ValidationError({name: [self.error_messages["unusable"]] for name in wrong})
        return super().to_internal_value(data)


class IntegerField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and not _INTEGER.fullmatch(data):
            self.fail("invalid")
        return super().to_internal_value(data)


class NumberField(serializers.FloatField):
    """A finite number, read as a decimal, so that prices are exact."""

    def to_internal_value(self, data: Any) -> Decimal:  # type: ignore[override]  # exact, where REST framework rounds
        if not _NUMBER.fullmatch(str(data)):
            self.fail("invalid")
        return Decimal(str(data))


class BooleanField(serializers.BooleanField):
    """``true`` or ``false``, in an address or a form as text."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, str) or data not in ("true", "false"):
            self.fail("invalid", input=str(data)[:40])
        return data == "true"


class JSONBooleanField(serializers.BooleanField):
    """A JSON boolean."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=str(data)[:40])
        return data


class TextField(serializers.RegexField):
    """Text of one line, at least one character, none of them a control character."""

    default_error_messages = {"invalid": _("Write one line of text without control characters.")}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 200)
        super().__init__(r"^[^\x00-\x1f\x7f]+$", min_length=1, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        # REST framework would also take numbers.
        if not isinstance(data, str) or data.endswith("\n"):
            self.fail("invalid")
        return super().to_internal_value(data)


class KeyField(TextField):
    """The key of a product, also in the form that addresses have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=2_000, **kwargs)


class CropField(serializers.RegexField):
    """``left,top,right,bottom`` as parts of 1."""

    default_error_messages = {"invalid": _("Write four numbers from 0 to 1, as in 0.1,0.2,0.9,0.8.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(f"^{_CROP_EDGE}(,{_CROP_EDGE}){{3}}$", **kwargs)


def crop_edges(text: str | None) -> tuple[float, ...] | None:
    """The edges that a :class:`CropField` gave as text."""
    return None if text is None else tuple(float(edge) for edge in text.split(","))


# REST framework's schema would describe the address that a stored file has, whatever the shop has set.
@extend_schema_field({"type": "string", "format": "binary", "minLength": 1})
class PhotoField(serializers.FileField):
    """An upload."""
