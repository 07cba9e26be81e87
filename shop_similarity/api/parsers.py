"""Bodies of requests, bounded: what is too large is refused by its announced length, before a byte of it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, MultiPartParser

from ..conf import get_settings
from ..visual_search.uploads import limit_upload, most_bytes_of_body
from .problems import TooLarge

MAX_JSON_BYTES = 64 * 2**10


class JSONParser(BaseParser):
    """A JSON body of at most 64 KiB; refuses NaN and infinities, which are no JSON."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping | None = None) -> Any:
        assert parser_context is not None
        _check_length(parser_context, MAX_JSON_BYTES)
        # A server that passes on a body in chunks announces no length.
        body = stream.read(MAX_JSON_BYTES + 1)
        if len(body) > MAX_JSON_BYTES:
            raise _too_large(MAX_JSON_BYTES)
        try:
            return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ParseError(_("The body is not valid JSON: %(error)s") % {"error": error}) from error


class PhotoParser(MultiPartParser):
    """A multipart body with one photo, which stays in memory: no temporary file is left by a process that is killed."""

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping | None = None) -> Any:
        most = most_bytes_of_body(get_settings().visual_search_max_bytes)
        assert parser_context is not None
        _check_length(parser_context, most)
        # The photo alone is measured by the view, which says how large it may be.
        limit_upload(parser_context["request"]._request, most)
        return super().parse(stream, media_type, parser_context)


def _check_length(parser_context: Mapping, most: int) -> None:
    announced = parser_context["request"].META.get("CONTENT_LENGTH") or "0"
    if not announced.isdecimal():
        raise ParseError(_("Content-Length is not a number."))
    if int(announced) > most:
        raise _too_large(most)


def _too_large(most: int) -> TooLarge:
    return TooLarge(_("The body of the request is larger than %(most)d bytes.") % {"most": most})


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
