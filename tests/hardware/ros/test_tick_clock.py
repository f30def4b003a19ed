"""Ticks on the loop's clock, samples on the robot's: one offset, held still."""

import pytest

from hardware.ros.tick_clock import NotRealTime, TickClock

MS = 1_000_000
S = 1_000_000_000
EPOCH = 1_700_000_000 * S


class Clocks:
    """The machine's monotonic clock, and a robot's that can be set."""

    def __init__(self):
        self.monotonic_ns = 1000 * S
        self.robot_ns = EPOCH

    def tick_clock(self):
        return TickClock(lambda: self.robot_ns, lambda: self.monotonic_ns)

    def run(self, duration_ns, robot_drift_ns=0):
        self.monotonic_ns += duration_ns
        self.robot_ns += duration_ns + robot_drift_ns


def test_a_tick_of_the_monotonic_clock_is_translated():
    clocks = Clocks()
    assert clocks.tick_clock().robot_ns(clocks.monotonic_ns - 3 * MS) == (EPOCH - 3 * MS, False)


def test_a_tick_of_the_robots_own_clock_stays():
    clocks = Clocks()
    assert clocks.tick_clock().robot_ns(EPOCH - 3 * MS) == (EPOCH - 3 * MS, False)


def test_the_offset_stands_still_under_jitter_and_follows_drift():
    clocks = Clocks()
    clock = clocks.tick_clock()
    clock.robot_ns(clocks.monotonic_ns)
    clocks.run(S, robot_drift_ns=1 * MS)
    assert clock.robot_ns(clocks.monotonic_ns) == (clocks.robot_ns - 1 * MS, False)
    clocks.run(S, robot_drift_ns=2 * MS)
    assert clock.robot_ns(clocks.monotonic_ns) == (clocks.robot_ns, False)


@pytest.mark.parametrize("by_ns", [-S, S])
def test_a_jump_of_the_robots_clock_is_an_event(by_ns):
    clocks = Clocks()
    clock = clocks.tick_clock()
    clock.robot_ns(clocks.monotonic_ns)
    clocks.run(20 * MS, robot_drift_ns=by_ns)
    assert clock.robot_ns(clocks.monotonic_ns) == (clocks.robot_ns, True)
    clocks.run(20 * MS)
    assert clock.robot_ns(clocks.monotonic_ns) == (clocks.robot_ns, False)
    assert clock.jumps == 1


def test_ticks_in_simulated_time_are_refused():
    with pytest.raises(NotRealTime, match="lives in real time"):
        Clocks().tick_clock().robot_ns(0)
