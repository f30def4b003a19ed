"""Time, Duration and Clock with rclpy's names and arithmetic.

ROS time is the machine's clock; simulated time (`/clock`) is not offered.
"""

from __future__ import annotations

import enum
import functools
import threading
import time
from typing import Any

from hardware.ros.pip_client.messages import message_class

NS_PER_S = 1_000_000_000


class ClockType(enum.IntEnum):
    """Which clock a Time was read from."""

    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class Duration:
    """A span of time, kept in nanoseconds.

    Args:
        seconds: Whole and fractional seconds [s].
        nanoseconds: Added to the seconds [ns].
    """

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * NS_PER_S) + int(nanoseconds)

    @classmethod
    def from_msg(cls, msg: Any) -> Duration:
        """From builtin_interfaces/msg/Duration."""
        return cls(nanoseconds=msg.sec * NS_PER_S + msg.nanosec)

    def to_msg(self) -> Any:
        """As builtin_interfaces/msg/Duration."""
        sec, nanosec = divmod(self.nanoseconds, NS_PER_S)
        return message_class("builtin_interfaces/msg/Duration")(sec=sec, nanosec=nanosec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Duration) -> bool:
        return self.nanoseconds < other.nanoseconds

    def __le__(self, other: Duration) -> bool:
        return self.nanoseconds <= other.nanoseconds

    def __gt__(self, other: Duration) -> bool:
        return self.nanoseconds > other.nanoseconds

    def __ge__(self, other: Duration) -> bool:
        return self.nanoseconds >= other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self.nanoseconds})"


@functools.total_ordering
class Time:
    """A point in time of one clock.

    Args:
        seconds: Whole and fractional seconds since the clock's epoch [s].
        nanoseconds: Added to the seconds [ns].
        clock_type: The clock it belongs to; times of different clocks cannot be compared.
    """

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        total_ns = int(seconds * NS_PER_S) + int(nanoseconds)
        if total_ns < 0:
            raise ValueError(f"A Time is never negative, got {total_ns} ns")
        self.nanoseconds = total_ns
        self.clock_type = clock_type

    @classmethod
    def from_msg(cls, msg: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From builtin_interfaces/msg/Time."""
        return cls(nanoseconds=msg.sec * NS_PER_S + msg.nanosec, clock_type=clock_type)

    def to_msg(self) -> Any:
        """As builtin_interfaces/msg/Time."""
        sec, nanosec = divmod(self.nanoseconds, NS_PER_S)
        return message_class("builtin_interfaces/msg/Time")(sec=sec, nanosec=nanosec)

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds and the rest [ns]."""
        return divmod(self.nanoseconds, NS_PER_S)

    def __add__(self, other: Duration) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        return Time(nanoseconds=self.nanoseconds + other.nanoseconds, clock_type=self.clock_type)

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Time):
            self._same_clock(other)
            return Duration(nanoseconds=self.nanoseconds - other.nanoseconds)
        if isinstance(other, Duration):
            return Time(nanoseconds=self.nanoseconds - other.nanoseconds, clock_type=self.clock_type)
        return NotImplemented

    def _same_clock(self, other: Time) -> None:
        if self.clock_type != other.clock_type:
            raise TypeError(f"Times of two clocks: {self.clock_type.name} and {other.clock_type.name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._same_clock(other)
        return self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Time) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._same_clock(other)
        return self.nanoseconds < other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self.nanoseconds}, clock_type={self.clock_type.name})"


class Clock:
    """Reads one of the machine's clocks."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self.clock_type = clock_type

    def now(self) -> Time:
        """The present."""
        steady = self.clock_type == ClockType.STEADY_TIME
        return Time(nanoseconds=time.monotonic_ns() if steady else time.time_ns(), clock_type=self.clock_type)

    def sleep_until(self, until: Time, context: Any = None) -> bool:
        """Sleep until a time of this clock; False where the context was shut down meanwhile."""
        self.now()._same_clock(until)
        return self.sleep_for(until - self.now(), context)

    def sleep_for(self, rel_time: Duration, context: Any = None) -> bool:
        """Sleep for a span; False where the context was shut down meanwhile."""
        ended = threading.Event() if context is None else context.ended
        return not ended.wait(max(0.0, rel_time.nanoseconds / NS_PER_S))
