"""What a newcomer writes who follows the README's "Add a robot": an arm with the `Robot` protocol and nothing else.

The tests copy this file out of the repository. The arm moves by the machine's time, whoever looks, and remembers when
it was told what, so that nobody else's word is needed for how fast it was driven.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from robot_rl.core.episode import Observation, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.core.specs import ActionKind, ArraySpec, FloatArray, RobotSpec


class Told(NamedTuple):
    """A command as it came: when [s], how many times the arm had been stopped before, and where the arm was."""

    at_s: float
    stops: int
    command: FloatArray
    position: FloatArray


TOLD: list[Told] = []
"""Of every arm of this process."""


class MyArm:
    """Two joints. Like many a driver it takes whatever its yaml says.

    Args:
        settings: `control_hz`, and `lag_s` of its joints.
    """

    def __init__(self, **settings: Any) -> None:
        self.spec = RobotSpec(
            name="my_arm",
            observations={"joint_position": ArraySpec((2,), "float32", "rad")},
            action=ArraySpec((2,), "float32", "rad", low=-3.0, high=3.0, names=("shoulder", "elbow")),
            action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
            control_hz=settings["control_hz"],
        )
        self._lag_s = settings["lag_s"]
        self._start = self._target = np.zeros(2)
        self._since_s = time.monotonic()
        self._stops = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self, seed: int) -> None:
        """It stays where it is."""

    def position(self, at_s: float) -> FloatArray:
        left = math.exp(-(at_s - self._since_s) / self._lag_s)
        position: FloatArray = self._target + left * (self._start - self._target)
        return position

    def observe(self, tick_ns: int) -> Observation:
        position = self.position(time.monotonic()).astype(np.float32)
        return Observation(tick_ns, {"joint_position": position}, {"joint_position": 0})

    def apply(self, action: FloatArray) -> FloatArray:
        problem = self.spec.action.problem_with(action)
        if problem:
            raise RobotRLError(f"my arm cannot do this: {problem}")
        low, high = self.spec.action.bounds()
        now_s = time.monotonic()
        self._start, self._since_s = self.position(now_s), now_s
        applied: FloatArray = np.clip(action, low, high).astype(np.float32)
        self._target = applied.astype(np.float64)
        TOLD.append(Told(now_s, self._stops, self._target, self._start))
        return applied

    def stop(self) -> None:
        now_s = time.monotonic()
        self._start = self._target = self.position(now_s)
        self._since_s = now_s
        self._stops += 1


class Hand:
    """Asks for far more than the arm may do, to and fro, and calls every other episode a success.

    Args:
        first: Poll at which it takes over.
        last: Poll at which it lets go.
        end: Poll at which it ends the episode.
    """

    name = "my_hand"

    def __init__(self, first: int, last: int, end: int) -> None:
        self._first, self._last, self._end = first, last, end
        self._polls, self._episode = 0, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def reset(self, seed: int) -> None:
        self._polls, self._episode = 0, self._episode + 1

    def poll(self, observation: Observation) -> OperatorCommand:
        poll, self._polls = self._polls, self._polls + 1
        if poll == self._end:
            return OperatorCommand(
                event=OperatorEvent.END, outcome=[Outcome.SUCCESS, Outcome.FAILURE][self._episode % 2]
            )
        if not self._first <= poll < self._last:
            return OperatorCommand()
        side = 2.0 if poll // 8 % 2 else -2.0
        return OperatorCommand(action=np.array([side, -side], np.float32))
