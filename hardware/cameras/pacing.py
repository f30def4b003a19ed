"""When a camera without a sensor takes its next picture."""

from __future__ import annotations

from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

LONGEST_GAP_S = 2.0
"""A reader who is later than this slept, or its clock was set: the grid moves on instead of skipping frames."""


class FramePacer:
    """Capture times on a fixed grid of a clock, as a sensor has them: who reads late gets the newest, not all.

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
        self._start_ns: int | None = None
        self._next = 0
        self.skipped = 0

    def restart(self) -> None:
        """Lays a new grid at the next frame, index 0."""
        self._start_ns, self._next = None, 0

    def next_frame(self, timeout_s: float) -> tuple[int, int] | None:
        """Waits for the next capture.

        Returns:
            Its index and its time [ns], or None if it is further away than `timeout_s`, which has then passed.
        """
        now_ns = self._clock.now_ns()
        if self._start_ns is None:
            self._start_ns = now_ns
        due_ns = self._at(self._next)
        # A clock that was set back would otherwise stop the camera for as long as that.
        if due_ns - now_ns > LONGEST_GAP_S * NS_PER_S + NS_PER_S / self._fps:
            self._start_ns, due_ns = now_ns - (due_ns - self._start_ns), now_ns
        limit_ns = now_ns + round(timeout_s * NS_PER_S)
        if due_ns > limit_ns:
            self._clock.sleep_until_ns(limit_ns)
            return None
        self._clock.sleep_until_ns(due_ns)
        newest = max(self._next, self._index_at(self._clock.now_ns()))
        if newest - self._next > LONGEST_GAP_S * self._fps:
            self._start_ns += self._at(newest) - self._at(self._next)
            newest = self._next
        self.skipped += newest - self._next
        self._next = newest + 1
        return newest, self._at(newest)

    def _at(self, index: int) -> int:
        assert self._start_ns is not None
        return self._start_ns + round(index * NS_PER_S / self._fps)

    def _index_at(self, now_ns: int) -> int:
        """The last capture that is not after a time."""
        assert self._start_ns is not None
        index = int((now_ns - self._start_ns) * self._fps / NS_PER_S) + 1
        while self._at(index) > now_ns:
            index -= 1
        return index
