"""One subscribed stream: messages in, samples in a ring out, and what was wrong with those that were not taken."""

from __future__ import annotations

import threading
from typing import Any

from hardware.ros.decode import OtherJoints, SomeJoints, quoted, stamp_ns
from hardware.ros.stream_gate import StreamGate
from hardware.ros.streams import StreamConfig
from hardware.sync import BadStamp, Pushed, StampedRing
from robot_rl.core.errors import BadMessage
from robot_rl.core.specs import NS_PER_S, AnyArray

STATE_CAPACITY = 64
IMAGE_CAPACITY = 8
"""Enough for a camera of 200 Hz at 30 ticks/s; 64 pictures of four cameras would be 250 MB."""
IN_FLIGHT_NS = NS_PER_S
"""How late a sample from before a reset may still arrive."""


class StreamReader:
    """Written by the node's thread, read by the control loop.

    Args:
        stream: The yaml's.
        topic: Its full name.
        news: Notified with every sample.
        checked: Whether samples that no body could have reached are kept out; not where time stands still between
            commands and a reset may put the arm anywhere.

    Attributes:
        ring: The newest samples.
        refused: Messages that could not be used.
        problem: What was wrong with the last message, None if it was used.
    """

    def __init__(self, stream: StreamConfig, topic: str, news: threading.Condition, checked: bool = True) -> None:
        self.stream = stream
        self.topic = topic
        self.ring = StampedRing(stream.name, stream.timing, IMAGE_CAPACITY if stream.is_image else STATE_CAPACITY)
        self.refused = 0
        self.problem: str | None = None
        self.newest: tuple[int, AnyArray] | None = None
        self._news = news
        self._decode = stream.decoder
        bounded = checked and stream.max_speed is not None
        self._gate = StreamGate(stream.name, stream.spec, stream.timing.max_age_ns) if bounded else None
        self._gate_lock = threading.Lock()
        self._since_ns = 0
        self._parts: set[tuple[str, ...]] = set()

    @property
    def fault(self) -> str:
        """Why no sample of the stream is used any more, in words; empty while they are."""
        return "" if self._gate is None else self._gate.fault

    @property
    def implausible(self) -> int:
        """Samples that no body could have reached; none of them was used."""
        return 0 if self._gate is None else self._gate.implausible

    @property
    def first_implausible(self) -> str:
        """The first of them, in words."""
        return "" if self._gate is None else self._gate.first_problem

    @property
    def late(self) -> int:
        """Samples that were stamped before one that had been used already; none of them was."""
        return 0 if self._gate is None else self._gate.late

    def take(self, message: Any) -> None:
        """Takes a message; one that cannot be used is counted and remembered, never passed off as something else."""
        try:
            stamp, value = stamp_ns(message), self._decode(message)
            if not self._admits(stamp, value):
                return
            pushed = self.ring.push(stamp, value)
        except OtherJoints as error:
            # Arm and gripper may share a topic; it is a fault only while ours never come.
            if self.newest is None:
                self.problem = str(error)
            return
        except (BadMessage, BadStamp) as error:
            self.refused += 1
            self.problem = self._scattered(error) or str(error)
            return
        with self._news:
            self.problem = None
            if pushed is not Pushed.DUPLICATE:
                self.newest = (stamp, value)
            self._news.notify_all()

    def _admits(self, stamp: int, value: AnyArray) -> bool:
        if 0 < self._since_ns - stamp < IN_FLIGHT_NS:
            return False
        if self._gate is None or stamp <= 0:
            return True
        with self._gate_lock:
            if self._gate.admits(stamp, value):
                return True
            self.problem = self._gate.problem
            if self._gate.fault:
                # What was seen before is of an arm that cannot be seen any more.
                self.ring.clear()
        return False

    def _scattered(self, error: BadMessage | BadStamp) -> str:
        """In words, that the wanted joints come in several messages and never together; empty if they do not."""
        if not isinstance(error, SomeJoints):
            return ""
        self._parts.add(error.present)
        if {joint for part in self._parts for joint in part} != set(self.stream.joints):
            return ""
        parts = " and ".join(f"[{', '.join(part)}]" for part in sorted(self._parts))
        return (
            f"no message holds all of {quoted(self.stream.joints)}: {self.topic} brings them apart. Make a stream of "
            f"each part, on the same topic: joints: {parts}"
        )

    def let_jump(self, allowed: bool) -> None:
        """Whether the arm may be somewhere else at once, see `StreamGate`; `forget` ends it."""
        with self._gate_lock:
            if self._gate is not None:
                self._gate.let_jump(allowed)

    def forget(self, before_ns: int = 0) -> None:
        """Forgets every sample; the next are judged by each other alone.

        Args:
            before_ns: What is stamped shortly before this moment and still under way is not taken either [ns].
        """
        with self._gate_lock:
            self.ring.clear()
            self.newest = None
            self._since_ns = before_ns
            if self._gate is not None:
                self._gate.forget()
                self._gate.let_jump(False)

    def shows(self, stamp_ns: int, *, exactly: bool) -> bool:
        """Whether the newest sample is stamped with a moment on the robot's clock, or (not `exactly`) later [ns]."""
        newest = self.newest
        return newest is not None and (newest[0] == stamp_ns or (not exactly and newest[0] > stamp_ns))

    def doubt(self, now_ns: int) -> str | None:
        """Why the stream cannot be acted on at `now_ns`, in words; None if it can."""
        return self.problem or self.lost(now_ns)

    def lost(self, now_ns: int) -> str | None:
        """The same for a stream that has been used already: a message now and then that is no good does not end it."""
        newest = self.newest
        if self.fault or newest is None:
            return self.fault or "published, but nothing has arrived"
        age_s, limit_s = (now_ns - newest[0]) / NS_PER_S + self.stream.latency_s, self.stream.max_age_s
        if age_s > limit_s:
            return (
                f"the newest sample is {1000 * age_s:.0f} ms old, limit is {1000 * limit_s:.0f} ms; compare the clocks "
                "of both computers and the driver's rate"
            )
        if age_s < -limit_s:
            return f"stamped {-1000 * age_s:.0f} ms in the future; compare the clocks of both computers (chrony)"
        return None
