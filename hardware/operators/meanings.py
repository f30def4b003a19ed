"""What an operator can ask for besides moving, and the keys that ask for it on every robot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorEvent


class Meaning(NamedTuple):
    """What a key or button stands for.

    Attributes:
        event: See `OperatorEvent`.
        outcome: The label that comes with it.
        guarded: A letter beside the motion keys, which a finger may hit by mistake.
    """

    event: OperatorEvent
    outcome: Outcome | None = None
    guarded: bool = False


KEYS: Mapping[str, Meaning] = {
    "right": Meaning(OperatorEvent.END),
    "n": Meaning(OperatorEvent.END, guarded=True),
    "left": Meaning(OperatorEvent.REDO),
    "r": Meaning(OperatorEvent.REDO, guarded=True),
    "esc": Meaning(OperatorEvent.STOP),
    "q": Meaning(OperatorEvent.STOP),
    "space": Meaning(OperatorEvent.PAUSE),
    "y": Meaning(OperatorEvent.NONE, Outcome.SUCCESS),
    "x": Meaning(OperatorEvent.NONE, Outcome.FAILURE),
    "Y": Meaning(OperatorEvent.END, Outcome.SUCCESS),
    "X": Meaning(OperatorEvent.END, Outcome.FAILURE),
}
"""Keys that mean the same on every robot and beside every device."""

TAKE_OVER_KEY = "tab"
SHORT_LEGEND = "Esc stop  Left redo  Right end  Y/X success/failure  Space pause"


def while_lost(events: Iterable[Meaning], moves: bool) -> deque[Meaning]:
    """What is left of the events while an operator's device is lost: nothing goes on, and what moves is paused first.

    Args:
        events: In order.
        moves: The operator or the policy drives, and is not paused.
    """
    left = deque(each for each in events if each.event is not OperatorEvent.PAUSE)
    if moves:
        left.appendleft(Meaning(OperatorEvent.PAUSE))
    return left
