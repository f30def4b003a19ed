"""What an arm's driver shows, and what that means for whether the arm may be moved."""

from __future__ import annotations

from typing import NamedTuple

from hardware.arm.driver import GuardedDriver
from hardware.arm.state import Event, Failure, Observed, Passed, Unseen
from hardware.safety.anchor import Anchor
from hardware.safety.limits import CommandLimits
from hardware.safety.plausible_view import PlausibleView
from robot_rl.core.episode import Observation
from robot_rl.core.errors import StaleSensor
from robot_rl.core.specs import NS_PER_S, FloatArray


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
        standing: Time stands still between commands, so that one look is enough and nothing is doubted.
    """

    def __init__(self, driver: GuardedDriver, limits: CommandLimits, standing: bool) -> None:
        self._driver, self._limits = driver, limits
        self._anchor = None if standing else Anchor(limits)
        self._view = None if standing else PlausibleView(driver.spec)
        self._blind_since_ns: int | None = None
        self._seen = False

    @property
    def pose(self) -> FloatArray | None:
        """The command that keeps the arm where it is; None while that is not certain. Shape (A,)."""
        return None if self._anchor is None else self._anchor.pose

    @property
    def doubt(self) -> str:
        """Why it is not certain, in words."""
        return "" if self._anchor is None else self._anchor.problem

    @property
    def rejected(self) -> int:
        """Samples that no body can have reached."""
        return 0 if self._view is None else self._view.rejected

    def look(self, now_ns: int, robot_ns: int) -> Look:
        """What the driver shows now.

        Args:
            now_ns: Monotonic time [ns].
            robot_ns: Time on the robot's clock [ns].

        Raises:
            DriverFailed: The driver raised.
        """
        try:
            observation = self._believed(self._driver.observe(robot_ns))
        except StaleSensor as error:
            return Look(None, self._blind(str(error), now_ns))
        if self._view is not None and self._view.fault:
            return Look(None, Failure(self._view.fault))
        self._seen, self._blind_since_ns = True, None
        if self._anchor is None:
            return Look(observation, Observed())
        self._anchor.saw(observation)
        return Look(observation, Unseen(self._anchor.problem) if self._anchor.pose is None else Observed())

    def _believed(self, observation: Observation) -> Observation:
        return observation if self._view is None else self._view.seen(observation)

    def _blind(self, why: str, now_ns: int) -> Event:
        """While nothing is seen the arm may go anywhere: what was seen before is no place to begin."""
        if not self._seen:
            return Passed()
        self._blind_since_ns = now_ns if self._blind_since_ns is None else self._blind_since_ns
        blind_s = (now_ns - self._blind_since_ns) / NS_PER_S
        if blind_s > self._limits.fault_after_s:
            self._seen = False
            return Failure(f"nothing fresh from the driver for {blind_s:.2f} s: {why}")
        if self._anchor is None:
            return Passed()
        self._anchor.forget()
        return Unseen(why)

    def forget(self, looked_at: bool = False) -> None:
        """The arm may have been moved, by its driver or by a person: whatever was seen says nothing any more.

        Args:
            looked_at: A person has looked at it since.
        """
        self._blind_since_ns = None
        if self._anchor is not None:
            self._anchor.forget(looked_at)
        if self._view is not None:
            self._view.forget()
