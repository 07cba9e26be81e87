"""Log records as JSON, one object a line: time, level, logger, message, and the fields that were logged with it.

The plugin's records about a photo have ``product``, ``photo`` and ``version``; none has anything about a person.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_PLAIN = (str, int, float, bool, type(None))


class JsonFormatter(logging.Formatter):
    """For ``LOGGING["formatters"]``: ``{"json": {"()": "shop_similarity.monitoring.logs.JsonFormatter"}}``.

    Of the fields those are written that are texts, numbers, truth values or nothing: Django logs the whole request with
    an error, which names the visitor.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {name: value for name, value in vars(record).items() if name not in _OWN and name not in line}
        line |= {name: value for name, value in fields.items() if isinstance(value, _PLAIN)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Names of files need not be text, and half a surrogate can't be written; JSON has it escaped.
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
