"""The beginning of an episode: from the driver's own reset until samples agree on where it left the arm."""

from __future__ import annotations

import threading

from hardware.arm.driver import DriverFailed, GuardedDriver
from hardware.arm.sight import Sight
from robot_rl.core.specs import NS_PER_S

QUICK_S = 0.005
"""Most drivers have nothing to do in a reset, which is then over at once."""
PATIENCE_S = 5.0
"""How long samples may take to agree after it."""


class Beginning:
    """A driver's reset in a thread of its own, so that a stop is heard while it drives its arm home.

    Args:
        driver: Not used by anybody else while `running`, but for its `stop`.
        sight: Of the arm; told to forget what it saw before.
        seed: Of the episode.
    """

    def __init__(self, driver: GuardedDriver, sight: Sight, seed: int) -> None:
        self.seed = seed
        self._driver, self._sight = driver, sight
        self._failure: DriverFailed | None = None
        self._abandoned = False
        self._until_ns: int | None = None
        self._thread = threading.Thread(target=self._run, name="reset", daemon=True)
        self._thread.start()
        self._thread.join(QUICK_S)

    @property
    def running(self) -> bool:
        """Whether the driver is still at it."""
        return self._thread.is_alive()

    @property
    def abandoned(self) -> bool:
        """Whether motion was taken away before it was over."""
        return self._abandoned

    def abandon(self) -> None:
        """Makes a driver that still moves its arm stop there.

        Raises:
            DriverFailed: It could not be told.
        """
        self._abandoned = True
        if self.running:
            self._driver.stop()

    def over(self, now_ns: int) -> bool:
        """Whether the episode can begin.

        Args:
            now_ns: Monotonic time [ns].

        Raises:
            DriverFailed: The reset failed, or nobody knows where it left the arm.
        """
        if self.running:
            return False
        if self._until_ns is None:
            self._sight.forget()
            self._until_ns = now_ns + round(PATIENCE_S * NS_PER_S)
        if self._failure is not None and not self._abandoned:
            raise self._failure
        if now_ns > self._until_ns and self._sight.pose is None:
            raise DriverFailed(f"after the reset nobody knows where the arm is: {self._sight.doubt}")
        return self._sight.pose is not None

    def _run(self) -> None:
        try:
            self._driver.reset(self.seed)
        except DriverFailed as failure:
            self._failure = failure
