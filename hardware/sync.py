"""Aligning streams: stamped ring buffers and the one function that turns them into an observation.

Recording, export and deployment all go through `sample_at`: the newest sample not after the tick, or the value
interpolated at the tick, or an error. Nothing is zero-filled, nothing old is passed off as new.
"""

from __future__ import annotations

import collections
import enum
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.specs import AnyArray

NS_PER_MS = 1_000_000


class BadStamp(RobotRLError):
    """A sample whose capture time is not one."""


class Pushed(enum.Enum):
    """What a ring did with a sample."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    """Same stamp as the last: the same sample again, dropped."""
    CLOCK_JUMP = "clock jump"
    """Stamp before the last: the clock went back. Everything older was cleared, the sample kept."""


class Interpolation(enum.StrEnum):
    """How a stream's value at a tick is made."""

    NEWEST = "newest"
    """The newest sample not after the tick; the only choice for images."""
    LINEAR = "linear"
    """Between the samples around the tick; the newest while none follows it. Never extrapolated."""


@dataclass(frozen=True)
class StreamTiming:
    """How one stream's samples relate to ticks.

    Attributes:
        max_age_ns: Oldest sample still safe to act on [ns].
        latency_ns: From capture to the stamp that the driver gives, subtracted from it [ns].
        interpolation: See `Interpolation`.
        quaternions: First index of each unit quaternion (4 successive elements, any order) in a flat state, turned by
            slerp where the rest is interpolated linearly.
    """

    max_age_ns: int
    latency_ns: int = 0
    interpolation: Interpolation = Interpolation.NEWEST
    quaternions: tuple[int, ...] = ()


class StampedRing:
    """The newest samples of one stream, for one writer and one reader in different threads.

    Values are kept by reference: whoever pushes an array must not write to it again.
    """

    def __init__(self, stream: str, timing: StreamTiming, capacity: int = 64) -> None:
        if capacity < 2:
            raise ValueError(f"capacity is {capacity}, wanted at least 2: one sample before a tick and one after")
        self.stream = stream
        self.timing = timing
        self.clock_jumps = 0
        self.duplicates = 0
        self._samples: collections.deque[tuple[int, AnyArray]] = collections.deque(maxlen=capacity)
        self._lock = threading.Lock()

    def push(self, stamp_ns: int, value: AnyArray) -> Pushed:
        """Takes a sample.

        Args:
            stamp_ns: The driver's stamp, robot clock [ns]; the stream's latency is subtracted here.
            value: The sample.

        Raises:
            BadStamp: The stamp is zero or negative: the driver does not stamp its samples.
        """
        if stamp_ns <= 0:
            raise BadStamp(f"{self.stream}: stamp is {stamp_ns} ns, wanted the capture time; set it in the driver")
        captured_ns = stamp_ns - self.timing.latency_ns
        with self._lock:
            last_ns = self._samples[-1][0] if self._samples else None
            if captured_ns == last_ns:
                self.duplicates += 1
                return Pushed.DUPLICATE
            jumped = last_ns is not None and captured_ns < last_ns
            if jumped:
                self.clock_jumps += 1
                self._samples.clear()
            self._samples.append((captured_ns, value))
        return Pushed.CLOCK_JUMP if jumped else Pushed.KEPT

    def clear(self) -> None:
        """Forgets every sample."""
        with self._lock:
            self._samples.clear()

    def snapshot(self) -> tuple[npt.NDArray[np.int64], list[AnyArray]]:
        """Capture times [ns], ascending, and values, of equal length."""
        with self._lock:
            samples = list(self._samples)
        stamps = np.fromiter((stamp for stamp, _ in samples), dtype=np.int64, count=len(samples))
        return stamps, [value for _, value in samples]

    def at(self, tick_ns: int) -> tuple[AnyArray, int]:
        """`sample_at` of what the ring holds."""
        stamps_ns, values = self.snapshot()
        return sample_at(stamps_ns, values, tick_ns, self.timing, self.stream)


def latest_before(stamps_ns: npt.NDArray[np.int64], tick_ns: int, max_age_ns: int, stream: str = "stream") -> int:
    """Index of the newest sample taken no later than a control tick.

    Args:
        stamps_ns: Capture times, ascending, robot clock [ns]. Shape (N,).
        tick_ns: Control tick, same clock [ns].
        max_age_ns: Oldest sample still safe to act on [ns].
        stream: Name for the error.

    Raises:
        StaleSensor: No sample precedes the tick, or the newest is too old.
    """
    index = int(np.searchsorted(stamps_ns, tick_ns, side="right")) - 1
    if index < 0:
        if len(stamps_ns) == 0:
            raise StaleSensor(f"{stream} has no sample yet, wanted one before the tick; check that it is published")
        early_ms = (int(stamps_ns[0]) - tick_ns) / NS_PER_MS
        raise StaleSensor(
            f"{stream} has only samples after the tick, the first by {early_ms:.0f} ms; "
            "compare its clock with the robot's, and its latency"
        )
    age_ns = tick_ns - int(stamps_ns[index])
    if age_ns > max_age_ns:
        raise StaleSensor(
            f"{stream} is {age_ns / NS_PER_MS:.0f} ms old, limit is {max_age_ns / NS_PER_MS:.0f} ms; "
            "check its cable, driver and rate"
        )
    return index


def sample_at(
    stamps_ns: npt.NDArray[np.int64],
    values: Sequence[AnyArray] | AnyArray,
    tick_ns: int,
    timing: StreamTiming,
    stream: str = "stream",
) -> tuple[AnyArray, int]:
    """A stream's value at a tick, and its age.

    An interpolated value is a value at the tick: its age is 0. The sample before the tick must be fresh all the same,
    so a gap in the stream is never bridged.

    Args:
        stamps_ns: Capture times, ascending [ns]. Shape (N,).
        values: One per stamp.
        tick_ns: Control tick, same clock [ns].
        timing: The stream's.
        stream: Name for errors.

    Returns:
        The value and its age [ns].

    Raises:
        StaleSensor: See `latest_before`.
    """
    index = latest_before(stamps_ns, tick_ns, timing.max_age_ns, stream)
    before_ns = int(stamps_ns[index])
    between = before_ns < tick_ns and index + 1 < len(stamps_ns)
    if timing.interpolation is Interpolation.NEWEST or not between:
        return values[index], tick_ns - before_ns
    after_ns = int(stamps_ns[index + 1])
    fraction = (tick_ns - before_ns) / (after_ns - before_ns)
    return interpolate(values[index], values[index + 1], fraction, timing.quaternions), 0


def interpolate(before: AnyArray, after: AnyArray, fraction: float, quaternions: Sequence[int] = ()) -> AnyArray:
    """A state between two others: linear, quaternions by slerp; the dtype of `before`.

    Args:
        before: State at fraction 0.
        after: State at fraction 1, same shape.
        fraction: In [0, 1].
        quaternions: First flat index of each unit quaternion.
    """
    start, end = before.astype(np.float64).ravel(), after.astype(np.float64).ravel()
    mixed = start + fraction * (end - start)
    for first in quaternions:
        turn = slice(first, first + 4)
        mixed[turn] = slerp(start[turn], end[turn], fraction)
    return mixed.reshape(before.shape).astype(before.dtype)


def slerp(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], fraction: float) -> npt.NDArray[np.float64]:
    """The rotation at a fraction of the shorter way between two unit quaternions. Shapes (4,), any element order."""
    cosine = float(np.dot(before, after))
    # q and -q are the same rotation; the nearer of the two is the shorter way.
    if cosine < 0.0:
        after, cosine = -after, -cosine
    if cosine > 1.0 - 1e-9:
        mixed = before + fraction * (after - before)
    else:
        angle = np.arccos(min(cosine, 1.0))
        mixed = (np.sin((1.0 - fraction) * angle) * before + np.sin(fraction * angle) * after) / np.sin(angle)
    unit: npt.NDArray[np.float64] = mixed / np.linalg.norm(mixed)
    return unit


def align(rings: Mapping[str, StampedRing], tick_ns: int) -> Observation:
    """What every stream shows at a tick.

    Raises:
        StaleSensor: Some streams have nothing fresh enough; the message has one line for each.
    """
    values: dict[str, AnyArray] = {}
    ages_ns: dict[str, int] = {}
    stale: list[str] = []
    for name, ring in rings.items():
        try:
            values[name], ages_ns[name] = ring.at(tick_ns)
        except StaleSensor as error:
            stale.append(str(error))
    if stale:
        raise StaleSensor("\n".join(stale))
    return Observation(tick_ns, values, ages_ns)
