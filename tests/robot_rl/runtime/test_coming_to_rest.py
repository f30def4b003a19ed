"""However an episode ends, the arm is commanded without a gap until it is at rest, and the first reason is recorded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judgement, OperatorCommand, OperatorEvent
from robot_rl.runtime.ending import Ending, ending_of
from robot_rl.sessions.setup import build_filter
from tests.robot_rl.rollout_fakes import BrakingFilter, ListSink, SeekingPolicy, TimelineOperator, run
from tests.robot_rl.runtime.test_faults_runtime import LIMITS
from tests.robot_rl.watched_arm import TICK_S, WATCHDOG_S, SharedTime, WatchedArm

DRIVING = OperatorCommand(np.array([0.0, 0.4, 1.0], np.float32))
EVENTS = {
    Ending.OPERATOR: OperatorCommand(event=OperatorEvent.END, outcome=Outcome.SUCCESS),
    Ending.REDO: OperatorCommand(event=OperatorEvent.REDO),
    Ending.STOP: OperatorCommand(event=OperatorEvent.STOP),
}
LAST = 9
"""Poll at which the episodes here are ended."""


class SlowOperator(TimelineOperator):
    """Takes its time to answer, as a busy device or a slow terminal does."""

    def __init__(self, clock, timeline, idle, slow_s=0.0):
        super().__init__(timeline, idle)
        self.clock, self.slow_s = clock, slow_s

    def poll(self, observation):
        self.clock.spend(self.slow_s)
        return super().poll(observation)


class SlowSink(ListSink):
    """Takes its time to store a step."""

    def __init__(self, clock, slow_s=0.0, full_at=None):
        super().__init__(full_at)
        self.clock, self.slow_s = clock, slow_s

    def append(self, step):
        self.clock.spend(self.slow_s)
        super().append(step)


def episode(arm, timeline=None, idle=DRIVING, policy=None, poll_s=0.0, sink_s=0.0, **given):
    """One episode of an arm that is judged by nobody, unless it is said."""
    sink = given.pop("sink", None) or SlowSink(arm.clock, sink_s)
    operator = SlowOperator(arm.clock, timeline, idle, poll_s)
    given = {"judge": None, "command_filter": BrakingFilter(arm.spec), "max_ticks": None, **given}
    result, sink, _ = run(policy, robot=arm, operator=operator, clock=arm.clock, sink=sink, **given)
    return result, sink


def broken_policy(arm):
    def explode(n, chunk):
        raise RuntimeError("out of memory")

    return SeekingPolicy(arm.spec, spoil=explode)


class Judged:
    """Content at the `LAST` look."""

    looks = 0

    def judge(self):
        self.looks += 1
        return Judgement(0.0, self.looks > LAST, self.looks > LAST)


def end_by(ending, arm, **slow):
    """An episode that drives for a while and ends in the given way."""
    driving = dict.fromkeys(range(LAST), DRIVING)
    match ending:
        case Ending.POLICY:
            return episode(arm, driving, OperatorCommand(), broken_policy(arm), **slow)
        case Ending.SILENCE:
            return episode(arm, driving, OperatorCommand(), operator_timeout_s=0.2, **slow)
        case Ending.SENSOR:
            arm.blind = range(LAST, 1000)
            return episode(arm, **slow)
        case Ending.FILTER:
            arm.camera_freezes = LAST
            return episode(arm, **slow)
        case Ending.TASK:
            return episode(arm, judge=Judged(), **slow)
        case Ending.TIME_LIMIT:
            return episode(arm, max_ticks=LAST, **slow)
        case _:
            return episode(arm, {LAST: EVENTS[ending]}, **slow)


WAYS = [each for each in Ending if each not in {Ending.INTERRUPT, Ending.ERROR}]


@pytest.mark.parametrize("ending", WAYS)
def test_commands_go_on_every_tick_until_the_arm_is_at_rest_and_then_it_is_stopped(ending):
    arm = WatchedArm(SharedTime())
    result, _ = end_by(ending, arm)
    assert ending_of(result) is ending
    assert arm.state.reason == "disabled"
    assert max(arm.gaps_s) <= TICK_S + 1e-9
    rates = [float(each[1]) for each in arm.executed]
    assert rates[-1] == 0.0
    assert rates.index(max(rates)) < len(rates) - 2, "it is braked, not cut off"


@settings(max_examples=60, deadline=None)
@given(
    ending=st.sampled_from(WAYS),
    poll_s=st.floats(0.0, 0.02),
    sink_s=st.floats(0.0, 0.02),
)
def test_slow_operators_and_recorders_do_not_bring_the_watchdog_on(ending, poll_s, sink_s):
    arm = WatchedArm(SharedTime())
    result, _ = end_by(ending, arm, poll_s=poll_s, sink_s=sink_s)
    assert ending_of(result) is ending
    assert arm.state.reason == "disabled", "never latched"
    assert max(arm.gaps_s) < WATCHDOG_S


FAULTS = {Ending.POLICY, Ending.SENSOR, Ending.SILENCE, Ending.FILTER}


class Failing(WatchedArm):
    """Fails, in a given way, once the episode has ended."""

    def __init__(self, clock, error, where):
        super().__init__(clock)
        self.error, self.where, self.ended = error, where, False

    def observe(self, tick_ns):
        seen = super().observe(tick_ns)
        if self.ended and self.where == "observe":
            raise self.error
        return seen

    def apply(self, action):
        if self.ended and self.where == "apply":
            raise self.error
        # The tick that ends the episode looks before it knows, and is the first to brake.
        self.ended |= len(self.executed) == LAST + (self.where == "observe")
        return super().apply(action)


@pytest.mark.parametrize("where", ["observe", "apply"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RobotRLError("the arm is in mode stopped: pressed"), "RobotRLError: the arm is in mode stopped: pressed"),
        (OSError("the wire is cut"), "OSError: the wire is cut"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_what_fails_on_the_way_to_rest_stands_behind_the_first_reason_and_goes_on_to_the_caller(error, words, where):
    arm = Failing(SharedTime(), error, where)
    sink = SlowSink(arm.clock)
    with pytest.raises(type(error)):
        episode(arm, {LAST + 1: EVENTS[Ending.OPERATOR]}, sink=sink)
    assert sink.result.reason == f"operator: success, then {words}"
    assert (ending_of(sink.result), sink.result.outcome) == (Ending.OPERATOR, Outcome.SUCCESS)
    assert arm.stops == 1
    assert not arm.state.active


def test_an_episode_to_be_done_again_is_thrown_away_also_if_the_arm_fails_on_the_way_to_rest():
    arm = Failing(SharedTime(), OSError("the wire is cut"), "apply")
    sink = SlowSink(arm.clock)
    with pytest.raises(OSError, match="the wire is cut"):
        episode(arm, {LAST + 1: EVENTS[Ending.REDO]}, sink=sink)
    assert sink.discarded
    assert arm.stops == 1


def test_a_recorder_that_fails_while_a_fault_is_ramped_out_does_not_hide_the_fault():
    whole, _ = end_by(Ending.SILENCE, WatchedArm(SharedTime()))
    arm = WatchedArm(SharedTime())
    sink = SlowSink(arm.clock, full_at=whole.ticks - 1)
    with pytest.raises(OSError, match="no space left"):
        end_by(Ending.SILENCE, arm, sink=sink)
    assert sink.result.reason == f"{whole.reason}, then OSError: no space left on device"
    assert not arm.state.active


def test_a_second_ctrl_c_does_not_keep_the_arm_from_being_stopped_nor_the_episode_from_being_kept():
    class Impatient(WatchedArm):
        def stop(self):
            if not self.stops:
                self.stops += 1
                raise KeyboardInterrupt
            super().stop()

    class Interrupting(SlowOperator):
        def poll(self, observation):
            if self.polls == LAST:
                raise KeyboardInterrupt
            return super().poll(observation)

    arm, sink = Impatient(SharedTime()), ListSink()
    operator = Interrupting(arm.clock, None, DRIVING)
    with pytest.raises(KeyboardInterrupt):
        run(robot=arm, operator=operator, clock=arm.clock, sink=sink, judge=None)
    assert not arm.state.active
    assert (sink.result.reason, sink.result.ticks) == ("interrupted", LAST)


# Pauses.

PAUSE = OperatorCommand(event=OperatorEvent.PAUSE)


@pytest.mark.parametrize("ending", EVENTS)
@pytest.mark.parametrize("last", [5, 6, 9, 30])
def test_an_episode_that_ends_in_a_pause_leaves_no_gap_and_does_not_wake_a_stopped_arm(ending, last):
    arm = WatchedArm(SharedTime())
    result, _ = episode(arm, {4: PAUSE, last: EVENTS[ending]})
    assert ending_of(result) is ending
    assert arm.state.reason == "disabled"
    assert max(arm.gaps_s) <= TICK_S + 1e-9
    assert float(arm.executed[-1][1]) == 0.0
    assert arm.commands_s[-1] < 1.0 + 20 * TICK_S, "no command after the stop"


def test_an_arm_that_was_stopped_in_a_pause_is_not_commanded_by_the_end_that_comes_before_the_next_action():
    arm = WatchedArm(SharedTime())
    episode(arm, {4: PAUSE, 30: PAUSE, 31: EVENTS[Ending.OPERATOR]})
    assert arm.commands_s[-1] < 1.0 + 20 * TICK_S
    assert arm.stops == 2


def handled(arm, timeline, idle, moved_at, by):
    """An episode during which somebody moves axis 0 by hand, while nothing is commanded, before poll `moved_at`."""

    class Pushing(SlowOperator):
        def poll(self, observation):
            if self.polls == moved_at:
                arm.position[0] += by
            return super().poll(observation)

    operator = Pushing(arm.clock, timeline, idle)
    command_filter = build_filter(arm.spec, LIMITS)
    run(robot=arm, operator=operator, clock=arm.clock, judge=None, command_filter=command_filter)


MOVING = OperatorCommand(np.array([-0.5, 0.0, 1.0], np.float32))
STEP = LIMITS["max_velocity"][0] * TICK_S


def test_after_a_pause_motion_starts_from_where_the_arm_is_seen_to_be():
    arm = WatchedArm(SharedTime())
    handled(arm, {8: PAUSE, 40: PAUSE, 60: EVENTS[Ending.OPERATOR]}, MOVING, 30, 0.6)
    gap = int(np.argmax(np.diff(arm.commands_s)))
    resting, resumed = arm.executed[gap][0], arm.executed[gap + 1][0]
    assert abs(resumed - (resting + 0.6)) <= STEP
    assert abs(resumed - resting) > 0.5


def test_the_first_command_starts_from_where_the_arm_is_seen_to_be_then_not_from_where_it_was_reset():
    arm = WatchedArm(SharedTime())
    silent = dict.fromkeys(range(30), OperatorCommand())
    start = []
    reset = arm.reset
    arm.reset = lambda seed: (reset(seed), start.append(float(arm.position[0])))
    handled(arm, {**silent, 60: EVENTS[Ending.OPERATOR]}, MOVING, 20, 0.5)
    assert abs(float(arm.executed[0][0]) - (start[0] + 0.5)) <= STEP


@pytest.mark.parametrize("timeline", [{4: PAUSE, 300: EVENTS[Ending.OPERATOR]}, {300: EVENTS[Ending.OPERATOR]}])
def test_a_person_may_guide_the_arm_by_hand_for_as_long_as_nobody_wants_to_move_it(timeline):
    class Guided(WatchedArm):
        doubt = ""

        def observe(self, tick_ns):
            self.doubt = "the arm is not at rest" if 20 < self.observed < 290 else ""
            return super().observe(tick_ns)

    arm = Guided(SharedTime())

    class Doubting(BrakingFilter):
        doubt = property(lambda self: arm.doubt)

    idle = DRIVING if 4 in timeline else OperatorCommand()
    result, _ = episode(arm, timeline, idle, command_filter=Doubting(arm.spec))
    assert ending_of(result) is Ending.OPERATOR, result.reason


def test_after_a_pause_nothing_is_sent_to_an_arm_that_is_not_seen():
    arm = WatchedArm(SharedTime(), blind=range(30, 34))
    result, _ = episode(arm, {4: PAUSE, 30: PAUSE, 50: EVENTS[Ending.OPERATOR]})
    assert ending_of(result) is Ending.OPERATOR
    resumed = [each for each in arm.commands_s if each > 1.0 + 25 * TICK_S]
    assert resumed[0] >= 1.0 + 34 * TICK_S - 1e-9
    assert all(later - sooner <= TICK_S + 1e-9 for sooner, later in itertools.pairwise(resumed))


def test_stale_ticks_do_not_leave_a_gap():
    arm = WatchedArm(SharedTime(), blind=range(6, 10))
    result, _ = episode(arm, {20: EVENTS[Ending.OPERATOR]})
    assert ending_of(result) is Ending.OPERATOR
    assert max(arm.gaps_s) <= TICK_S + 1e-9
