import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.runtime.fuzz_checks import LimitCheck
from benchmarks.runtime.fuzz_run import FuzzCount
from benchmarks.runtime.stream_fuzz import fuzz_round
from hardware.arm.interpolator import CommandInterpolator, limits_at_rate
from hardware.safety.dimensions import LimitError
from hardware.safety.filter import FilterReason, OperatorState
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.specs import NS_PER_S, ActionKind, ArraySpec, RobotSpec

MS = 1_000_000
ROW_HZ, STREAM_HZ = 20.0, 100.0
ROW_NS, TICK_NS = 50 * MS, 10 * MS
HALTED = OperatorState(enabled=False)
SEEN = Observation(1, {"state": np.zeros(1)}, {"state": 0})


def arm(kinds=(ActionKind.POSITION,), **changes):
    """Limits that a step of 0.01 per row does not notice, unless changed."""
    count = len(kinds)
    spec = RobotSpec(
        name="arm",
        observations={"state": ArraySpec((1,), "float64", "m")},
        action=ArraySpec((count,), "float64", "m"),
        action_kinds=tuple(kinds),
        control_hz=ROW_HZ,
    )
    document = {
        "low": [-1.0] * count,
        "high": [1.0] * count,
        "max_step": [0.5] * count,
        "max_velocity": [10.0] * count,
        "max_acceleration": [1e4] * count,
        "max_jerk": [1e7] * count,
        "max_age_s": {"state": 0.05},
        "ramp_after_s": 0.1,
        "fault_after_s": 0.5,
        **changes,
    }
    return CommandLimits.for_spec(spec, document)


class Player:
    """An interpolator and a clock: rows come when told to, ticks every 10 ms."""

    def __init__(self, limits=None, start=0.0):
        limits = limits or arm()
        self.interpolator = CommandInterpolator(limits, STREAM_HZ)
        self.now_ns = 0
        pose = np.full(len(limits.axes), start)
        self.interpolator.restart(pose)
        self.check = LimitCheck(self.interpolator.limits, pose)
        self.commands = []

    def row(self, *values, stamp_ns=None):
        return self.interpolator.take(
            np.array(values), self.now_ns if stamp_ns is None else stamp_ns, self.now_ns, SEEN
        )

    def tick(self, allowed=None, seen=SEEN):
        self.now_ns += TICK_NS
        made = self.interpolator.tick(self.now_ns, TICK_NS / NS_PER_S, seen, allowed)
        assert self.check(made.command) == []
        self.commands.append(made.command)
        return made

    def play(self, rows, ticks_per_row=5):
        for row in rows:
            self.row(*row)
            for _ in range(ticks_per_row):
                self.tick()


# What it makes of rows


def test_between_rows_the_command_runs_in_a_straight_line():
    player = Player()
    player.play([[0.01 * each] for each in range(1, 21)])
    steps = np.diff(np.array(player.commands)[20:, 0])
    assert steps == pytest.approx(0.002, rel=0.02)


def test_a_last_row_is_reached_exactly_and_kept():
    player = Player()
    player.play([[0.3]], ticks_per_row=30)
    made = player.tick()
    assert made.command[0] == 0.3
    assert made.dry
    assert made.reasons == 0


def test_the_displacement_of_every_row_is_made_in_full():
    player = Player(arm([ActionKind.RATE]))
    player.play([[0.01]] * 20 + [[-0.02]] * 5)
    for _ in range(10):
        player.tick()
    assert np.sum(player.commands) == pytest.approx(0.1)


def test_a_binary_dimension_switches_at_its_row_and_is_never_between():
    player = Player(arm([ActionKind.POSITION, ActionKind.BINARY], low=[-1.0, 0.0]))
    player.play([[0.0, 0.0], [0.05, 1.0], [0.1, 0.0]], ticks_per_row=6)
    gripper = np.array(player.commands)[:, 1]
    assert set(gripper) == {0.0, 1.0}
    assert np.count_nonzero(np.diff(gripper)) == 2


def test_before_any_row_nothing_is_requested():
    player = Player(start=0.4)
    made = player.tick()
    assert made.requested is None
    assert made.command[0] == 0.4


# Rows out of time


@pytest.mark.parametrize("late_ms", [2, 8])
def test_a_row_that_is_a_little_late_changes_nothing(late_ms):
    player = Player()
    player.play([[0.01 * each] for each in range(1, 11)])
    for each in range(11, 21):
        stamp_ns = player.now_ns
        player.interpolator.take(
            np.array([0.01 * each]), stamp_ns, stamp_ns + (late_ms * MS if each == 15 else 0), SEEN
        )
        for _ in range(5):
            assert not player.tick().dry
    assert np.diff(np.array(player.commands)[20:, 0]) == pytest.approx(0.002, rel=0.05)


def test_while_a_row_is_missing_the_command_rests_where_the_last_one_ended():
    player = Player()
    player.play([[0.1], [0.2]], ticks_per_row=9)
    assert player.commands[-1][0] == pytest.approx(0.2)
    assert player.interpolator.at_rest
    player.row(0.25)
    for _ in range(10):
        player.tick()
    assert player.commands[-1][0] == pytest.approx(0.25)


def test_after_a_longer_gap_the_first_row_stands_still_and_the_next_moves_on():
    player = Player()
    player.play([[0.1], [0.2]], ticks_per_row=15)
    taken = player.row(0.25)
    assert taken.reasons & FilterReason.CLOCK
    player.play([[0.26], [0.27], [0.28]])
    assert player.commands[-1][0] > 0.2


def test_a_row_that_comes_twice_is_answered_twice_and_executed_once():
    player = Player(arm([ActionKind.RATE]))
    first = player.row(0.05, stamp_ns=ROW_NS)
    assert player.row(0.05, stamp_ns=ROW_NS) is first
    for _ in range(20):
        player.tick()
    assert np.sum(player.commands) == pytest.approx(0.05)


def test_a_row_older_than_the_last_is_refused():
    player = Player()
    player.row(0.1, stamp_ns=10 * ROW_NS)
    taken = player.row(0.5, stamp_ns=9 * ROW_NS)
    assert (taken.applied[0], taken.reasons, taken.usable) == (0.1, FilterReason.CLOCK, False)


def test_rows_that_come_all_at_once_do_not_pile_up():
    player = Player()
    taken = [player.row(0.01 * each, stamp_ns=each * ROW_NS) for each in range(1, 10)]
    assert [each.usable for each in taken[:2]] == [True, True]
    assert taken[-1].reasons == FilterReason.CLOCK


@pytest.mark.parametrize("row", [[np.nan], [np.inf], [0.1, 0.1], ["a"]])
def test_a_row_that_makes_no_sense_is_refused_with_a_reason(row):
    taken = Player().row(*row)
    assert not taken.usable
    assert taken.reasons & (FilterReason.SHAPE | FilterReason.NOT_FINITE)
    assert taken.applied[0] == 0.0


def test_what_is_acknowledged_keeps_the_limits_of_the_rows():
    limits = arm(max_step=[0.05])
    taken = Player(limits).row(0.9)
    assert taken.applied[0] <= 0.05 * (1 + 1e-6)
    assert taken.reasons & FilterReason.STEP


# Stopping

SLOW = {"max_velocity": [0.25], "max_acceleration": [1.0], "max_jerk": [10.0]}


def test_taking_motion_away_brakes_to_rest_within_the_limits():
    player = Player(arm(**SLOW))
    player.play([[0.01 * each] for each in range(1, 21)])
    assert not player.interpolator.at_rest
    made = player.tick(HALTED)
    assert made.reasons & FilterReason.DISABLED
    assert not player.interpolator.at_rest
    for _ in range(60):
        player.tick(HALTED)
    assert player.interpolator.at_rest


def test_after_a_stop_old_rows_are_gone_and_a_new_one_begins_where_the_arm_is():
    player = Player(arm(**SLOW))
    player.play([[0.01 * each] for each in range(1, 21)])
    for _ in range(60):
        player.tick(HALTED)
    rest = player.commands[-1][0]
    assert player.tick().requested is None
    taken = player.row(rest)
    assert (taken.applied[0], taken.reasons) == (pytest.approx(rest), FilterReason.NONE)


def test_blindness_brakes_and_in_the_end_is_a_fault_that_only_clearing_ends():
    player = Player(arm(**SLOW))
    player.play([[0.01 * each] for each in range(1, 21)])
    for _ in range(60):
        player.tick(seen=None)
    assert player.interpolator.fault & FilterReason.STALE_STATE
    assert player.interpolator.at_rest
    player.row(0.5)
    before = player.tick().command[0]
    for _ in range(20):
        assert player.tick().command[0] == before
    player.interpolator.clear_fault()
    player.row(before + 0.01)
    for _ in range(30):
        player.tick()
    assert player.commands[-1][0] != before


def test_a_restart_keeps_a_fault():
    player = Player(arm(**SLOW))
    player.tick()
    for _ in range(60):
        player.tick(seen=None)
    player.interpolator.restart(np.zeros(1))
    assert player.interpolator.fault


# Limits at another rate


def test_limits_per_tick_follow_the_rate_and_those_per_second_stay():
    limits = arm([ActionKind.POSITION, ActionKind.RATE, ActionKind.BINARY])
    fast = limits_at_rate(limits, 100.0)
    assert fast.max_step == pytest.approx((0.1, 0.1, 0.5))
    assert fast.high == pytest.approx((1.0, 0.2, 1.0))
    assert (fast.max_velocity, fast.max_jerk) == (limits.max_velocity, limits.max_jerk)
    assert (fast.spec.control_hz, fast.spec.action.dtype) == (100.0, "float64")


@pytest.mark.parametrize("hz", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(hz):
    with pytest.raises(LimitError, match="wanted a positive rate"):
        limits_at_rate(arm(), hz)


def test_commands_slower_than_their_rows_are_refused():
    with pytest.raises(LimitError, match="cannot skip rows"):
        CommandInterpolator(arm(), 10.0)


# Whatever happens


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_command_and_no_answer_breaks_a_limit_or_changes_without_a_reason(seed):
    assert fuzz_round(seed, FuzzCount()) == []


happenings = st.lists(
    st.one_of(
        st.floats(-2, 2, width=32),
        st.sampled_from(["tick", "tick", "tick", "blind", "again", float("nan"), float("inf")]),
    ),
    max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(happenings, happenings)
def test_no_sequence_of_rows_moves_what_is_halted(before, after):
    player = Player(arm(**SLOW))

    def happen(each, allowed):
        if each in ("tick", "blind"):
            player.tick(allowed, None if each == "blind" else SEEN)
        elif each != "again":
            player.row(each)

    for each in before:
        happen(each, None)
    for _ in range(100):
        player.tick(HALTED)
    rest = player.commands[-1].copy()
    for each in after:
        happen(each, HALTED)
    assert player.tick(HALTED).command == rest
