"""Where an arm's motion begins: after a fault, moved by hand, silent for a moment; what a reset obeys."""

import time

import numpy as np
import pytest

from hardware.arm.mail import ResetMail
from hardware.arm.state import Enable, Heartbeat, Mode, Stop
from hardware.safety.filter import FilterReason
from tests.hardware.ros.arm_bench import LIMITS, SEEN_TICKS, Bench
from tests.hardware.ros.stubborn_arm import SPEED, TOLERANCE, Trial


def test_after_a_fault_motion_begins_at_rest_where_the_arm_is_measured(trial):
    trial.go(1.0)
    trial.arm.slow_down(0.0)
    trial.go(1.0)
    trial.arm.slow_down(1.0)
    trial.tick(20)
    trial.by_hand([0.4, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    trial.drive_anew()
    trial.true.clear()
    before = trial.arm.position()
    trial.go(0.1)
    assert trial.mode.mode is Mode.ACTIVE
    assert np.abs(trial.true[0] - before).max() < 1e-3
    trial.go(2.0)
    assert trial.fastest <= TOLERANCE * SPEED


def test_a_first_sample_that_is_false_is_not_where_motion_begins():
    bench = Trial()
    bench.arm.lie = 0.5
    bench.tick()
    bench.arm.lie = 0.0
    bench.tick(SEEN_TICKS + 3)
    resting = bench.arm.position()
    bench.hear(Enable(True))
    for _ in range(6):
        bench.hear(Heartbeat("a"))
        bench.row(resting)
        bench.tick(5)
    assert bench.mode.mode is Mode.ACTIVE
    assert bench.arm.position() == pytest.approx(resting, abs=1e-6)


def test_an_arm_that_is_being_moved_is_not_enabled_until_it_rests():
    bench = Bench()
    bench.tick(SEEN_TICKS)
    start = bench.arm.position()
    for tick in range(1, 130):
        bench.arm.put(start + np.array([0.01 * tick, 0, 0, 0, 0, 0, 0]))
        bench.tick()
        if tick == 20:
            bench.hear(Enable(True))
    assert bench.mode.mode is Mode.INACTIVE
    assert "the arm is not at rest" in bench.mode.refusal
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True))
    assert bench.mode.mode is Mode.ACTIVE


@pytest.mark.parametrize("how", ["reset", "disabling and enabling"])
def test_streams_that_are_silent_for_a_moment_are_no_place_to_begin(trial, how):
    # The stream began again at the old pose: 0.163 rad in one command, 2.82 rad/s of the true arm, and nothing said.
    trial.go(1.0)
    trial.arm.stale = "joint_states is silent"
    for _ in range(4):
        trial.hear(Heartbeat("a"))
        trial.row(trial.goal)
        trial.tick(5)
    if how == "reset":
        trial.hear(ResetMail("a", 3))
    else:
        trial.hear(Enable(False))
    for _ in range(6):
        trial.hear(Heartbeat("a"))
        trial.tick()
    if how != "reset":
        trial.hear(Enable(True))
    moved = trial.arm.position() + np.array([0.3, 0, 0, 0, 0, 0, 0])
    trial.arm.put(moved)
    trial.true.clear()
    trial.arm.stale = ""
    for _ in range(40):
        trial.hear(Heartbeat("a"))
        trial.tick()
    told = len(trial.arm.rows)
    trial.goal = None
    trial.go(1.0)
    assert len(trial.arm.rows) > told or trial.mode.mode is not Mode.ACTIVE
    steps = np.abs(np.diff(np.array(trial.true)[:, :6], axis=0)).max(axis=1)
    teleported = 1 if how == "reset" else 0
    assert np.sort(steps)[-1 - teleported] * 100 <= TOLERANCE * SPEED


def test_a_stop_is_heard_while_the_driver_is_still_being_reset():
    # A driver that drives its arm home for 5 s kept a stop waiting for as long.
    bench = Trial()
    bench.tick(SEEN_TICKS)
    bench.arm.home.clear()
    bench.hear(Enable(True), ResetMail("a", 5), Heartbeat("a"))
    assert bench.arm.resetting.wait(10.0)
    bench.tick()
    bench.hear(Stop("the stop was pressed"))
    assert bench.mode.mode is Mode.STOPPED
    assert bench.arm.home.is_set(), "the driver was not told to stop"
    until_s = time.monotonic() + 10.0
    while time.monotonic() < until_s and bench.loop.resetting:
        bench.tick()
        time.sleep(0.001)
    assert bench.mode.episode == 0


def test_a_session_that_dies_while_the_driver_is_being_reset_stops_the_arm():
    bench = Trial()
    bench.tick(SEEN_TICKS)
    bench.arm.home.clear()
    bench.hear(Enable(True), ResetMail("a", 5), Heartbeat("a"))
    bench.tick(30)
    assert bench.mode.mode is Mode.STOPPED
    assert "no heartbeat from a" in bench.mode.reason
    assert bench.arm.home.is_set()


def test_rows_that_come_before_the_reset_is_over_are_not_obeyed():
    bench = Trial()
    bench.tick(SEEN_TICKS)
    bench.arm.home.clear()
    bench.hear(Enable(True), ResetMail("a", 5), Heartbeat("a"))
    bench.tick(2)
    assert bench.row(np.zeros(7)).reasons == FilterReason.DISABLED
    assert bench.arm.rows == []
    bench.arm.home.set()


@pytest.mark.parametrize(
    ("range_rad", "words"), [(3.0, "outside its limits -3 to 3"), (9.0, "1 turns from where it was, -2.9")]
)
def test_an_encoder_that_lost_count_at_a_reset_is_no_place_to_begin(range_rad, words):
    # The command began at the wrong turn, and was clipped to the range at once: the arm moved at four times its limit.
    bench = Trial(limits={**LIMITS, "low": [-range_rad] * 6 + [0.0], "high": [range_rad] * 6 + [1.0]})
    bench.arm.reset = lambda seed: setattr(bench.arm, "lie", 2 * np.pi)
    place = bench.arm.position()
    place[0] = -2.9
    bench.arm.put(place)
    bench.tick(SEEN_TICKS)
    bench.true.clear()
    bench.hear(Enable(True), ResetMail("a", 5))
    for _ in range(60):
        bench.hear(Heartbeat("a"))
        bench.tick(10)
    assert bench.mode.mode is Mode.FAULT
    assert words in bench.mode.reason
    assert bench.fastest == 0.0
