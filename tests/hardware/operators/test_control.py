import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.control import WISHES, Control, Wish
from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorEvent

NOTHING, TAKE_OVER, PAUSE, STOP = Wish(), WISHES["take_over"], WISHES["pause"], WISHES["stop"]
AWAY, ASKING, DRIVING = "away", "asking", "driving"
POLICY = {"correcting": True, "starts_by_motion": True}
POLICY_LEADER = {"correcting": True, "starts_by_motion": False}
ALONE = {"correcting": False, "starts_by_motion": True}
LEADER = {"correcting": False, "starts_by_motion": False}


def control(state=AWAY, **settings):
    """One in a state."""
    made = Control(**settings)
    made.driving, made.asking = state == DRIVING, state == ASKING
    return made


def state_of(who):
    assert not (who.driving and who.asking)
    return DRIVING if who.driving else ASKING if who.asking else AWAY


@pytest.mark.parametrize(
    ("settings", "state", "afterwards"),
    [
        (POLICY, AWAY, ASKING),
        (POLICY, ASKING, AWAY),
        (POLICY, DRIVING, AWAY),
        (POLICY_LEADER, AWAY, ASKING),
        (POLICY_LEADER, ASKING, AWAY),
        (POLICY_LEADER, DRIVING, AWAY),
        (ALONE, AWAY, AWAY),
        (ALONE, DRIVING, DRIVING),
        (LEADER, AWAY, ASKING),
        (LEADER, ASKING, AWAY),
        (LEADER, DRIVING, DRIVING),
    ],
)
@pytest.mark.parametrize("paused", [False, True])
def test_asking_takes_over_withdraws_or_gives_back_and_alone_nobody_lets_go(settings, state, afterwards, paused):
    who = control(state, **settings)
    who.paused = paused
    who.wish(TAKE_OVER)
    assert state_of(who) == afterwards
    assert who.paused == paused
    assert who.next_wish() == NOTHING


@pytest.mark.parametrize(("settings", "asks"), [(POLICY, True), (POLICY_LEADER, True), (LEADER, True), (ALONE, False)])
def test_the_first_motion_takes_control_only_where_nobody_has_to_ask(settings, asks):
    assert control(**settings).needs_asking == asks


@pytest.mark.parametrize("state", [AWAY, ASKING, DRIVING])
def test_control_that_is_granted_is_had(state):
    who = control(state)
    who.take()
    assert state_of(who) == DRIVING


def test_a_pause_begins_and_ends_with_the_same_wish_and_whoever_drives_keeps_driving():
    who = control(DRIVING)
    who.wish(PAUSE)
    assert not who.paused
    assert who.next_wish().event is OperatorEvent.PAUSE
    assert who.paused
    assert state_of(who) == DRIVING
    who.wish(PAUSE)
    assert who.next_wish().event is OperatorEvent.PAUSE
    assert not who.paused


def test_wishes_are_heeded_one_a_tick_in_order():
    who = control()
    for name in ("pause", "mark_success", "end", "redo", "stop"):
        who.wish(WISHES[name])
    heeded = [who.next_wish() for _ in range(6)]
    assert [(each.event.name, each.outcome) for each in heeded] == [
        ("PAUSE", None),
        ("NONE", Outcome.SUCCESS),
        ("END", None),
        ("REDO", None),
        ("STOP", None),
        ("NONE", None),
    ]


@pytest.mark.parametrize(
    ("name", "event", "outcome"),
    [
        ("success", OperatorEvent.END, Outcome.SUCCESS),
        ("failure", OperatorEvent.END, Outcome.FAILURE),
        ("end", OperatorEvent.END, None),
        ("redo", OperatorEvent.REDO, None),
        ("pause", OperatorEvent.PAUSE, None),
        ("stop", OperatorEvent.STOP, None),
        ("mark_success", OperatorEvent.NONE, Outcome.SUCCESS),
        ("mark_failure", OperatorEvent.NONE, Outcome.FAILURE),
        ("take_over", OperatorEvent.NONE, None),
    ],
)
def test_every_wish_becomes_a_command_beside_the_action(name, event, outcome):
    action = np.zeros(3)
    command = WISHES[name].command(action)
    assert (command.event, command.outcome) == (event, outcome)
    assert command.action is action


def test_the_newest_label_stays_until_the_next_episode():
    who = control()
    for name in ("mark_success", "mark_failure", "pause"):
        who.wish(WISHES[name])
        who.next_wish()
    assert who.label is Outcome.FAILURE
    who.reset()
    assert who.label is None


def test_a_new_episode_forgets_everything_but_a_wish_to_stop():
    who = control(DRIVING, correcting=True)
    for each in (PAUSE, STOP, WISHES["end"], PAUSE):
        who.wish(each)
    who.next_wish()
    who.see_applied(np.ones(2))
    who.reset([WISHES["redo"], STOP])
    assert (state_of(who), who.paused, who.applied, who.moved) == (AWAY, False, None, False)
    assert [who.next_wish() for _ in range(3)] == [STOP, STOP, NOTHING]


# While the device is lost


@pytest.mark.parametrize(
    ("correcting", "state", "paused", "pauses"),
    [
        (True, AWAY, False, True),
        (True, DRIVING, False, True),
        (True, AWAY, True, False),
        (False, DRIVING, False, True),
        (False, DRIVING, True, False),
        (False, AWAY, False, False),
        (False, ASKING, False, False),
    ],
)
def test_a_lost_device_pauses_once_whoever_drives(correcting, state, paused, pauses):
    who = control(state, correcting=correcting)
    who.paused = paused
    events = [who.next_wish(lost=True).event for _ in range(3)]
    assert events == [OperatorEvent.PAUSE if pauses else OperatorEvent.NONE] + [OperatorEvent.NONE] * 2
    assert who.paused == (paused or pauses)


def test_while_the_device_is_lost_nobody_goes_on_and_what_else_is_wished_for_is_heeded_after_the_pause():
    who = control(DRIVING)
    for each in (PAUSE, WISHES["success"], PAUSE):
        who.wish(each)
    heeded = [who.next_wish(lost=True) for _ in range(3)]
    assert heeded == [PAUSE, WISHES["success"], NOTHING]
    assert who.paused
    who.wish(PAUSE)
    assert who.next_wish() == PAUSE
    assert not who.paused


@given(
    st.lists(st.tuples(st.sampled_from(["", *WISHES, "take", "reset"]), st.booleans()), max_size=60),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_wished_for_nothing_moves_while_the_device_is_lost(script, correcting, starts_by_motion):
    who = Control(correcting, starts_by_motion)
    paused = False
    for act, lost in script:
        if act == "reset":
            who.reset()
            paused = False
        elif act == "take":
            who.take()
        elif act:
            who.wish(WISHES[act])
        paused ^= who.next_wish(lost).event is OperatorEvent.PAUSE
        assert paused == who.paused
        assert not (lost and not who.paused and (who.driving or correcting))
        assert not (who.driving and who.asking)


# Where the robot was told to be


def test_what_was_applied_is_where_to_drive_on_from_until_a_pause_in_which_it_may_be_moved():
    who = control(DRIVING)
    assert who.applied is None
    who.see_applied(np.array([1.0]))
    assert (who.applied, who.moved) == (1.0, False)
    who.wish(PAUSE)
    who.next_wish()
    who.see_applied(np.array([2.0]))
    assert (who.applied, who.moved) == (2.0, True)
    who.wish(PAUSE)
    who.next_wish()
    assert who.moved
    who.see_applied(np.array([3.0]))
    assert (who.applied, who.moved) == (3.0, False)
