"""Plays a stored episode back."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorCommand, OperatorEvent


class ReplayOperator:
    """Asks for the actions of a stored episode, one per tick, whatever it sees, then ends the episode.

    With a simulated robot, the stored episode's seed and the same limits, the replay equals the original.

    Args:
        requested: What was asked for at every tick. Shape (T, A).
        outcome: Label to give at the end; None leaves it to the judge.

    Raises:
        RobotRLError: No actions, or not two dimensions.
    """

    drives_always = True
    """Beside a policy it would never let the policy drive."""

    name = "replay"

    def __init__(self, requested: npt.ArrayLike, outcome: Outcome | None = None) -> None:
        self._requested = np.array(requested)
        if self._requested.ndim != 2 or len(self._requested) == 0:
            raise RobotRLError(f"replay needs actions of shape (ticks, action size), got {self._requested.shape}")
        self._outcome = outcome
        self._tick = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __len__(self) -> int:
        """Number of ticks it plays."""
        return len(self._requested)

    def reset(self, seed: int) -> None:
        """Rewinds; the seed is the robot's business."""
        self._tick = 0

    def poll(self, observation: Observation) -> OperatorCommand:
        """The next stored action, and after the last one the end."""
        if self._tick >= len(self._requested):
            return OperatorCommand(event=OperatorEvent.END, outcome=self._outcome)
        action = self._requested[self._tick].copy()
        self._tick += 1
        return OperatorCommand(action=action)
