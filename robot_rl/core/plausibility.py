"""Which samples of a stream no body can have reached: one bound for live streams, leaders, bags and stored episodes.

Between two samples an element changes by at most its `max_speed` times the time between them, plus its `margin`. What
lies beyond was not measured but garbled: an encoder's wrap, a lost byte on a serial bus, a second publisher. Such a
sample is counted and not used, and time goes on from the last one that was: a glitch costs a sample, not the stream.

Legend: `N` samples, `E` elements of a stream's array, `M` bounded quantities: the elements, or a pose's place and
rotation.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.specs import NS_PER_S, AnyArray, ArraySpec

Row = npt.NDArray[np.float64]

SEVERAL = 3
"""So many samples in a row that cannot be true are a fault: one is a glitch, two may be a burst on the bus."""
WINDOW = 20
MOST_OF_WINDOW = 5
"""So many of the last `WINDOW` are a fault too: two publishers take turns, and no two false samples are in a row."""
QUATERNION_TOLERANCE = 0.05
"""How far from 1 the length of a quaternion may be before it is taken for damaged rather than rounded."""


class Step(NamedTuple):
    """A change that no body can have made.

    Attributes:
        element: Its name, or its index where it has none; of a pose `place` or `rotation`.
        before: Value before it, in words; empty for a sample that is wrong in itself.
        after: Value after it, in words.
        allowed: Largest change that was possible, in words.
        elapsed_s: Time between the two [s].
    """

    element: str
    before: str
    after: str
    allowed: str
    elapsed_s: float

    def __str__(self) -> str:
        if not self.before:
            return f"'{self.element}' is {self.after}, wanted {self.allowed}"
        return (
            f"'{self.element}' went from {self.before} to {self.after} within {1000 * self.elapsed_s:.1f} ms, "
            f"at most {self.allowed} is possible"
        )


@dataclass(frozen=True, eq=False)
class Plausibility:
    """The bound of one stream.

    Attributes:
        spec: The stream's, with a bound of speed.
        max_speed: Per second. Shape (M,).
        margin: Shape (M,).
    """

    spec: ArraySpec
    max_speed: Row
    margin: Row

    @classmethod
    def for_spec(cls, spec: ArraySpec) -> Self | None:
        """The bound that a spec states; None if it states none."""
        if spec.max_speed is None or spec.margin is None:
            return None
        count = 2 if spec.is_pose else spec.size
        speed, margin = (
            np.broadcast_to(np.asarray(each, dtype=np.float64), (count,)) for each in (spec.max_speed, spec.margin)
        )
        return cls(spec, speed, margin)

    def problem(self, before: AnyArray, before_ns: int, value: AnyArray, stamp_ns: int) -> str:
        """Why a sample cannot have followed another, in words; empty if it can.

        Args:
            before: A sample that is true, of the spec's shape.
            before_ns: When it was taken [ns].
            value: The sample in doubt.
            stamp_ns: When it was taken, same clock [ns]; before `before_ns` is as good as after it.
        """
        found = self.unfit(value) or self.step(before, before_ns, value, stamp_ns)
        return "" if found is None else str(found)

    def unfit(self, value: AnyArray) -> Step | None:
        """What is wrong with a sample by itself: its shape, NaN, a quaternion that is no rotation."""
        if value.shape != self.spec.shape:
            return Step("shape", "", str(value.shape), str(self.spec.shape), 0.0)
        flat = np.asarray(value, dtype=np.float64).ravel()
        [broken] = np.nonzero(~np.isfinite(flat))
        if len(broken):
            return Step(self._element(int(broken[0])), "", f"{flat[broken[0]]}", "a finite number", 0.0)
        if not self.spec.is_pose:
            return None
        length = float(np.linalg.norm(flat[3:]))
        if abs(length - 1.0) <= QUATERNION_TOLERANCE:
            return None
        return Step("rotation", "", f"a quaternion of length {length:.3g}", "1", 0.0)

    def step(self, before: AnyArray, before_ns: int, value: AnyArray, stamp_ns: int) -> Step | None:
        """The change from one sound sample to another that is furthest beyond the bound; None if none is."""
        elapsed_s = abs(stamp_ns - before_ns) / NS_PER_S
        start, end = (np.asarray(each, dtype=np.float64).reshape(1, -1) for each in (before, value))
        change = self._change(start, end)[0]
        allowed = self.max_speed * elapsed_s + self.margin
        excess = change / allowed
        worst = int(np.argmax(excess))
        if excess[worst] <= 1.0:
            return None
        return Step(
            self._element(worst), *self._words(worst, start[0], end[0]), self._bound_words(worst, elapsed_s), elapsed_s
        )

    def beyond(self, stamps_ns: npt.NDArray[np.int64], values: AnyArray) -> npt.NDArray[np.bool_]:
        """Which samples are unfit or cannot have followed the one right before them. Shape (N,).

        Args:
            stamps_ns: When they were taken [ns]. Shape (N,).
            values: Shape (N, *shape of the spec).
        """
        flat = np.asarray(values, dtype=np.float64).reshape(len(stamps_ns), -1)
        wrong: npt.NDArray[np.bool_] = np.any(~np.isfinite(flat), axis=1)
        if self.spec.is_pose:
            # Written this way round, NaN is wrong.
            wrong |= ~(np.abs(np.linalg.norm(flat[:, 3:], axis=1) - 1.0) <= QUATERNION_TOLERANCE)
        elapsed_s = np.abs(np.diff(stamps_ns)) / NS_PER_S
        allowed = elapsed_s[:, None] * self.max_speed + self.margin
        with np.errstate(invalid="ignore", over="ignore"):
            wrong[1:] |= (self._change(flat[:-1], flat[1:]) > allowed).any(axis=1)
        return wrong

    def _change(self, before: Row, after: Row) -> Row:
        """How far each bounded quantity is from one row to another. Shapes (N, E), (N, E) to (N, M)."""
        if not self.spec.is_pose:
            return np.abs(after - before)
        place = np.linalg.norm(after[:, :3] - before[:, :3], axis=1)
        return np.stack([place, _angle(before[:, 3:], after[:, 3:])], axis=1)

    def _element(self, index: int) -> str:
        if self.spec.is_pose:
            return ("place", "rotation")[min(index, 1)]
        return self.spec.names[index] if self.spec.names else str(index)

    def _unit(self, index: int) -> str:
        if self.spec.is_pose:
            return ("m", "rad")[index]
        return self.spec.unit_of(index)

    def _words(self, index: int, before: Row, after: Row) -> tuple[str, str]:
        if not self.spec.is_pose:
            return f"{before[index]:.4g}", f"{after[index]:.4g} {self._unit(index)}"
        part = (slice(0, 3), slice(3, 7))[index]
        before_words, after_words = ("(" + ", ".join(f"{x:.4g}" for x in row[part]) + ")" for row in (before, after))
        return before_words, after_words + (" m" if index == 0 else "")

    def _bound_words(self, index: int, elapsed_s: float) -> str:
        speed, margin = self.max_speed[index], self.margin[index]
        return f"{speed * elapsed_s + margin:.3g} {self._unit(index)} (max_speed {speed:g}, margin {margin:g})"


def _angle(before: Row, after: Row) -> Row:
    """Smallest rotation [rad] from one quaternion to another; q and -q are the same. Shapes (N, 4) to (N,)."""
    start, end = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (before, after))
    # From the chord, whose rounding error stays small; the arc cosine of a float32's dot product is off by 5e-4 rad.
    chord = np.minimum(np.linalg.norm(end - start, axis=1), np.linalg.norm(end + start, axis=1))
    angle: Row = 4.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))
    return angle


class _Rival(NamedTuple):
    """The last sample that was refused, and how many before and with it agree, in ascending order of time."""

    stamp_ns: int
    value: AnyArray
    agreeing: int


class PlausibleStream:
    """Takes a stream's samples in the order of their arrival and says which may be used.

    The first sample has nothing to be compared with; it is `confirmed` by the next that agrees. Until then it has no
    more standing than its successors: `SEVERAL` that agree with each other but not with it take its place. So do
    `SEVERAL` that agree but are stamped before the last one used: the clock went back.

    A fault stays until `forget`, whatever comes: with time an arm could have gone anywhere, so that a false place which
    lasts long enough would become a possible one.

    Args:
        name: Of the stream, for words.
        spec: Its spec.

    Attributes:
        rejected: Samples that were not used because no body could have reached them.
        late: Samples that were not used because their stamps lie before the last one used.
        problem: What was wrong with the last sample, in words; empty if it was used.
        fault: Why no sample of the stream is used any more, in words; empty while they are.
        confirmed: Whether the last sample used agreed with one before it.

    Raises:
        ValueError: The spec has no bound of speed.
    """

    def __init__(self, name: str, spec: ArraySpec) -> None:
        bound = Plausibility.for_spec(spec)
        if bound is None:
            raise ValueError(f"stream '{name}' has no max_speed and margin: nothing to judge its samples by")
        self.name = name
        self.bound = bound
        self.rejected = 0
        self.late = 0
        self.forget()

    def forget(self) -> None:
        """Ends a fault and takes the next sample as the first: after a reset, a jump of the clock, a reconnection."""
        self.problem = ""
        self.fault = ""
        self.confirmed = False
        self._last: tuple[int, AnyArray] | None = None
        self._rival: _Rival | None = None
        self._refused_in_a_row = 0
        self._recently_refused: collections.deque[bool] = collections.deque(maxlen=WINDOW)

    def take(self, stamp_ns: int, value: AnyArray) -> bool:
        """Whether a sample may be used; one that may not is counted.

        Args:
            stamp_ns: When it was taken [ns].
            value: Of the spec's shape. Kept by reference: whoever hands it over must not write to it again.
        """
        if self.fault:
            self.rejected += 1
            return False
        late = self._last is not None and stamp_ns < self._last[0]
        self.problem = self._late_words(stamp_ns) if late else self._doubt(stamp_ns, value)
        if self.problem and not self._outvoted(stamp_ns, value, late):
            self._refuse(late)
            return False
        self._use(stamp_ns, value)
        return True

    def _doubt(self, stamp_ns: int, value: AnyArray) -> str:
        if self._last is None:
            return str(self.bound.unfit(value) or "")
        before_ns, before = self._last
        return self.bound.problem(before, before_ns, value, stamp_ns)

    def _late_words(self, stamp_ns: int) -> str:
        assert self._last is not None
        return f"stamped {(self._last[0] - stamp_ns) / 1e6:.1f} ms before the last sample that was used"

    def _outvoted(self, stamp_ns: int, value: AnyArray, late: bool) -> bool:
        """Whether enough refused samples agree to be believed rather than the last one used."""
        self._rival = self._next_rival(stamp_ns, value)
        enough = self._rival is not None and self._rival.agreeing >= SEVERAL
        return enough and (late or not self.confirmed)

    def _next_rival(self, stamp_ns: int, value: AnyArray) -> _Rival | None:
        if self.bound.unfit(value) is not None:
            return None
        rival = self._rival
        agrees = (
            rival is not None
            and stamp_ns > rival.stamp_ns
            and self.bound.step(rival.value, rival.stamp_ns, value, stamp_ns) is None
        )
        return _Rival(stamp_ns, value, 1 + (rival.agreeing if agrees and rival is not None else 0))

    def _use(self, stamp_ns: int, value: AnyArray) -> None:
        self.confirmed = self._last is not None
        self._last = (stamp_ns, value)
        self.problem, self._rival, self._refused_in_a_row = "", None, 0
        self._recently_refused.append(False)

    def _refuse(self, late: bool) -> None:
        if late:
            self.late += 1
        else:
            self.rejected += 1
        self._refused_in_a_row += 1
        self._recently_refused.append(True)
        in_a_row, recently = self._refused_in_a_row, sum(self._recently_refused)
        if in_a_row >= SEVERAL:
            self.fault = self._fault_words(f"{in_a_row} samples in a row")
        elif recently >= MOST_OF_WINDOW:
            self.fault = self._fault_words(f"{recently} of the last {len(self._recently_refused)} samples")

    def _fault_words(self, which: str) -> str:
        return (
            f"{self.name}: {which} cannot be true, the last: {self.problem}; check the encoder and its zero, the "
            "cable, and whether two drivers publish"
        )
