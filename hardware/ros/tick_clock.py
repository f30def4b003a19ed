"""From the control loop's ticks to the robot's clock.

Ticks are durations apart on the monotonic clock, which never jumps; samples are stamped on the robot's clock, which a
time service may set. The offset between them is held still, so that a sample seen by two ticks has one capture time;
it follows the clocks' slow drift in steps, and a jump is an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

JUMP_NS = NS_PER_S // 5
"""A change of the offset that no drift explains."""
DRIFT_NS = 2_000_000
"""How far the clocks may drift apart before the offset is taken anew."""
FAR_NS = 5 * NS_PER_S
"""A tick further than this from a clock's present is not on that clock."""


class NotRealTime(RobotRLError):
    """The caller's ticks are in simulated time, but this robot lives in real time."""


class TickClock:
    """Translates ticks, told on the monotonic clock or on the robot's own.

    Args:
        robot_now_ns: The robot's clock [ns].
        monotonic_ns: The machine's monotonic clock [ns].

    Attributes:
        jumps: How often the robot's clock jumped.
    """

    def __init__(self, robot_now_ns: Callable[[], int], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.jumps = 0
        self._robot_now_ns = robot_now_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns: int | None = None
        self._on_robot_clock = False

    def restart(self) -> None:
        """Forgets whose clock the ticks are on and its offset: a new episode."""
        self._offset_ns = None
        self._on_robot_clock = False

    def robot_ns(self, tick_ns: int) -> tuple[int, bool]:
        """A tick on the robot's clock [ns], and whether that clock has jumped since the last call.

        Raises:
            NotRealTime: The tick is on neither clock.
        """
        monotonic_ns, robot_ns = self._monotonic_ns(), self._robot_now_ns()
        offset_ns = robot_ns - monotonic_ns
        if self._offset_ns is None:
            self._on_robot_clock = abs(tick_ns - monotonic_ns) > FAR_NS
            if self._on_robot_clock and abs(tick_ns - robot_ns) > FAR_NS:
                tick_s, robot_s = tick_ns / NS_PER_S, robot_ns / NS_PER_S
                raise NotRealTime(
                    f"the tick is at {tick_s:.1f} s, the robot's clock at {robot_s:.1f} s: this robot lives in real "
                    "time and cannot be driven in simulated time (realtime=true)"
                )
            self._offset_ns = offset_ns
        change_ns = abs(offset_ns - self._offset_ns)
        jumped = change_ns > JUMP_NS
        if jumped:
            self.jumps += 1
        if change_ns > DRIFT_NS:
            self._offset_ns = offset_ns
        return (tick_ns if self._on_robot_clock else tick_ns + self._offset_ns), jumped
