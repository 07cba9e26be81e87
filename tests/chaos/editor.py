"""``python -m tests.chaos.editor``: does actions that come as lines of JSON, and answers each with a line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict


def main() -> None:
    import django

    django.setup()
    from tests.chaos.actions import attempt

    for line in sys.stdin:
        action, seed = json.loads(line)
        print(json.dumps(asdict(attempt(action, seed)), default=str), flush=True)


if __name__ == "__main__":
    main()
