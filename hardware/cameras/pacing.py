"""When a camera without a sensor takes its next picture."""

from __future__ import annotations

from robot_rl.core.clock import Grid
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

LONGEST_GAP_S = 2.0
"""A reader who is later than this slept, or its clock was set: the grid moves on instead of skipping frames."""


class FramePacer:
    """Capture times on a `Grid` of a clock, as a sensor has them: who reads late gets the newest, not all.

    Args:
        clock: Time; the grid is laid at the first frame.
        fps: Frames per second.

    Raises:
        RobotRLError: `fps` is not positive.
    """

    def __init__(self, clock: Clock, fps: float) -> None:
        if not 0 < fps < float("inf"):
            raise RobotRLError(f"fps is {fps}, wanted a positive number of frames per second")
        self._clock, self._fps = clock, fps
        self._grid: Grid | None = None
        self._next = 0
        self.skipped = 0

    def restart(self) -> None:
        """Lays a new grid at the next frame, index 0."""
        self._grid, self._next = None, 0

    def next_frame(self, timeout_s: float) -> tuple[int, int] | None:
        """Waits for the next capture.

        Returns:
            Its index and its time [ns], or None if it is further away than `timeout_s`, which has then passed.
        """
        now_ns = self._clock.now_ns()
        grid = self._grid or Grid(now_ns, NS_PER_S / self._fps)
        # A clock that was set back would otherwise stop the camera for as long as that.
        if grid.at(self._next) - now_ns > LONGEST_GAP_S * NS_PER_S + grid.period_ns:
            grid = self._moved(grid, now_ns)
        self._grid = grid
        due_ns, limit_ns = grid.at(self._next), now_ns + round(timeout_s * NS_PER_S)
        if due_ns > limit_ns:
            self._clock.sleep_until_ns(limit_ns)
            return None
        self._clock.sleep_until_ns(due_ns)
        newest = max(self._next, grid.newest(self._clock.now_ns()))
        if newest - self._next > LONGEST_GAP_S * self._fps:
            grid = self._grid = self._moved(grid, grid.at(newest))
            newest = self._next
        self.skipped += newest - self._next
        self._next = newest + 1
        return newest, grid.at(newest)

    def _moved(self, grid: Grid, next_ns: int) -> Grid:
        """The grid moved so that the next frame is due at a time [ns]."""
        return grid._replace(start_ns=grid.start_ns + next_ns - grid.at(self._next))
