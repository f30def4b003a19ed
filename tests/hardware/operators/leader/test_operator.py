import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.layout import LayoutError
from hardware.operators.leader.following import LeaderFollowing, LeaderLayout
from hardware.operators.leader.operator import LeaderArmOperator, LeaderReading
from hardware.operators.leader.watch import LeaderWatch
from hardware.operators.terminal.key_events import KeyEvents
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.device_fakes import ARM
from tests.hardware.operators.leader.test_following import LAYOUTS, leader

NONE, PAUSE = OperatorEvent.NONE, OperatorEvent.PAUSE
TAB, SPACE = b"\t", b" "


class HeldLeader:
    """A leader arm that a test moves."""

    name = "leader arm on /leader/joint_states"

    def __init__(self):
        self.positions, self.problem, self.inside = leader(0.0, 0.4), "", False

    def __enter__(self):
        self.inside = True
        return self

    def __exit__(self, *_):
        self.inside = False

    def reading(self):
        return LeaderReading({}, self.problem) if self.problem else LeaderReading(dict(self.positions))


class Typed:
    """A terminal at which somebody types what a test says."""

    size = (80, 24)

    def __init__(self):
        self.typed = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self):
        typed, self.typed = self.typed, b""
        return typed

    def write(self, text):
        pass


class Person:
    """Somebody with a leader arm; the follower is where it was told to be, and obeys nothing in a pause."""

    def __init__(self, place=(0.0, 0.0, 0.0), correcting=False):
        self.leader, self.terminal, self.told, self.paused = HeldLeader(), Typed(), [], False
        following = LeaderFollowing(ARM, LeaderLayout.for_spec(ARM, LAYOUTS), align_within=0.1, ramp_s=0.4)
        keys = KeyEvents(self.terminal)
        watch = LeaderWatch(("l_hip", "l_knee", "l_grip"), (10.0, 10.0, 20.0), 0.05)
        self.operator = LeaderArmOperator(
            ARM, self.leader, following, keys, watch, "lead", correcting, self.told.append
        )
        self.place = np.array(place, dtype=np.float32)
        self.now_ns = 10**12
        self.operator.reset(0)

    def poll(self, keys=b"", **moved):
        self.leader.positions.update({f"l_{joint}": value for joint, value in moved.items()})
        self.terminal.typed += keys
        self.now_ns += ARM.tick_ns
        command = self.operator.poll(Observation(self.now_ns, {"joint_position": self.place}, {"joint_position": 0}))
        self.paused ^= command.event is PAUSE
        if command.action is not None and not self.paused:
            self.operator.see_applied(command.action)
            self.place = command.action.astype(np.float32)
        return command

    def wait(self, ticks):
        return [self.poll() for _ in range(ticks)]


def test_nothing_follows_before_control_was_asked_for():
    person = Person()
    assert all(person.poll(hip=hip).action is None for hip in (0.0, 0.05, 1.0))


def test_an_aligned_leader_is_followed_from_the_followers_pose():
    person = Person(place=(0.05, 0.0, 0.0))
    first = person.poll(TAB).action
    assert first == pytest.approx([0.05, 0.0, 0.0])
    assert first.dtype == ARM.action.dtype
    assert person.wait(20)[-1].action == pytest.approx([0.0, 0.0, 0.0])
    assert person.poll(hip=0.3).action[0] == pytest.approx(0.3)


def test_a_leader_that_is_not_aligned_is_refused_with_how_far_it_is_off_until_it_is():
    person = Person(place=(0.5, 0.0, 0.0))
    assert person.poll(TAB).action is None
    assert person.told[-1] == "lead: not aligned, move the leader: l_hip by +0.50"
    assert all(command.action is None for command in person.wait(30))
    assert person.told.count(person.told[-1]) == pytest.approx(31 / 10, abs=1.0)
    assert person.poll(hip=0.45).action == pytest.approx([0.5, 0.0, 0.0])
    assert person.told[-1] == "lead: you drive"


def test_asking_again_withdraws_the_request():
    person = Person(place=(0.5, 0.0, 0.0))
    person.poll(TAB)
    person.poll(TAB)
    assert person.poll(hip=0.5).action is None


def test_a_gripper_that_holds_something_must_be_closed_by_the_leader_too():
    person = Person(correcting=True)
    person.operator.see_applied(np.array([0.0, 0.0, 1.0]))
    assert person.poll(TAB).action is None
    assert person.told[-1] == "lead: not aligned, move the leader: l_grip by +0.60"
    assert person.poll(grip=0.7).action == pytest.approx([0.0, 0.0, 1.0])


def test_a_takeover_starts_from_the_last_command_rather_than_from_where_the_follower_lags_behind():
    person = Person(place=(0.0, 0.0, 0.0), correcting=True)
    person.operator.see_applied(np.array([0.08, 0.0, 0.0]))
    assert person.poll(TAB).action[0] == pytest.approx(0.08)


def test_with_a_policy_the_key_gives_back_and_without_one_it_does_not_let_go():
    person = Person(correcting=True)
    assert person.poll(TAB).action is not None
    assert person.poll(TAB).action is None
    person = Person()
    person.poll(TAB)
    assert person.poll(TAB).action is not None


def test_taking_over_again_starts_from_where_the_policy_left_the_follower_not_from_where_it_once_waited():
    person = Person(correcting=True)
    person.poll(TAB)
    person.poll(SPACE)
    assert person.poll(SPACE).action == pytest.approx([0.0, 0.0, 0.0])
    assert person.poll(TAB).action is None
    person.operator.see_applied(np.array([0.5, 0.0, 0.0]))
    assert person.poll(TAB).action is None
    assert person.told[-1] == "lead: not aligned, move the leader: l_hip by +0.50"
    assert person.poll(hip=0.45).action == pytest.approx([0.5, 0.0, 0.0])


def test_after_a_pause_the_follower_waits_where_it_is_until_both_agree_anew():
    person = Person()
    person.poll(TAB)
    person.wait(20)
    assert person.poll(SPACE).event is PAUSE
    person.wait(5)
    person.place = np.array([0.6, 0.0, 0.0], dtype=np.float32)
    person.poll(hip=1.0)
    command = person.poll(SPACE)
    assert command.event is PAUSE
    assert command.action == pytest.approx([0.6, 0.0, 0.0])
    assert all(each.action == pytest.approx([0.6, 0.0, 0.0]) for each in person.wait(10))
    assert person.told[-1] == "lead: not aligned, move the leader: l_hip by -0.40"
    assert person.poll(hip=0.55).action[0] == pytest.approx(0.6)
    assert person.wait(20)[-1].action[0] == pytest.approx(0.55)


def test_a_silent_leader_gives_no_action_pauses_once_and_says_so():
    person = Person()
    person.poll(TAB)
    person.leader.problem = "cannot be followed: the newest sample is 300 ms old"
    commands = person.wait(10)
    assert all(command.action is None for command in commands)
    assert [command.event for command in commands] == [PAUSE] + [NONE] * 9
    assert person.told[-1] == "lead: cannot be followed: the newest sample is 300 ms old"
    person.leader.problem = ""
    person.poll()
    assert person.told[-1] == "lead: leader arm on /leader/joint_states is back; Space goes on"


def test_nobody_can_go_on_while_the_leader_is_lost():
    person = Person(correcting=True)
    person.poll(SPACE)
    person.leader.problem = "gone"
    assert [person.poll(keys).event for keys in (SPACE, b"", SPACE)] == [NONE] * 3
    person.leader.problem = ""
    assert person.poll(SPACE).event is PAUSE


def test_a_leader_lost_while_the_policy_drives_pauses_the_policy_in_every_episode():
    person = Person(correcting=True)
    person.poll()
    person.leader.problem = "gone"
    assert person.poll().event is PAUSE
    person.operator.reset(1)
    assert person.poll().event is PAUSE


# A leader that jumps

JUMPS = {
    "zeros of a servo that did not answer": {"hip": 0.0, "knee": 0.0, "grip": 0.0},
    "an encoder's wrap": {"hip": 0.9 + 2 * np.pi},
    "another turn": {"knee": 0.4 - 4 * np.pi},
    "all bits set": {"hip": 4095.0, "knee": 4095.0, "grip": 4095.0},
    "a sign": {"hip": -0.9},
    "no number": {"hip": np.nan},
    "infinity": {"grip": -np.inf},
}


def following_person(**settings):
    """Somebody whose leader is followed at 0.9."""
    person = Person(place=(0.9, 0.0, 0.0), **settings)
    person.poll(TAB, hip=0.5)
    person.poll(hip=0.9)
    assert person.wait(20)[-1].action == pytest.approx([0.9, 0.0, 0.0])
    return person


@pytest.mark.parametrize("kind", JUMPS)
@pytest.mark.parametrize("ticks", [1, 2, 5, 40])
def test_a_leader_that_jumps_is_not_followed_there_and_the_joint_is_named(kind, ticks):
    person = following_person()
    true = dict(person.leader.positions)
    commands = [person.poll(**JUMPS[kind]), *person.wait(ticks - 1)]
    assert all(command.action == pytest.approx([0.9, 0.0, 0.0]) for command in commands)
    [told] = [words for words in person.told if "the leader is lost" in words]
    assert any(f"'l_{joint}'" in told for joint in JUMPS[kind])
    assert "the robot holds still until both agree again" in told
    person.leader.positions = true
    assert all(command.action == pytest.approx([0.9, 0.0, 0.0]) for command in person.wait(10))
    assert person.told[-1] == "lead: you drive"
    person.poll(hip=0.95)
    assert person.wait(20)[-1].action[0] == pytest.approx(0.95)


def test_a_leader_that_stays_in_another_turn_is_held_against_and_told_to_be_homed():
    person = following_person()
    person.poll(hip=0.9 + 2 * np.pi)
    assert all(command.action[0] == pytest.approx(0.9) for command in person.wait(60))
    assert person.told[-1] == (
        "lead: not aligned, move the leader: l_hip by -6.28; l_hip is off by whole turns, as after an encoder's wrap: "
        "home the leader, start its driver anew"
    )


def test_a_leader_beyond_the_followers_range_is_not_aligned_with_its_end():
    person = Person(place=(2.0, 0.0, 0.0))
    person.leader.positions["l_hip"] = 2.0 + 2 * np.pi
    assert all(person.poll(keys).action is None for keys in (TAB, b"", b"", b"", b""))


def test_a_leader_that_keeps_jumping_is_never_aligned_with_and_told_of_once_control_is_asked_for():
    person = Person(place=(0.9, 0.0, 0.0))
    person.wait(3)
    for tick in range(20):
        assert person.poll(hip=0.9 * (tick % 2)).action is None
    assert person.told == []
    for tick in range(20):
        assert person.poll(TAB if tick == 0 else b"", hip=0.9 * (tick % 2)).action is None
    assert len(person.told) == 1
    assert "the leader is lost: 'l_hip' went from" in person.told[0]


def test_a_jump_in_a_pause_is_aligned_anew_after_it():
    person = following_person()
    person.poll(SPACE)
    person.wait(3)
    person.poll(hip=-0.9)
    person.wait(3)
    assert person.poll(SPACE).action == pytest.approx([0.9, 0.0, 0.0])
    assert all(command.action == pytest.approx([0.9, 0.0, 0.0]) for command in person.wait(20))


def test_readings_are_judged_by_their_own_stamps_so_that_a_late_one_is_no_jump():
    watch = LeaderWatch(("hip",), max_speed=2.0, margin=0.05)
    assert watch.problem({"hip": 0.0}, 0) == ""
    assert watch.problem({"hip": 0.6}, 300_000_000) == ""
    assert "'hip' went from 0.6 to 1.2 rad within 10.0 ms" in watch.problem({"hip": 1.2}, 310_000_000)


@pytest.mark.parametrize(
    ("max_speed", "margin"), [(None, 0.1), (1.0, None), (0.0, 0.1), ((1.0, 1.0), 0.1), (np.inf, 0.1), ("fast", 0.1)]
)
def test_a_leader_without_a_bound_of_its_speed_is_refused_in_words(max_speed, margin):
    with pytest.raises(LayoutError, match=r"operator.max_speed is .* give operator.max_speed and operator.margin"):
        LeaderWatch(("hip", "knee", "grip"), max_speed, margin)


@given(
    st.lists(
        st.tuples(st.floats(-0.05, 0.05), st.one_of(st.none(), st.none(), st.floats(-7, 7), st.just(np.nan))),
        max_size=80,
    )
)
@settings(deadline=None)
def test_whatever_a_leader_says_a_command_never_goes_further_than_a_hand_can(script):
    person = Person(place=(0.0, 0.0, 0.0))
    person.poll(TAB)
    hip = 0.0
    for step, false in script:
        hip += step
        before = float(person.place[0])
        command = person.poll(hip=hip if false is None else false)
        # 0.55 is what the bound allows in a tick; the ramp of a new alignment adds its own slope.
        assert abs(command.action[0] - before) <= 0.55 + 1.5 * 0.1 * ARM.tick_ns / 400_000_000 + 1e-5


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"", b"", b"", TAB, SPACE]), st.floats(-0.05, 0.05), st.sampled_from(["", "", "", "gone"])
        ),
        max_size=60,
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_is_done_with_the_leader_commands_never_jump_and_a_lost_one_gives_none(script, correcting):
    person = Person(correcting=correcting)
    hip, slope = 0.0, 1.5 * 0.1 * ARM.tick_ns / 400_000_000
    moved, paused = 0.0, False
    for keys, step, problem in script:
        hip += step
        moved += abs(step)
        person.leader.problem = problem
        before = float(person.place[0])
        command = person.poll(keys, hip=hip)
        assert not (problem and command.action is not None)
        paused ^= command.event is PAUSE
        assert paused or not (problem and correcting), "the policy drives and nobody can stop it"
        if command.action is not None:
            assert abs(command.action[0] - before) <= moved + slope + 1e-5
            moved = 0.0


def test_the_operator_hears_the_leader_only_while_entered():
    person = Person()
    with person.operator:
        assert person.leader.inside
    assert not person.leader.inside
    assert person.told[0].startswith("lead: leader arm on /leader/joint_states; Tab takes control.")
