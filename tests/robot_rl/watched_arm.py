"""An arm with the arm node's own watchdog, in a time that passes only where a test says so."""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware.arm.state import ArmRules, ArmState, Command, Enable, Event, Heartbeat, Observed, Passed, Reset, advance
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S
from tests.robot_rl.rollout_fakes import Slider, spec_at

HZ = 20.0
TICK_S = 1.0 / HZ
WATCHDOG_S = 0.1
"""As in every yaml of ours: two ticks."""


class SharedTime:
    """A clock for which sleeping is jumping and work takes as long as the test says; for the loop it is real time."""

    def __init__(self) -> None:
        self._now_ns = NS_PER_S

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._now_ns = max(self._now_ns, deadline_ns)

    def spend(self, seconds: float) -> None:
        self._now_ns += round(seconds * NS_PER_S)


class WatchedArm(Slider):
    """A slider behind the rules that an arm node keeps; latched, it refuses like `RosRobot`.

    Args:
        clock: Its time.
        given: See `Slider`.

    Attributes:
        commands_s: When each row came.
        gaps_s: Every time without a row while motion was allowed and rows had come.
    """

    simulated_time = False

    def __init__(self, clock: SharedTime, **given: Any) -> None:
        super().__init__(spec_at(HZ), **given)
        self.clock = clock
        self.rules = ArmRules(watchdog_s=WATCHDOG_S)
        self.state = ArmState()
        self.commands_s: list[float] = []
        self.gaps_s: list[float] = []
        self._last_s: float | None = None

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._tell(Observed())
        self._require(self._tell(Enable(True)))
        self._require(self._tell(Reset("test")))
        self._last_s = None

    def observe(self, tick_ns: int) -> Observation:
        self._tell(Heartbeat("test") if self.state.active else Passed())
        if self.state.mode != "inactive":
            self._require("" if self.state.active else self.state.reason)
        return super().observe(tick_ns)

    def apply(self, action: np.ndarray) -> np.ndarray:
        if self.state.mode == "inactive":
            self._require(self._tell(Enable(True)))
            self._tell(Heartbeat("test"))
        self._require(self._tell(Command("test")))
        now_s = self.clock.now_ns() / NS_PER_S
        if self._last_s is not None:
            self.gaps_s.append(now_s - self._last_s)
        self._last_s = now_s
        self.commands_s.append(now_s)
        return super().apply(action)

    def stop(self) -> None:
        super().stop()
        if self.state.active and self._last_s is not None:
            self.gaps_s.append(self.clock.now_ns() / NS_PER_S - self._last_s)
        self._last_s = None
        self._tell(Enable(False))

    def _tell(self, event: Event) -> str:
        self.state, refusal = advance(self.state, event, self.clock.now_ns() / NS_PER_S, self.rules)
        return refusal

    def _require(self, refusal: str) -> None:
        if refusal:
            raise RobotRLError(f"the arm refuses: {refusal}")
