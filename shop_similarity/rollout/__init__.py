"""How another model version takes over: comparison, coverage, switch, way back and what is left behind."""

from ..embedding.coverage import Coverage, Gap, coverage, gap
from .activation import (
    NotBetter,
    NotReady,
    RolloutError,
    WrongState,
    activate,
    advance,
    delete,
    is_wanted,
    request_activation,
    retire,
    roll_back,
)
from .gate import Verdict, beats, judge

__all__ = [
    "Coverage",
    "Gap",
    "NotBetter",
    "NotReady",
    "RolloutError",
    "Verdict",
    "WrongState",
    "activate",
    "advance",
    "beats",
    "coverage",
    "delete",
    "gap",
    "is_wanted",
    "judge",
    "request_activation",
    "retire",
    "roll_back",
]
