import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.key_events import KeyEvents
from hardware.operators.leader_arm import LeaderArmOperator, LeaderReading
from hardware.operators.leader_following import LeaderFollowing, LeaderLayout
from robot_rl.types import Observation, OperatorEvent
from tests.hardware.operators.device_fakes import ARM
from tests.hardware.operators.test_leader_following import LAYOUTS, leader

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
        self.operator = LeaderArmOperator(ARM, self.leader, following, keys, "lead", correcting, self.told.append)
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
