"""What an arm's driver shows, and what that means for whether the arm may be moved."""

from __future__ import annotations

from typing import NamedTuple

from hardware.arm.anchor import Anchor
from hardware.arm_state import Event, Failure, Observed, Passed, Unseen
from hardware.limits import CommandLimits
from hardware.ros.arm_driver import GuardedDriver
from robot_rl.types import NS_PER_S, Observation


class Look(NamedTuple):
    """One look at the arm.

    Attributes:
        observation: None if something is stale.
        event: What the look says of the arm.
    """

    observation: Observation | None
    event: Event


class Sight:
    """Looks at an arm, and knows whether it was seen well enough to be moved.

    Args:
        driver: Of the arm.
        limits: Of its commands.
        anchor: Where the arm is; None where time stands still between commands, so that one look is enough.
    """

    def __init__(self, driver: GuardedDriver, limits: CommandLimits, anchor: Anchor | None) -> None:
        self._driver, self._limits, self._anchor = driver, limits, anchor
        self._blind_since_ns: int | None = None
        self.seen = False

    def look(self, now_ns: int, robot_ns: int) -> Look:
        """What the driver shows now.

        Args:
            now_ns: Monotonic time [ns].
            robot_ns: Time on the robot's clock [ns].

        Raises:
            DriverFailed: The driver raised.
        """
        observation = self._driver.observe(robot_ns)
        if observation is None:
            return Look(None, self._blind(now_ns))
        self.seen, self._blind_since_ns = True, None
        if self._anchor is None:
            return Look(observation, Observed())
        self._anchor.saw(observation)
        return Look(observation, Unseen(self._anchor.problem) if self._anchor.pose is None else Observed())

    def _blind(self, now_ns: int) -> Event:
        """While nothing is seen the arm may go anywhere: what was seen before is no place to begin."""
        if not self.seen:
            return Passed()
        self._blind_since_ns = now_ns if self._blind_since_ns is None else self._blind_since_ns
        blind_s = (now_ns - self._blind_since_ns) / NS_PER_S
        if blind_s > self._limits.fault_after_s:
            self.seen = False
            return Failure(f"nothing fresh from the driver for {blind_s:.2f} s: {self._driver.stale}")
        if self._anchor is None:
            return Passed()
        self._anchor.forget()
        return Unseen(self._driver.stale)

    def forgive(self) -> None:
        """Counts blindness anew."""
        self._blind_since_ns = None
