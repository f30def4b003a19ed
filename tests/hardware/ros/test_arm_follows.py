"""What the arm itself does, not only its command: held back, let go, moved by hand, seen wrongly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arm.state import Clear, Enable, Heartbeat, Mode
from hardware.safety.filter import FilterReason
from robot_rl.core.errors import RobotRLError
from tests.hardware.ros.arm_bench import LIMITS, SEEN_TICKS, Bench
from tests.hardware.ros.stubborn_arm import SPEED, TOLERANCE, Trial


def test_an_arm_that_follows_is_never_waited_for(trial):
    trial.go(8.0)
    assert trial.loop.counters.waits == 0
    assert trial.mode.mode is Mode.ACTIVE
    assert 0.9 * SPEED < trial.fastest <= TOLERANCE * SPEED


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.5])
def test_an_arm_held_back_for_a_moment_makes_good_within_its_own_speed(trial, scale):
    trial.go(1.0)
    trial.arm.slow_down(scale)
    trial.go(0.1)
    trial.arm.slow_down(1.0)
    trial.go(0.5)
    waits, before = trial.loop.counters.waits, trial.arm.position()[0]
    assert waits > 0
    trial.go(0.4)
    assert trial.arm.position()[0] > before + 0.3 * SPEED
    trial.go(3.0)
    assert trial.loop.counters.waits == waits
    assert trial.mode.mode is Mode.ACTIVE
    assert trial.fastest <= TOLERANCE * SPEED


def test_an_arm_that_stays_behind_is_a_fault_that_names_joint_command_and_measurement(trial):
    # An arm held for 2.4 s had commands 1.09 rad ahead, and moved at four times its limit when it was let go.
    trial.go(1.0)
    trial.arm.slow_down(0.0)
    held = trial.arm.position()[0]
    trial.go(2.4)
    assert trial.mode.mode is Mode.FAULT
    assert "('shoulder_pan') does not follow: commanded" in trial.mode.reason
    assert f"measured {held:.4g} rad" in trial.mode.reason
    trial.arm.slow_down(1.0)
    trial.go(2.0)
    assert trial.fastest <= TOLERANCE * SPEED
    assert trial.arm.position()[0] == pytest.approx(held, abs=LIMITS["following"]["wait"])


def test_what_is_acknowledged_while_the_command_waits_is_what_the_arm_will_make_of_it(trial):
    trial.go(1.0)
    trial.arm.slow_down(0.0)
    trial.go(0.15)
    answer = trial.acknowledged[-1]
    assert answer.reasons & FilterReason.FOLLOWING
    assert abs(answer.values[0] - trial.arm.position()[0]) <= LIMITS["following"]["wait"] + 1e-6


@pytest.mark.parametrize(
    ("by_rad", "seconds"), [(0.1, 0.1), (0.1, 0.3), (0.3, 0.15), (0.3, 0.3), (0.6, 0.3), (-0.6, 0.3)]
)
def test_an_arm_pushed_away_does_not_spring_back(trial, by_rad, seconds):
    trial.go(1.0)
    start, ticks = trial.arm.position(), round(seconds * 100)
    for tick in range(1, ticks + 1):
        trial.arm.put(start + np.array([by_rad * tick / ticks, 0, 0, 0, 0, 0, 0]))
        if tick % 5 == 0:
            trial.hear(Heartbeat("a"))
            trial.row(trial.goal)
        trial.tick()
    trial.true.clear()
    for _ in range(10):
        trial.hear(Heartbeat("a"))
        trial.row(trial.goal)
        trial.tick(5)
    assert trial.fastest <= TOLERANCE * SPEED
    if abs(by_rad) > 0.5:
        assert trial.mode.mode is Mode.FAULT
        assert "does not follow" in trial.mode.reason


@pytest.mark.parametrize("lie", [2 * np.pi, -1.3, np.nan, 9e9])
def test_one_false_sample_moves_nothing_and_stops_nothing(trial, lie):
    straight = Trial()
    straight.begin()
    straight.true.clear()
    for each in (trial, straight):
        each.go(1.0)
        each.arm.lie = lie if each is trial else 0.0
        each.tick()
        each.arm.lie = 0.0
        each.tick(4)
        each.go(2.0)
    assert np.array_equal(np.array(trial.arm.rows), np.array(straight.arm.rows))
    assert trial.loop.counters.rejected == 1
    assert trial.mode.mode is Mode.ACTIVE


def test_samples_that_stay_false_are_a_fault_in_words(trial):
    trial.go(1.0)
    trial.arm.lie = 2 * np.pi
    trial.go(0.2)
    assert trial.mode.mode is Mode.FAULT
    assert "joint_position: 3 samples in a row cannot be true" in trial.mode.reason
    assert trial.fastest <= TOLERANCE * SPEED


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.6, 1.0]), st.integers(1, 12)), max_size=12), st.booleans())
def test_however_its_speed_is_turned_down_and_up_the_arm_keeps_its_limit(changes, clear):
    bench = Trial()
    bench.begin()
    bench.true.clear()
    bench.go(0.6)
    for scale, rows in changes:
        bench.arm.slow_down(scale)
        bench.go(rows / 20)
        if clear and bench.mode.mode is Mode.FAULT:
            bench.drive_anew()
    bench.arm.slow_down(1.0)
    bench.go(1.0)
    assert bench.fastest <= TOLERANCE * SPEED


def test_an_arm_that_is_pushed_on_after_its_fault_does_not_spring_back_either(trial):
    trial.go(1.0)
    trial.by_hand([0.5, 0, 0, 0, 0, 0, 0])
    trial.by_hand([0.5, 0, 0, 0, 0, 0, 0], ticks=50)
    trial.true.clear()
    trial.tick(50)
    assert trial.mode.mode is not Mode.ACTIVE
    assert trial.fastest <= TOLERANCE * SPEED
    trial.hear(Clear("ada"))
    trial.tick(5)
    assert trial.loop.at_rest


def test_an_arm_pushed_out_of_its_box_is_not_followed_there():
    bench = Trial()
    place = bench.arm.position()
    place[0] = 2.9
    bench.arm.put(place)
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True))
    for tick in range(60):
        if tick % 5 == 0:
            bench.hear(Heartbeat("a"))
            bench.row(place)
        if tick >= 20:
            bench.arm.put(place + np.array([0.008 * (tick - 19), 0, 0, 0, 0, 0, 0]))
        bench.tick()
    assert np.array(bench.arm.rows)[:, 0].max() <= 3.0
    assert max(answer.values[0] for answer in bench.acknowledged) <= 3.0


# Limits that are missing or do not fit


def with_following(**changes):
    return {**LIMITS, "following": {**LIMITS["following"], **changes}}


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({key: each for key, each in LIMITS.items() if key != "following"}, "limits.following is missing"),
        (with_following(lag_s=None), "limits.following.lag_s is missing"),
        (with_following(lag_s=-0.1), "lag_s of .* is -0.1, wanted seconds above 0"),
        (with_following(wait=0.2), "wanted 0.05 to 0.05792"),
        (with_following(wait=0.04), "wait in ordinary motion"),
        (with_following(fault=0.05), "wanted more than its wait"),
        (with_following(fault=[0.2] * 6), "has 6 values, wanted 7"),
        (with_following(fault=float("nan")), "is nan, wanted a distance"),
        (with_following(rest=1), "limits.following has no key 'rest'"),
        ({**LIMITS, "following": 0.1}, "wanted a mapping with lag_s, wait, fault"),
        ({**LIMITS, "measured": {}, "start": dict.fromkeys(range(7), 0.0)}, ""),
        ({**LIMITS, "measured": {"elbow": {"stream": "joint_position", "index": 2}}}, "limits.measured of"),
    ],
)
def test_limits_with_which_nobody_would_notice_an_arm_that_does_not_follow_are_refused(limits, words):
    if not words:
        assert Bench(limits=limits).mode.mode is Mode.INACTIVE
        return
    with pytest.raises(RobotRLError, match=words):
        Bench(limits=limits)
