"""Which samples of a live stream come in: those that a body can have reached, once two agree, until several cannot be.

`robot_rl.core.plausibility` judges; here is what a stream that goes on for hours needs besides: after silence it begins
anew, and a fault ends by itself only when the arm has long been stopped by it.
"""

from __future__ import annotations

from robot_rl.core.plausibility import PlausibleStream
from robot_rl.core.specs import NS_PER_S, AnyArray, ArraySpec

SILENCE_S = 1.0
"""After a pause between stamps as long as this, or of twice the stream's age limit, a stream begins anew: its driver
was started again, or a clock was set."""
RECOVERY_S = 2.0
"""How long samples must agree with each other after a fault before they are believed: longer than any arm node goes
without a stream before it latches its own fault, so that a person has the last word."""
WAITING = "one sample has arrived and waits for another that agrees with it; check the driver's rate"


class StreamGate:
    """Judges the samples of one stream that has a bound of speed.

    Args:
        name: What errors call the stream.
        spec: Its spec, with a bound of speed.
        max_age_ns: Oldest sample still safe to act on [ns].

    Attributes:
        problem: Why the last sample did not come in, in words; empty if it did.
        first_problem: The first that no body could have reached, in words; empty if there was none.
    """

    def __init__(self, name: str, spec: ArraySpec, max_age_ns: int) -> None:
        self._stream = PlausibleStream(name, spec)
        self._heir = PlausibleStream(name, spec)
        self._heir_since_ns: int | None = None
        self._silence_ns = max(round(SILENCE_S * NS_PER_S), 2 * max_age_ns)
        self._newest_ns: int | None = None
        self._may_jump = False
        self.problem = ""
        self.first_problem = ""

    @property
    def fault(self) -> str:
        """Why nothing comes in any more, in words; empty while samples do."""
        return self._stream.fault

    @property
    def implausible(self) -> int:
        """Samples that no body could have reached, or that came during a fault."""
        return self._stream.rejected

    @property
    def late(self) -> int:
        """Samples that were stamped before one that had come in."""
        return self._stream.late

    def forget(self) -> None:
        """Begins anew: after a reset, a jump of the clock, a reconnection."""
        self._stream.forget()
        self._newest_ns = self._heir_since_ns = None
        self.problem = ""

    def let_jump(self, allowed: bool) -> None:
        """Whether the arm may be somewhere else at once, as a simulated one is when it is put at its start.

        While it may, several samples that agree are believed without a fault; a false one is still kept out.
        """
        self._may_jump = allowed

    def admits(self, stamp_ns: int, value: AnyArray) -> bool:
        """Whether a sample comes in.

        Args:
            stamp_ns: Its capture, robot clock [ns].
            value: Of the spec's shape; never written to again by whoever hands it over.
        """
        silent = self._newest_ns is not None and stamp_ns - self._newest_ns > self._silence_ns
        if silent or (self._may_jump and self._stream.fault):
            self.forget()
        self._newest_ns = stamp_ns
        if self._stream.fault:
            return self._admits_after_fault(stamp_ns, value)
        self._heir_since_ns = None
        refused = self._stream.rejected
        taken = self._stream.take(stamp_ns, value)
        if self._may_jump:
            self._stream.rejected = refused
        elif self._stream.rejected > refused and not self.first_problem:
            self.first_problem = self._stream.problem
        self.problem = self._stream.fault or self._stream.problem or ("" if self._stream.confirmed else WAITING)
        return taken and self._stream.confirmed

    def _admits_after_fault(self, stamp_ns: int, value: AnyArray) -> bool:
        """Believes samples that have agreed with each other for long enough."""
        self._stream.take(stamp_ns, value)
        if self._heir_since_ns is None or not self._heir.take(stamp_ns, value):
            self._heir.forget()
            self._heir_since_ns = stamp_ns if self._heir.take(stamp_ns, value) else None
            return False
        if stamp_ns - self._heir_since_ns < RECOVERY_S * NS_PER_S:
            return False
        self.forget()
        return self.admits(stamp_ns, value)
