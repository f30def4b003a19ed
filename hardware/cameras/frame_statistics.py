"""How well a camera keeps its rate, from the stamps of its frames alone."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np

from hardware.cameras.frame_source import Frame
from robot_rl.core.specs import NS_PER_S

CHECKED_ROWS = 8
"""Of an uncompressed picture every so many-th row is compared: all of them would cost as much as publishing it."""


@dataclass(frozen=True)
class FrameReport:
    """What happened since the last report.

    Attributes:
        frames: Frames taken.
        rate_hz: From their capture times; 0 for fewer than two.
        jitter_ms: Standard deviation of the time from one capture to the next [ms].
        longest_gap_ms: Longest time from one capture to the next [ms].
        latency_ms: Mean time from capture to having the frame [ms].
        drops: Frames that are missing from an even rate.
        repeated: Frames not newer than the one before, which are thrown away.
        unchanged: How many frames in a row have shown the very same picture, now.
    """

    frames: int
    rate_hz: float
    jitter_ms: float
    longest_gap_ms: float
    latency_ms: float
    drops: int
    repeated: int
    unchanged: int


class FrameStatistics:
    """Counts frames. Totals are attributes; `report` is about the time since its last call.

    Args:
        fps: The rate that the camera should keep.
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.frames = 0
        self.drops = 0
        self.repeated = 0
        self._unchanged = 0
        self._last_ns: int | None = None
        self._last_sum: int | None = None
        self._stamps_ns: list[int] = []
        self._latencies_ns: list[int] = []
        self._before = (0, 0)

    def add(self, frame: Frame, now_ns: int) -> bool:
        """Takes a frame; whether it is newer than the one before, hence worth anything.

        Args:
            frame: As read.
            now_ns: When it was read, on the clock of its stamp [ns].
        """
        if self._last_ns is not None and frame.stamp_ns <= self._last_ns:
            # A frozen driver repeats a stamp. A stamp further back is a clock that was set, after which time goes on.
            self.repeated += 1
            if self._last_ns - frame.stamp_ns > NS_PER_S:
                self.restart()
            return False
        if self._last_ns is not None and self.fps > 0:
            self.drops += max(0, round((frame.stamp_ns - self._last_ns) * self.fps / NS_PER_S) - 1)
        self._last_ns = frame.stamp_ns
        self.frames += 1
        self._stamps_ns.append(frame.stamp_ns)
        self._latencies_ns.append(now_ns - frame.stamp_ns)
        checksum = _checksum(frame)
        self._unchanged = self._unchanged + 1 if checksum == self._last_sum else 0
        self._last_sum = checksum
        return True

    @property
    def unchanged(self) -> int:
        """How many frames in a row have shown the very same picture as one before them."""
        return self._unchanged

    def restart(self) -> None:
        """Forgets the last frame: the camera was away, and the time in between is no series of drops."""
        self._last_ns = self._last_sum = None
        self._unchanged = 0
        self._stamps_ns = []

    def report(self) -> FrameReport:
        """The time since the last report, or since the beginning."""
        gaps_ms = np.array([later - earlier for earlier, later in itertools.pairwise(self._stamps_ns)]) / 1e6
        drops, repeated = self._before
        report = FrameReport(
            frames=len(self._latencies_ns),
            rate_hz=1e3 / float(gaps_ms.mean()) if len(gaps_ms) else 0.0,
            jitter_ms=float(gaps_ms.std()) if len(gaps_ms) else 0.0,
            longest_gap_ms=float(gaps_ms.max()) if len(gaps_ms) else 0.0,
            latency_ms=float(np.mean(self._latencies_ns)) / 1e6 if self._latencies_ns else 0.0,
            drops=self.drops - drops,
            repeated=self.repeated - repeated,
            unchanged=self._unchanged,
        )
        self._before = (self.drops, self.repeated)
        # The last stamp stays, so that a gap across two reports is seen by the second.
        self._stamps_ns, self._latencies_ns = self._stamps_ns[-1:], []
        return report


def _checksum(frame: Frame) -> int:
    if frame.jpeg is not None:
        return zlib.crc32(frame.jpeg)
    return zlib.crc32(frame.rgb()[::CHECKED_ROWS].tobytes())
