"""Timers, clocks and times; what must hold however slow the machine is."""

from __future__ import annotations

import time

import pytest

from hardware.ros.client import Clock, ClockType, Duration, Time, message
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros
NS_PER_S = 1_000_000_000


def test_a_timer_never_calls_early(bench: Bench):
    calls: list[float] = []
    start_s = time.monotonic()
    bench.node.create_timer(0.05, lambda: calls.append(time.monotonic() - start_s))
    bench.until(lambda: len(calls) >= 5)
    for index, elapsed_s in enumerate(calls):
        assert elapsed_s >= 0.05 * (index + 1) - 1e-3


def test_calls_that_were_missed_are_left_out(bench: Bench):
    calls: list[float] = []
    bench.node.create_timer(0.01, lambda: calls.append(time.monotonic()))
    bench.until(lambda: calls)
    time.sleep(0.5)
    stalled = len(calls)
    for _ in range(5):
        bench.executor.spin_once(timeout_sec=0)
    assert len(calls) - stalled < 10


def test_a_cancelled_timer_is_silent_until_reset(bench: Bench):
    calls: list[int] = []
    timer = bench.node.create_timer(0.01, lambda: calls.append(1))
    timer.cancel()
    assert timer.is_canceled()
    bench.executor.spin_once(timeout_sec=0.1)
    assert not calls
    timer.reset()
    assert not timer.is_canceled()
    bench.until(lambda: calls)


def test_a_timer_can_cancel_itself(bench: Bench):
    calls: list[int] = []

    def once() -> None:
        calls.append(1)
        timer.cancel()

    timer = bench.node.create_timer(0.01, once)
    bench.until(lambda: calls)
    bench.executor.spin_once(timeout_sec=0.1)
    assert calls == [1]


def test_a_timer_tells_its_period_and_what_is_left(bench: Bench):
    timer = bench.node.create_timer(100.0, lambda: None)
    assert timer.timer_period_ns == 100 * NS_PER_S
    assert 0 < timer.time_until_next_call() <= 100 * NS_PER_S
    assert bench.node.destroy_timer(timer)
    assert timer not in bench.node.timers


def test_the_nodes_clock_is_the_machines(bench: Bench):
    before_ns = time.time_ns()
    now = bench.node.get_clock().now()
    assert before_ns <= now.nanoseconds <= time.time_ns()
    assert now.clock_type == ClockType.ROS_TIME


def test_the_steady_clock_never_goes_back():
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    first = clock.now()
    assert clock.now() >= first


def test_times_and_durations_calculate():
    start = Time(seconds=10, nanoseconds=5)
    assert (start + Duration(seconds=1.5)).nanoseconds == 11_500_000_005
    assert (start - Duration(nanoseconds=5)).nanoseconds == 10 * NS_PER_S
    assert (Time(seconds=12) - Time(seconds=10)).nanoseconds == 2 * NS_PER_S
    assert (Time(seconds=10) - Time(seconds=12)) == Duration(seconds=-2)
    assert Time(seconds=1) < Time(seconds=2)
    assert start.seconds_nanoseconds() == (10, 5)


def test_times_of_two_clocks_cannot_be_compared():
    with pytest.raises(TypeError):
        assert Time(seconds=1, clock_type=ClockType.ROS_TIME) < Time(seconds=2, clock_type=ClockType.STEADY_TIME)


@pytest.mark.parametrize("nanoseconds", [0, 1, 1_700_000_000_999_999_999])
def test_a_time_survives_its_message(nanoseconds: int):
    time_ = Time(nanoseconds=nanoseconds, clock_type=ClockType.ROS_TIME)
    assert isinstance(time_.to_msg(), message("builtin_interfaces/msg/Time"))
    assert Time.from_msg(time_.to_msg()) == time_


def test_a_negative_duration_survives_its_message():
    duration = Duration(nanoseconds=-1)
    assert (duration.to_msg().sec, duration.to_msg().nanosec) == (-1, 999_999_999)
    assert Duration.from_msg(duration.to_msg()) == duration


def test_a_time_is_never_negative():
    with pytest.raises(ValueError):
        Time(nanoseconds=-1)
