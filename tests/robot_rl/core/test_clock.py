from __future__ import annotations

import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.core.clock import Deadlines, Grid, HostClock, SimulatedClock, TickGrid, prompt_thread
from robot_rl.core.errors import RobotRLError

TICK_NS = 10


class OversleepingClock:
    """Wakes late by the next of some delays, for ever in turn; `work` makes time pass."""

    def __init__(self, delays_ns: list[int]) -> None:
        self.time_ns = 1000
        self.delays_ns = delays_ns
        self.sleeps = 0

    def now_ns(self) -> int:
        return self.time_ns

    def work(self, duration_ns: int) -> None:
        self.time_ns += duration_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        delay_ns = self.delays_ns[self.sleeps % len(self.delays_ns)]
        self.sleeps += 1
        self.time_ns = max(self.time_ns, deadline_ns + delay_ns)


def test_simulated_time_jumps_to_a_deadline_and_never_goes_back():
    clock = SimulatedClock(5)
    clock.sleep_until_ns(90)
    clock.sleep_until_ns(40)
    assert clock.now_ns() == 90


def test_the_monotonic_clock_returns_at_its_deadline_and_not_before():
    clock = HostClock()
    deadline_ns = clock.now_ns() + 3_000_000
    clock.sleep_until_ns(deadline_ns)
    assert clock.now_ns() >= deadline_ns
    clock.sleep_until_ns(deadline_ns - 1_000_000_000)


def test_in_simulated_time_no_tick_is_late_or_missed_and_the_first_is_now():
    grid = TickGrid(SimulatedClock(7), TICK_NS)
    ticks = [grid.wait() for _ in range(5)]
    assert [tick.stamp_ns for tick in ticks] == [7, 17, 27, 37, 47]
    assert not any(tick.lateness_ns or tick.missed for tick in ticks)


@given(
    works_ns=st.lists(st.integers(0, 75), min_size=1, max_size=30),
    delays_ns=st.lists(st.sampled_from([0, 1, 9, 10, 11, 35]), min_size=1, max_size=7).filter(lambda d: min(d) < 10),
)
def test_ticks_stay_on_the_grid_whatever_work_and_wake_ups_take(works_ns, delays_ns):
    clock = OversleepingClock(delays_ns)
    grid = TickGrid(clock, TICK_NS)
    last_index = -1
    for work_ns in works_ns:
        asked_ns = clock.now_ns()
        tick = grid.wait()
        assert tick.stamp_ns == grid.start_ns + tick.index * TICK_NS
        assert tick.missed == tick.index - last_index - 1, "every skipped deadline is counted"
        assert tick.index > last_index, "no deadline is served twice"
        assert tick.stamp_ns >= asked_ns, "a deadline that has passed is not made up for"
        assert 0 <= tick.lateness_ns < TICK_NS, "lateness does not add up"
        last_index = tick.index
        clock.work(work_ns)


def test_a_stall_is_followed_by_one_tick_and_not_by_a_burst():
    clock = OversleepingClock([0])
    grid = TickGrid(clock, TICK_NS)
    grid.wait()
    clock.work(47)
    after = grid.wait()
    assert (after.missed, after.lateness_ns) == (4, 0)
    assert grid.wait().stamp_ns == after.stamp_ns + TICK_NS


def test_the_first_tick_is_not_lost_to_the_moment_between_making_the_grid_and_waiting():
    clock = OversleepingClock([0])
    grid = TickGrid(clock, TICK_NS)
    clock.work(1)
    assert (grid.wait().index, grid.wait().missed) == (0, 0)


def test_a_grid_needs_a_positive_tick():
    with pytest.raises(RobotRLError, match="tick_ns is 0"):
        TickGrid(SimulatedClock(), 0)


@given(
    start_ns=st.integers(0, 2 * 10**18),
    period_ns=st.one_of(st.integers(1, 10**10), st.floats(1.0, 1e10)),
    away_ns=st.integers(-(10**13), 10**13),
)
def test_the_newest_and_the_next_deadline_of_a_grid_are_around_a_time(start_ns, period_ns, away_ns):
    grid, now_ns = Grid(start_ns, period_ns), start_ns + away_ns
    newest = grid.newest(now_ns)
    assert grid.at(newest) <= now_ns < grid.at(newest + 1)
    following = grid.next_from(now_ns)
    assert grid.at(following - 1) < now_ns <= grid.at(following)


@given(st.floats(1.0, 1000.0), st.lists(st.floats(0.0, 4.0), max_size=40))
def test_a_deadline_is_due_late_until_the_next_one_has_passed_and_none_is_met_twice_or_lost_uncounted(hz, late):
    deadlines = Deadlines(hz, 10**12)
    grid, last, skipped = Grid(10**12, 1e9 / hz), -1, 0
    for periods in late:
        now_ns = deadlines.next_ns + round(periods * grid.period_ns)
        deadline_ns = deadlines.met(now_ns)
        index = grid.newest(now_ns)
        assert deadline_ns == grid.at(index)
        assert deadlines.next_ns == grid.at(index + 1)
        assert index > last
        skipped, last = skipped + index - last - 1, index
    report = deadlines.report()
    assert (report.ticks, report.missed) == (len(late), skipped)
    assert deadlines.report()[:2] == (0, 0)


def test_prompt_waking_ends_with_its_block():
    before = sys.getswitchinterval(), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    with prompt_thread():
        assert sys.getswitchinterval() <= 1e-3
    assert (sys.getswitchinterval(), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK) == before


def test_a_realtime_priority_stays_with_its_thread_and_its_block_and_does_without_permission():
    schedulers: list[int] = []

    def look() -> None:
        schedulers.append(os.sched_getscheduler(0))

    before = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    with prompt_thread(10) as granted:
        assert (os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO) == granted
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert schedulers[0] & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == before


def test_an_impossible_priority_is_refused():
    with pytest.raises(RobotRLError, match="priority is 0, wanted 1 to 99"), prompt_thread(0):
        pass
