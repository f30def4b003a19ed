"""Joints under a position servo: how an arm follows what it is told, in its own time.

A first-order servo closes the gap to its target like a lag; a second-order one is critically damped and lags a moving
target by the same time. Either is never faster than its speed limit, and a joint at rest sticks until the gap is wide
enough to tear it loose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import RobotRLError

Array = npt.NDArray[np.float64]
STILL = 1e-3
"""A joint slower than this sticks [unit/s]."""


@dataclass(frozen=True)
class ServoSettings:
    """How a servo follows.

    Attributes:
        lag_s: How far it is behind a target that moves evenly [s].
        order: 1 or 2.
        stiction: Gap that a joint at rest does not close [unit].

    Raises:
        RobotRLError: A value makes no sense.
    """

    lag_s: float = 0.05
    order: int = 1
    stiction: float = 0.0

    def __post_init__(self) -> None:
        """Rejects what no servo is."""
        if not 0.0 < self.lag_s < math.inf:
            raise RobotRLError(f"servo lag_s is {self.lag_s}, wanted a positive time, for example 0.05")
        if self.order not in (1, 2):
            raise RobotRLError(f"servo order is {self.order}, wanted 1 or 2")
        if not 0.0 <= self.stiction < math.inf:
            raise RobotRLError(f"servo stiction is {self.stiction}, wanted a gap of at least 0, for example 0.002")


class Servo:
    """Joints of one arm; whoever owns it steps it at 1 kHz or faster.

    Args:
        settings: How it follows.
        place: Where the joints are, at rest. Shape (A,).
        max_speed: Of each joint [unit/s]. Shape (A,).

    Attributes:
        place: Where they are now. Shape (A,).
        velocity: At which they move. Shape (A,).
    """

    def __init__(self, settings: ServoSettings, place: Array, max_speed: Array) -> None:
        self.place, self.velocity = place.copy(), np.zeros(len(place))
        self._settings, self._max_speed = settings, max_speed

    def step(self, target: Array, elapsed_s: float, scale: float = 1.0) -> None:
        """Moves on.

        Args:
            target: What it is told. Shape (A,).
            elapsed_s: For how long [s].
            scale: Share of its pace, as a speed slider sets it; 0 stops it dead.
        """
        if scale <= 0.0:
            self.velocity[:] = 0.0
            return
        gap = target - self.place
        velocity = np.clip(self._wanted(gap, elapsed_s * scale), -self._max_speed, self._max_speed)
        stuck = (abs(self.velocity) < STILL) & (abs(gap) <= self._settings.stiction)
        self.velocity = np.where(stuck, 0.0, velocity)
        self.place = self.place + self.velocity * (elapsed_s * scale)

    def _wanted(self, gap: Array, elapsed_s: float) -> Array:
        if self._settings.order == 1:
            return gap / self._settings.lag_s
        pace = 2.0 / self._settings.lag_s
        return self.velocity + (pace * pace * gap - 2.0 * pace * self.velocity) * elapsed_s
