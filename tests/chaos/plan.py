"""What happens in a history: actions of the shop and faults beside them, drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

# What the shop does, and how often.
ACTIONS = {
    "create": 18,
    "bulk_create": 5,
    "replace": 18,
    "replace_silently": 3,
    "move": 5,
    "delete_photo": 8,
    "delete_product": 2,
    "damage": 3,
    "roll_back_edit": 7,
    "edit_together": 9,
    "click": 8,
    "search_by_photo": 6,
    "wish": 4,
    "activate": 3,
    "go_back": 4,
    "go_back_and_wish": 2,
    "retire": 2,
}

# What goes wrong, and how often.
FAULTS = {
    "kill_worker": 9,
    "kill_postgres": 3,
    "kill_backend": 3,
    "kill_valkey": 3,
    "freeze_worker": 5,
    "stop_postgres": 3,
    "stop_valkey": 3,
    "slow_postgres": 3,
    "slow_valkey": 2,
    "storage": 4,
    "disk": 2,
}

# A fault comes with about every so many actions.
_ACTIONS_PER_FAULT = 5


@dataclass(frozen=True)
class Step:
    """One action and the fault that comes with it.

    Attributes:
        action: one of ACTIONS.
        seed: of the action's own choices: which product, which photo, which bytes.
        fault: one of FAULTS, or none.
        delay: seconds from the action's begin to the fault.
        target: which of the workers the fault is for.
        pause: seconds after the action.
    """

    action: str
    seed: int
    fault: str | None
    delay: float
    target: int
    pause: float


def draw(seed: int, actions: int) -> list[Step]:
    """The history of a seed: always the same one."""
    dice = random.Random(seed)

    def one(weights: dict[str, int]) -> str:
        return dice.choices(list(weights), list(weights.values()))[0]

    steps = []
    for number in range(actions):
        fault = one(FAULTS) if number and dice.random() < 1 / _ACTIONS_PER_FAULT else None
        action = "create" if number < 3 else one(ACTIONS)
        steps.append(
            Step(action, dice.randrange(2**31), fault, dice.uniform(0, 0.3), dice.randrange(2), dice.uniform(0, 0.3))
        )
    return steps
