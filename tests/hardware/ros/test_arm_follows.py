"""What the arm itself does, not only its command: held back, let go, moved by hand, seen wrongly, reset, stopped."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arm.mail import ResetMail
from hardware.arm.state import Clear, Enable, Heartbeat, Mode, Stop
from hardware.safety.filter import FilterReason
from robot_rl.core.errors import RobotRLError
from tests.hardware.ros.arm_bench import LIMITS, SEEN_TICKS, Bench, WatchedArm

SPEED = 1.0
"""The limit of every joint in `LIMITS` [rad/s]."""
TOLERANCE = 1.05


class StubbornArm(WatchedArm):
    """An arm that can be held, slowed down, and seen wrongly; `lie` is added to what it shows."""

    def __init__(self, clock):
        super().__init__(clock)
        self.scale, self.lie = 1.0, 0.0
        self.resetting, self.home = threading.Event(), threading.Event()
        self.home.set()

    def slow_down(self, scale):
        self._hold_here()
        self.scale = scale

    def _hold_here(self):
        target = self._target
        self._hold_at(self.position())
        self._target = target

    def apply(self, action):
        self._hold_here()
        return super().apply(action)

    def _at(self, now_ns):
        return super()._at(self._anchor_ns + round((now_ns - self._anchor_ns) * self.scale))

    def observe(self, tick_ns):
        seen = super().observe(tick_ns)
        seen.values["joint_position"] = seen.values["joint_position"] + np.float32(self.lie)
        return seen

    def reset(self, seed):
        self.resetting.set()
        self.home.wait(10.0)
        super().reset(seed)

    def stop(self):
        self.home.set()
        super().stop()


class Trial(Bench):
    """Drives one joint back and forth at full speed, and keeps where every joint really is."""

    def __init__(self, **arguments):
        super().__init__(StubbornArm, **arguments)
        self.true, self.rows = [], 0
        self.goal = None

    def tick(self, count=1):
        for _ in range(count):
            super().tick()
            if hasattr(self, "true"):
                self.true.append(self.arm.position())

    def go(self, seconds):
        """Rows at 20 Hz towards an end of the range and back, in the time given."""
        self.goal = self.arm.position() if self.goal is None else self.goal
        for _ in range(round(seconds * 20)):
            self.rows += 1
            self.goal[0] += SPEED / 20 * min(self.rows, 10) / 10 * (1 if self.rows % 80 < 40 else -1)
            self.hear(Heartbeat("a"))
            self.row(self.goal)
            self.tick(5)

    @property
    def fastest(self):
        """Largest speed of any joint [rad/s]."""
        return np.abs(np.diff(np.array(self.true)[:, :6], axis=0)).max() * 100

    def drive_anew(self):
        """What a person does after a fault: look, clear, enable, go on."""
        self.hear(Clear("ada"))
        self.tick(SEEN_TICKS)
        self.goal, self.rows = None, 0
        self.hear(Enable(True), Heartbeat("a"))


@pytest.fixture
def trial():
    bench = Trial()
    bench.begin()
    bench.true.clear()
    return bench


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
