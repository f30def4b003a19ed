"""One subscribed stream: messages in, samples in a ring out, and what was wrong with those that were not taken."""

from __future__ import annotations

import threading
from typing import Any

from hardware.ros.decode import BadMessage, OtherJoints, stamp_ns
from hardware.ros.streams import StreamConfig
from hardware.sync import BadStamp, Pushed, StampedRing
from robot_rl.types import NS_PER_S, AnyArray

STATE_CAPACITY = 64
IMAGE_CAPACITY = 8
"""Enough for a camera of 200 Hz at 30 ticks/s; 64 pictures of four cameras would be 250 MB."""


class StreamReader:
    """Written by the node's thread, read by the control loop.

    Args:
        stream: The yaml's.
        topic: Its full name.
        news: Notified with every sample.

    Attributes:
        ring: The newest samples.
        refused: Messages that could not be used.
        problem: What was wrong with the last message, None if it was used.
    """

    def __init__(self, stream: StreamConfig, topic: str, news: threading.Condition) -> None:
        self.stream = stream
        self.topic = topic
        self.ring = StampedRing(stream.name, stream.timing, IMAGE_CAPACITY if stream.is_image else STATE_CAPACITY)
        self.refused = 0
        self.problem: str | None = None
        self.newest: tuple[int, AnyArray] | None = None
        self._news = news
        self._decode = stream.decoder

    def take(self, message: Any) -> None:
        """Takes a message; one that cannot be used is counted and remembered, never passed off as something else."""
        try:
            stamp, value = stamp_ns(message), self._decode(message)
            pushed = self.ring.push(stamp, value)
        except OtherJoints as error:
            # Arm and gripper may share a topic; it is a fault only while ours never come.
            if self.newest is None:
                self.problem = str(error)
            return
        except (BadMessage, BadStamp) as error:
            self.refused += 1
            self.problem = str(error)
            return
        with self._news:
            self.problem = None
            if pushed is not Pushed.DUPLICATE:
                self.newest = (stamp, value)
            self._news.notify_all()

    def forget(self) -> None:
        """Forgets every sample."""
        self.ring.clear()
        self.newest = None

    def shows(self, stamp_ns: int, *, exactly: bool) -> bool:
        """Whether the newest sample is stamped with a moment on the robot's clock, or (not `exactly`) later [ns]."""
        newest = self.newest
        return newest is not None and (newest[0] == stamp_ns or (not exactly and newest[0] > stamp_ns))

    def doubt(self, now_ns: int) -> str | None:
        """Why the stream cannot be acted on at `now_ns`, in words; None if it can."""
        if self.problem is not None:
            return self.problem
        newest = self.newest
        if newest is None:
            return "published, but nothing has arrived"
        age_s, limit_s = (now_ns - newest[0]) / NS_PER_S + self.stream.latency_s, self.stream.max_age_s
        if age_s > limit_s:
            return (
                f"the newest sample is {1000 * age_s:.0f} ms old, limit is {1000 * limit_s:.0f} ms; compare the clocks "
                "of both computers and the driver's rate"
            )
        if age_s < -limit_s:
            return f"stamped {-1000 * age_s:.0f} ms in the future; compare the clocks of both computers (chrony)"
        return None
