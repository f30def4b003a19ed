"""Time as an argument: a virtual clock for simulated episodes and the machine's own for a moving robot.

A `TickGrid` gives the deadlines. They are absolute, so that lateness never adds up, and a deadline that has passed is
skipped, so that a stall is never followed by a burst of commands.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

SWITCH_INTERVAL_S = 5e-4
"""Python's default of 5 ms lets a busy thread delay a tick by 12-14 ms; this brings it below 1 ms (measured)."""
TIMER_SLACK_NS = 1
"""Linux may wake a thread 50 us late to save power unless told otherwise."""
_PR_SET_TIMERSLACK = 29
_PR_GET_TIMERSLACK = 30


class SimulatedClock:
    """Virtual time: sleeping jumps to the deadline, and nothing else makes time pass.

    Args:
        start_ns: Time at the beginning [ns].
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Virtual time [ns]."""
        return self._now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Makes it the deadline, unless that has passed."""
        self._now_ns = max(self._now_ns, deadline_ns)


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Time since an arbitrary moment, never set back [ns]."""
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Returns at the deadline, or at once if it has passed.

        `time.sleep` ends at an absolute time of this same clock (`clock_nanosleep` with TIMER_ABSTIME), so the time
        between reading the clock and sleeping, a microsecond or so, is all that relative arithmetic can add.
        """
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NS_PER_S)


@dataclass(frozen=True)
class Tick:
    """One deadline that was waited for.

    Attributes:
        index: Position on the grid, from 0.
        stamp_ns: The deadline, which is the tick's time in everything recorded [ns].
        lateness_ns: How long after the deadline the wait ended [ns].
        missed: Deadlines skipped since the tick before.
    """

    index: int
    stamp_ns: int
    lateness_ns: int
    missed: int


class TickGrid:
    """Deadlines `start_ns + index * tick_ns`, waited for one after the other.

    Args:
        clock: Time.
        tick_ns: Distance of two deadlines [ns].
        start_ns: Deadline of tick 0; now if None [ns].

    Raises:
        RobotRLError: `tick_ns` is not positive.
    """

    def __init__(self, clock: Clock, tick_ns: int, start_ns: int | None = None) -> None:
        if tick_ns <= 0:
            raise RobotRLError(f"tick_ns is {tick_ns}, wanted a positive duration")
        self.clock = clock
        self.tick_ns = tick_ns
        self.start_ns = clock.now_ns() if start_ns is None else start_ns
        self._next_index = 0

    def wait(self) -> Tick:
        """Sleeps until the next deadline that has not passed yet.

        A tick whose work overran has lost the deadlines it ran over. A thread that wakes a whole tick late, because
        the machine stalled, gives up that deadline as well.
        """
        expected = self._next_index
        # Tick 0 is now: the instant that has passed since the grid was made does not cost it its deadline.
        index = max(expected, self._first_from(self.clock.now_ns())) if expected else 0
        while True:
            stamp_ns = self.start_ns + index * self.tick_ns
            self.clock.sleep_until_ns(stamp_ns)
            now_ns = self.clock.now_ns()
            if now_ns - stamp_ns < self.tick_ns:
                break
            index = self._first_from(now_ns)
        self._next_index = index + 1
        return Tick(index, stamp_ns, max(0, now_ns - stamp_ns), index - expected)

    def _first_from(self, now_ns: int) -> int:
        """Index of the first deadline that is not before now."""
        return -((self.start_ns - now_ns) // self.tick_ns)


@contextlib.contextmanager
def prompt_thread(priority: int | None = None) -> Iterator[bool]:
    """Makes the calling thread wake on time, as far as this process may, and puts everything back afterwards.

    Args:
        priority: SCHED_FIFO priority, 1 to 99; None leaves the scheduler alone. Threads and processes started
            meanwhile do not inherit it.

    Yields:
        Whether the calling thread runs under SCHED_FIFO; without the permission everything else still applies.

    Raises:
        RobotRLError: The priority is out of range.
    """
    if priority is not None and not 1 <= priority <= 99:
        raise RobotRLError(f"realtime priority is {priority}, wanted 1 to 99, or none")
    interval_s = sys.getswitchinterval()
    slack_ns = _timer_slack()
    sys.setswitchinterval(min(interval_s, SWITCH_INTERVAL_S))
    _set_timer_slack(TIMER_SLACK_NS)
    with contextlib.ExitStack() as undo:
        undo.callback(sys.setswitchinterval, interval_s)
        undo.callback(_set_timer_slack, slack_ns)
        yield priority is not None and _enter_fifo(priority, undo)


def _enter_fifo(priority: int, undo: contextlib.ExitStack) -> bool:
    if not hasattr(os, "sched_setscheduler"):
        return False
    thread = threading.get_native_id()
    before, parameters = os.sched_getscheduler(thread), os.sched_getparam(thread)
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        return False
    # Only a privileged process may clear the flag again, and it does no harm where it stays.
    undo.callback(os.sched_setscheduler, thread, before | os.SCHED_RESET_ON_FORK, parameters)
    return True


def _timer_slack() -> int:
    return _prctl(_PR_GET_TIMERSLACK, 0)


def _set_timer_slack(slack_ns: int) -> None:
    if slack_ns > 0:
        _prctl(_PR_SET_TIMERSLACK, slack_ns)


def _prctl(option: int, argument: int) -> int:
    """Linux's `prctl` for the calling thread; -1 where there is none."""
    if not sys.platform.startswith("linux"):
        return -1
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


class Timing(NamedTuple):
    """How a stream kept its deadlines since the last report: ticks, deadlines skipped, lateness [us]."""

    ticks: int
    missed: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


class Deadlines:
    """Ticks at `start + index * period`; one that has passed by a whole period is skipped, never made up for.

    Args:
        hz: Rate [Hz].
        start_ns: First deadline, monotonic [ns].
    """

    def __init__(self, hz: float, start_ns: int) -> None:
        self._hz, self._start_ns, self._index = hz, start_ns, 0
        self._late_ns: list[int] = []
        self._missed = 0

    @property
    def next_ns(self) -> int:
        """The next deadline [ns]."""
        return self._start_ns + round(self._index * NS_PER_S / self._hz)

    def met(self, now_ns: int) -> int:
        """The deadline that a tick at this moment is for, and steps to the next one [ns]."""
        while self.next_ns + NS_PER_S / self._hz <= now_ns:
            behind = int((now_ns - self.next_ns) * self._hz / NS_PER_S)
            self._index += max(1, behind)
            self._missed += max(1, behind)
        deadline_ns = self.next_ns
        self._late_ns.append(now_ns - deadline_ns)
        self._index += 1
        return deadline_ns

    def report(self) -> Timing:
        """What happened since the last report."""
        late_ns, self._late_ns = self._late_ns, []
        missed, self._missed = self._missed, 0
        if not late_ns:
            return Timing(0, missed, 0.0, 0.0, 0.0)
        p50, p99, most = np.percentile(np.array(late_ns) / 1000, [50, 99, 100]).tolist()
        return Timing(len(late_ns), missed, p50, p99, most)


@dataclass(frozen=True)
class HostClock:
    """A `Clock` made of any function that tells the time: the monotonic clock, the wall clock, ROS time.

    Attributes:
        read_ns: Tells the time [ns].
    """

    read_ns: Callable[[], int] = time.monotonic_ns

    def now_ns(self) -> int:
        """Current time [ns]."""
        return self.read_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Sleeps for as long as the deadline is away now, which is wrong only if the clock jumps meanwhile."""
        remaining_ns = deadline_ns - self.read_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NS_PER_S)
