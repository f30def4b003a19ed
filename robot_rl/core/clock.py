"""Time as an argument: a virtual clock for simulated episodes and the machine's own for a moving robot.

A `Grid` has the deadlines. They are absolute, so that lateness never adds up, and one that has passed is skipped, so
that a stall is never followed by a burst. Three things tick on it: `TickGrid` sleeps until the next control tick,
`Deadlines` asks whether an arm's is due between two messages, `FramePacer` takes a camera's newest frame.
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


class HostClock:
    """The machine's monotonic clock, or a `Clock` made of any other function that tells the time.

    Args:
        read_ns: Tells the time [ns].
    """

    def __init__(self, read_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._read_ns = read_ns

    def now_ns(self) -> int:
        """Current time [ns]."""
        return self._read_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Returns at the deadline, or at once if it has passed; wrong only if the clock jumps meanwhile.

        `time.sleep` ends at an absolute time of the monotonic clock (`clock_nanosleep` with TIMER_ABSTIME), so the time
        between reading the clock and sleeping, a microsecond or so, is all that relative arithmetic can add.
        """
        remaining_ns = deadline_ns - self._read_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NS_PER_S)


class Grid(NamedTuple):
    """Deadlines at `start_ns + index * period_ns`, each rounded to the nanosecond by itself.

    Attributes:
        start_ns: Deadline 0 [ns].
        period_ns: Distance of two deadlines, whole or not [ns].
    """

    start_ns: int
    period_ns: float

    def at(self, index: int) -> int:
        """A deadline [ns]."""
        return self.start_ns + round(index * self.period_ns)

    def newest(self, now_ns: int) -> int:
        """Index of the last deadline that is not after a time; negative before the first."""
        index = int((now_ns - self.start_ns) // self.period_ns) + 1
        while self.at(index) > now_ns:
            index -= 1
        return index

    def next_from(self, now_ns: int) -> int:
        """Index of the first deadline that is not before a time."""
        return self.newest(now_ns - 1) + 1


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
    """Control ticks on a `Grid`, waited for one after the other; one that has passed when it is asked for is skipped.

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
        self._grid = Grid(self.start_ns, tick_ns)
        self._next_index = 0

    def wait(self) -> Tick:
        """Sleeps until the next deadline that has not passed yet.

        A tick whose work overran has lost the deadlines it ran over. A thread that wakes a whole tick late, because
        the machine stalled, gives up that deadline as well.
        """
        expected = self._next_index
        # Tick 0 is now: the instant that has passed since the grid was made does not cost it its deadline.
        index = max(expected, self._grid.next_from(self.clock.now_ns())) if expected else 0
        while True:
            stamp_ns = self._grid.at(index)
            self.clock.sleep_until_ns(stamp_ns)
            now_ns = self.clock.now_ns()
            if now_ns - stamp_ns < self.tick_ns:
                break
            index = self._grid.next_from(now_ns)
        self._next_index = index + 1
        return Tick(index, stamp_ns, max(0, now_ns - stamp_ns), index - expected)


class Timing(NamedTuple):
    """How a stream kept its deadlines since the last report: ticks, deadlines skipped, lateness [us]."""

    ticks: int
    missed: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


class Deadlines:
    """Ticks on a `Grid` of whoever is woken by other things too: the newest one that has passed is due until it is met.

    Args:
        hz: Rate [Hz].
        start_ns: First deadline, monotonic [ns].
    """

    def __init__(self, hz: float, start_ns: int) -> None:
        self._grid, self._index = Grid(start_ns, NS_PER_S / hz), 0
        self._late_ns: list[int] = []
        self._missed = 0

    @property
    def next_ns(self) -> int:
        """The next deadline [ns]."""
        return self._grid.at(self._index)

    def met(self, now_ns: int) -> int:
        """The deadline that a tick at this moment is for, and steps to the next one [ns]."""
        index = max(self._index, self._grid.newest(now_ns))
        self._missed += index - self._index
        self._index = index + 1
        deadline_ns = self._grid.at(index)
        self._late_ns.append(now_ns - deadline_ns)
        return deadline_ns

    def report(self) -> Timing:
        """What happened since the last report."""
        late_ns, self._late_ns = self._late_ns, []
        missed, self._missed = self._missed, 0
        if not late_ns:
            return Timing(0, missed, 0.0, 0.0, 0.0)
        p50, p99, most = np.percentile(np.array(late_ns) / 1000, [50, 99, 100]).tolist()
        return Timing(len(late_ns), missed, p50, p99, most)


@contextlib.contextmanager
def prompt_thread(priority: int | None = None, inherited: bool = False) -> Iterator[bool]:
    """Makes the calling thread wake on time, as far as this process may, and puts everything back afterwards.

    Args:
        priority: SCHED_FIFO priority, 1 to 99; None leaves the scheduler alone.
        inherited: Whether threads and processes started meanwhile get the priority too, as a driver's own threads do.

    Yields:
        Whether the calling thread runs under SCHED_FIFO; without the permission everything else still applies.

    Raises:
        RobotRLError: The priority is out of range.
    """
    if priority is not None and not 1 <= priority <= 99:
        raise RobotRLError(f"realtime priority is {priority}, wanted 1 to 99, or none")
    interval_s = sys.getswitchinterval()
    slack_ns = _prctl(_PR_GET_TIMERSLACK, 0)
    sys.setswitchinterval(min(interval_s, SWITCH_INTERVAL_S))
    _set_timer_slack(TIMER_SLACK_NS)
    with contextlib.ExitStack() as undo:
        undo.callback(sys.setswitchinterval, interval_s)
        undo.callback(_set_timer_slack, slack_ns)
        yield priority is not None and _enter_fifo(priority, inherited, undo)


def _enter_fifo(priority: int, inherited: bool, undo: contextlib.ExitStack) -> bool:
    if not hasattr(os, "sched_setscheduler"):
        return False
    thread, reset = threading.get_native_id(), 0 if inherited else os.SCHED_RESET_ON_FORK
    before, parameters = os.sched_getscheduler(thread), os.sched_getparam(thread)
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | reset, os.sched_param(priority))
    except PermissionError:
        return False
    # Only a privileged process may clear the flag again, and it does no harm where it stays.
    undo.callback(os.sched_setscheduler, thread, before | reset, parameters)
    return True


def _set_timer_slack(slack_ns: int) -> None:
    if slack_ns > 0:
        _prctl(_PR_SET_TIMERSLACK, slack_ns)


def _prctl(option: int, argument: int) -> int:
    """Linux's `prctl` for the calling thread; -1 where there is none."""
    if not sys.platform.startswith("linux"):
        return -1
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), 0, 0, 0))
