"""The arm node's decisions, with a simulated arm and made-up time, without ROS."""

import math

import numpy as np
import pytest

from hardware.arm.controller import ArmController
from hardware.arm.mail import BadMail, ResetMail, RowMail
from hardware.arm.settings import ArmSettings
from hardware.arm.state import Clear, Enable, Heartbeat, Mode, Stop
from hardware.node_config import BadConfig
from hardware.safety.filter import FilterReason
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import NS_PER_S, ActionKind, ArraySpec, RobotSpec
from tests.hardware.ros.arm_bench import LIMITS, MS, SEEN_TICKS, Bench, WatchedArm


class StepRobot:
    """Time stands still; x moves by what is commanded; it judges itself."""

    simulated_time = True
    spec = RobotSpec(
        "step",
        {"x": ArraySpec((1,), "float32", "m")},
        ArraySpec((1,), "float32", "m/tick", low=-1.0, high=1.0),
        (ActionKind.RATE,),
        80.0,
    )

    slow = False

    def __init__(self, clock=None):
        self.x = None

    def reset(self, seed):
        self.x = float(seed)

    def observe(self, tick_ns):
        if self.x is None:
            raise StaleSensor("reset first")
        return Observation(tick_ns, {"x": np.array([self.x], np.float32)}, {"x": 0})

    def apply(self, action):
        self.x += float(action[0])
        return np.array(action)

    def judge(self):
        return Judgement(self.x, False, False)

    def stop(self):
        pass


def test_it_says_what_it_is_and_shows_its_streams_before_anything_is_asked():
    bench = Bench()
    assert bench.mode.mode is Mode.INACTIVE
    assert bench.mode.robot_spec() == bench.loop.spec
    assert set(bench.shown[0].values) == {"joint_position", "tool_pose"}
    bench.tick(5)
    assert len(bench.shown) == 6
    assert bench.arm.rows == []


def test_an_enabled_arm_follows_rows_and_acknowledges_each_with_what_it_does():
    bench = Bench()
    bench.begin()
    bench.drive(20)
    assert bench.mode.mode is Mode.ACTIVE
    assert (bench.mode.session, bench.mode.episode, bench.mode.seed) == ("a", 1, 3)
    assert [row.reasons for row in bench.acknowledged] == [0] * 20
    assert len(bench.arm.rows) == 100
    assert np.max(np.abs(np.diff(np.array(bench.arm.rows)[:, 0]))) <= 0.01 + 1e-6
    assert bench.arm.position()[0] == pytest.approx(bench.acknowledged[-1].values[0], abs=0.1)


def test_before_enabling_rows_are_answered_with_holding_and_nothing_is_commanded():
    bench = Bench()
    bench.tick()
    answer = bench.row(np.zeros(7))
    assert answer.reasons == FilterReason.DISABLED
    bench.tick(10)
    assert bench.arm.rows == []
    assert "command refused: inactive" in bench.mode.refusal


def test_without_a_heartbeat_rows_are_not_obeyed():
    bench = Bench()
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True))
    assert bench.row(np.zeros(7)).reasons == FilterReason.DEADMAN
    bench.tick(5)
    assert bench.arm.rows == []


def stopping(bench):
    """Ticks until the arm is at rest; its joints' speeds on the way."""
    places = [bench.arm.rows[-1][0]]
    for _ in range(100):
        bench.tick()
        places.append(bench.arm.rows[-1][0])
    assert bench.loop.at_rest
    return np.diff(places)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Stop("the stop was pressed"), "the stop was pressed"),
        (RowMail(0, "b", np.zeros(7, np.float32)), "second publisher of commands: a and b"),
        (ResetMail("b", 1), "second publisher of resets: a and b"),
    ],
)
def test_a_stop_brakes_to_rest_ends_with_the_safe_command_and_is_latched(cause, reason):
    bench = Bench()
    bench.begin()
    bench.drive()
    stops = bench.arm.stops
    bench.hear(cause)
    assert bench.mode.mode is Mode.STOPPED
    assert reason in bench.mode.reason
    steps = stopping(bench)
    assert np.all(np.diff(steps[:5]) <= 1e-6)
    assert bench.arm.stops == stops + 1
    sent = len(bench.arm.rows)
    bench.hear(Enable(True), Heartbeat("a"))
    bench.row(np.ones(7))
    bench.tick(20)
    assert len(bench.arm.rows) == sent
    assert bench.mode.mode is Mode.STOPPED


def test_only_clearing_and_enabling_again_ends_a_stop():
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.hear(Stop("button"))
    stopping(bench)
    bench.hear(Clear("ada"))
    assert (bench.mode.mode, bench.mode.reason) == (Mode.INACTIVE, "cleared by ada")
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True), Heartbeat("a"))
    before = bench.arm.position()[0]
    bench.drive(10, step=-0.02)
    assert bench.arm.position()[0] < before - 0.05


def test_commands_that_cease_stop_the_arm_within_the_watchdogs_time():
    bench = Bench(deadman=False)
    bench.begin()
    bench.drive()
    last_ns = bench.now_ns - 50 * MS
    while bench.mode.mode is Mode.ACTIVE:
        bench.tick()
    assert bench.now_ns - last_ns <= 120 * MS
    assert "no usable command from a" in bench.mode.reason
    stopping(bench)


def test_a_node_that_was_suspended_while_the_arm_moved_does_not_move_it_when_it_goes_on():
    # A process stopped for 1 s braked from the speed of a second ago: a resting arm jumped by 70 mrad.
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.clock.sleep_until_ns(bench.now_ns + NS_PER_S)
    resting = bench.arm.position()
    bench.tick(30)
    assert bench.mode.mode is Mode.STOPPED
    assert bench.arm.position() == pytest.approx(resting, abs=1e-6)
    assert bench.loop.at_rest
    assert bench.loop.counters.stalls == 1


def test_in_every_tick_the_command_goes_out_before_messages_are_made(monkeypatch):
    # The other way round the time between two commands was 0.6 ms off at 250 Hz; this way 0.1 ms, on a busy machine.
    bench = Bench()
    bench.begin()
    bench.drive()
    order, apply = [], bench.arm.apply
    monkeypatch.setattr(bench.arm, "apply", lambda row: (order.append("command"), apply(row))[1])
    monkeypatch.setattr(bench, "show", lambda _: order.append("show"))
    bench.tick(2)
    assert order == ["command", "show", "command", "show"]


def test_a_lost_heartbeat_stops_the_arm_although_rows_still_come():
    bench = Bench()
    bench.begin()
    bench.drive()
    for _ in range(10):
        bench.row(bench.arm.position())
        bench.tick(5)
    assert "no heartbeat from a" in bench.mode.reason


@pytest.mark.parametrize(("values", "reason"), [([math.nan] * 7, FilterReason.NOT_FINITE), (None, FilterReason.SHAPE)])
def test_a_malformed_row_is_refused_with_its_reason_and_does_not_feed_the_watchdog(values, reason):
    bench = Bench()
    bench.begin()
    bench.drive()
    for _ in range(4):
        bench.hear(Heartbeat("a"))
        answer = bench.row(values)
        bench.tick(5)
    assert answer.reasons & reason
    assert "no usable command" in bench.mode.reason


@pytest.mark.parametrize(("late_s", "words"), [(0.7, "0.700 s ago"), (-0.3, "0.300 s in the future")])
def test_a_row_from_another_time_is_refused_and_the_offset_named(late_s, words):
    bench = Bench()
    bench.begin()
    assert bench.row(np.zeros(7), late_s=late_s).reasons == FilterReason.CLOCK
    assert words in bench.mode.refusal
    bench.tick(5)
    assert bench.arm.rows == []


def test_a_jump_of_the_robots_clock_stops_what_is_active():
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.jump_ns = 2 * NS_PER_S
    bench.tick()
    assert "jumped by +2.000 s" in bench.mode.reason
    stopping(bench)


@pytest.mark.parametrize("doing", ["observe", "apply"])
def test_a_driver_that_raises_is_a_fault_and_gets_no_more_commands(doing):
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.arm.failing = doing
    bench.tick(5)
    assert bench.mode.mode is Mode.FAULT
    assert f"driver failed to {doing}" in bench.mode.reason
    assert "OSError: the wire is cut" in bench.mode.reason
    bench.arm.failing, sent = "", len(bench.arm.rows)
    bench.hear(Enable(True), Heartbeat("a"))
    bench.row(np.zeros(7))
    bench.tick(20)
    assert len(bench.arm.rows) == sent
    bench.hear(Clear("ada"))
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True))
    bench.hear(Heartbeat("a"))
    bench.drive(3)
    assert bench.mode.mode is Mode.ACTIVE
    assert len(bench.arm.rows) > sent


def test_stale_streams_brake_and_after_a_while_are_a_fault():
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.arm.stale = "joint_position is 400 ms old"
    for _ in range(14):
        bench.hear(Heartbeat("a"))
        bench.row(bench.arm.position())
        bench.tick(5)
    assert bench.mode.mode is Mode.FAULT
    assert bench.loop.at_rest


def test_an_arm_that_never_showed_anything_cannot_be_enabled():
    bench = Bench()
    fresh = WatchedArm(bench.clock)
    fresh.stale = "no sample yet"
    silent = ArmController(fresh, bench.settings, LIMITS, 20.0, bench)
    silent.begin(bench.now_ns, bench.robot_ns)
    silent.receive(Enable(True), bench.now_ns, bench.robot_ns)
    assert silent.state.mode is Mode.INACTIVE
    assert "has not shown every stream" in silent.refusal


def test_a_reset_waits_for_enabling_and_for_rest():
    bench = Bench()
    bench.tick(SEEN_TICKS)
    bench.hear(ResetMail("a", 5))
    assert bench.arm.seeds == []
    bench.hear(Enable(True))
    bench.settle()
    assert bench.arm.seeds == [5]
    bench.hear(Heartbeat("a"))
    bench.drive()
    bench.hear(ResetMail("a", 6), Heartbeat("a"))
    assert bench.arm.seeds == [5]
    bench.settle()
    assert bench.arm.seeds == [5, 6]
    assert bench.mode.episode == 2


def test_a_reset_that_nobody_enables_is_refused_after_a_while():
    bench = Bench()
    bench.hear(ResetMail("a", 5))
    bench.tick(150)
    bench.hear(Enable(True))
    assert bench.arm.seeds == []


def test_an_arm_that_is_enabled_again_begins_where_it_was_moved_to():
    bench = Bench()
    bench.begin()
    bench.drive()
    bench.hear(Enable(False))
    stopping(bench)
    moved = bench.by_hand([0.3, -0.2, 0.1, 0.0, 0.0, 0.0, 0.0])
    bench.tick(SEEN_TICKS)
    bench.hear(Enable(True), Heartbeat("a"))
    bench.row(moved)
    bench.tick()
    assert bench.arm.rows[-1] == pytest.approx(moved, abs=1e-6)


def test_nonsense_on_a_topic_is_told_and_changes_nothing():
    bench = Bench()
    bench.hear(BadMail("reset says nothing"))
    assert (bench.mode.mode, bench.mode.refusal) == (Mode.INACTIVE, "reset says nothing")


# In lockstep

STEP_LIMITS = {
    "low": [-1.0],
    "high": [1.0],
    "max_step": [1.0],
    "max_velocity": [80.0],
    "max_acceleration": [2e4],
    "max_jerk": [3e6],
    "max_age_s": {"x": 0.05},
    "ramp_after_s": 0.1,
    "fault_after_s": 0.5,
}


def lockstep():
    bench = Bench(StepRobot, STEP_LIMITS, None, lockstep=True, deadman=False)
    bench.hear(Enable(True), ResetMail("a", 2))
    return bench


def test_in_lockstep_every_row_is_one_step_shown_and_judged_before_it_is_acknowledged():
    bench = lockstep()
    bench.said.clear()
    answer = bench.row([0.5])
    assert bench.said == ["show", "judge", "acknowledge"]
    assert (answer.values[0], answer.reasons) == (0.5, 0)
    assert bench.arm.x == 2.5


def test_in_lockstep_what_is_shown_has_the_stamp_of_its_row_until_the_next():
    bench = lockstep()
    bench.hear(RowMail(5, "a", np.array([0.5], np.float32)))
    bench.tick(2)
    assert [each.stamp_ns for each in bench.shown[-3:]] == [5, 5, 5]
    bench.hear(ResetMail("a", 3, 9))
    assert bench.shown[-1].stamp_ns == 9


def test_in_lockstep_time_between_rows_means_nothing():
    bench = lockstep()
    bench.row([0.5])
    bench.clock.sleep_until_ns(bench.now_ns + 60 * NS_PER_S)
    bench.tick(3)
    assert bench.mode.mode is Mode.ACTIVE
    assert bench.arm.x == 2.5


def test_in_lockstep_a_repeated_row_is_answered_and_not_executed_again():
    bench = lockstep()
    mail = RowMail(5, "a", np.array([0.5], np.float32))
    bench.hear(mail, mail)
    assert len(bench.acknowledged) == 2
    assert bench.arm.x == 2.5


# Settings


def test_a_watchdog_shorter_than_the_rows_are_apart_is_refused():
    with pytest.raises(BadConfig, match=r"wanted at least 0\.075"):
        Bench(watchdog_s=0.06)


def test_a_lockstep_arm_obeys_only_its_own_rate():
    with pytest.raises(BadConfig, match="equal ones in lockstep"):
        ArmController(StepRobot(), ArmSettings({}, "/s", lockstep=True), STEP_LIMITS, 20.0, None)


def test_a_missing_limit_is_refused_before_anything_moves():
    with pytest.raises(RobotRLError, match="max_jerk is missing"):
        Bench(limits={key: value for key, value in LIMITS.items() if key != "max_jerk"})
