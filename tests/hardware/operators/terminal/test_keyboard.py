import time

import numpy as np
import pytest

from hardware.operators.layout import LayoutError
from hardware.operators.terminal.keyboard import KeyboardOperator
from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.terminal.keyboard_person import ESC, LEFT, METAWORLD, PUSHT, RIGHT, Person, TypedTerminal

# Keys


@pytest.mark.parametrize(
    ("keys", "event", "outcome"),
    [
        (RIGHT, OperatorEvent.END, None),
        (b"\x1bOC", OperatorEvent.END, None),
        (b"n", OperatorEvent.END, None),
        (LEFT, OperatorEvent.REDO, None),
        (b"r", OperatorEvent.REDO, None),
        (b"q", OperatorEvent.STOP, None),
        (b" ", OperatorEvent.PAUSE, None),
        (b"y", OperatorEvent.NONE, Outcome.SUCCESS),
        (b"x", OperatorEvent.NONE, Outcome.FAILURE),
        (b"Y", OperatorEvent.END, Outcome.SUCCESS),
        (b"X", OperatorEvent.END, Outcome.FAILURE),
        (b"\x1b[15~", OperatorEvent.NONE, None),
        ("é".encode(), OperatorEvent.NONE, None),
    ],
)
def test_every_key_means_what_the_legend_says(keys, event, outcome):
    command = Person(METAWORLD).poll(keys)
    assert (command.action, command.event, command.outcome) == (None, event, outcome)


def test_escape_alone_stops_and_an_arrow_in_two_pieces_does_not():
    person = Person(METAWORLD)
    assert person.poll(ESC).event is OperatorEvent.NONE
    assert [each.event for each in person.wait(0.2)].count(OperatorEvent.STOP) == 1
    person = Person(METAWORLD)
    events = [person.poll(ESC).event, person.poll(b"[").event, person.poll(b"C").event]
    assert events == [OperatorEvent.NONE, OperatorEvent.NONE, OperatorEvent.END]


def test_keys_typed_within_one_tick_are_all_heard_in_order():
    person = Person(METAWORLD)
    events = [person.poll(b"y ").event, *(each.event for each in person.wait(0.05))]
    assert events[:3] == [OperatorEvent.NONE, OperatorEvent.PAUSE, OperatorEvent.NONE]


def test_a_closed_terminal_stops_the_session_once():
    person = Person(METAWORLD)
    person.terminal.gone = True
    assert [person.poll().event for _ in range(3)] == [OperatorEvent.STOP, OperatorEvent.NONE, OperatorEvent.NONE]


def test_what_was_typed_between_episodes_is_forgotten_except_a_wish_to_stop():
    person = Person(METAWORLD)
    person.terminal.typed = b"nnddY"
    person.operator.reset(1)
    assert person.poll().event is OperatorEvent.NONE
    person.terminal.typed = b"ndq"
    person.operator.reset(2)
    assert person.poll().event is OperatorEvent.STOP


def test_a_wish_to_stop_that_an_end_came_before_stops_the_next_episode():
    person = Person(METAWORLD)
    assert person.poll(RIGHT + b"q").event is OperatorEvent.END
    person.operator.reset(1)
    assert person.poll().event is OperatorEvent.STOP


@pytest.mark.parametrize("slip", [b"n", b"r"])
def test_a_letter_that_ends_an_episode_is_a_slip_while_moving(slip):
    person = Person(METAWORLD)
    person.poll(b"d")
    assert person.poll(slip).event is OperatorEvent.NONE
    person.poll(b"d")
    assert person.poll(RIGHT).event is OperatorEvent.END
    person.wait(0.5)
    assert person.poll(slip).event is not OperatorEvent.NONE


def test_stopping_is_never_taken_for_a_slip():
    person = Person(METAWORLD)
    person.poll(b"d")
    assert person.poll(b"q").event is OperatorEvent.STOP


# With a policy


def test_tab_takes_over_and_gives_back():
    person = Person(PUSHT, place=(100, 200), correcting=True)
    assert person.poll(b"d").action is None
    assert list(person.poll(b"\t").action) == [100, 200]
    person.state[:2] = 50, 60
    assert person.poll(b"\t").action is None
    assert list(person.poll(b"\t").action) == [50, 60]


def test_tab_takes_over_from_the_last_command():
    person = Person(PUSHT, place=(100, 200), correcting=True)
    person.operator.see_applied(np.array([110, 190], dtype=np.float32))
    assert list(person.poll(b"\t").action) == [110, 190]


def test_without_a_policy_tab_does_not_let_go():
    person = Person(PUSHT, place=(100, 200))
    person.poll(b"d")
    assert person.poll(b"\t").action is not None


def test_a_new_episode_starts_with_the_policy_in_control():
    person = Person(PUSHT, correcting=True)
    person.poll(b"\t")
    person.operator.reset(1)
    assert person.poll().action is None


# Layouts and what is shown


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (None, "no layout for robot 'pusht'; operator.layouts has other: add a section"),
        ({"moving": []}, "nothing drives action dimension 0 of 'pusht'"),
        ({"moving": [{"dimension": 5, "minus": "a", "plus": "d", "speed": 1}]}, "no action dimension '5' of 'pusht'"),
        ({"moving": [{"dimension": 0, "minus": "a", "plus": "d", "speed": 1}]}, "give stream and index"),
        ({"moving": [{"dimension": 0, "keys": "ad"}]}, "it takes dimension, minus, plus, speed"),
        (
            {"switching": [{"dimension": 0, "key": "n", "first": 0, "second": 1}] * 2},
            "two entries of operator.layouts.pusht drive",
        ),
        (
            {"switching": [{"dimension": each, "key": "n", "first": 0, "second": 1} for each in (0, 1)]},
            "uses 'n', which is taken",
        ),
        ({"moving": [{"dimension": 0, "minus": "a", "plus": "d", "speed": 1, "stream": "tool"}]}, "no stream 'tool'"),
    ],
)
def test_keys_that_do_not_fit_the_robot_are_refused_in_words(layout, message):
    with pytest.raises(LayoutError, match=message):
        KeyboardOperator(PUSHT, {"pusht": layout} if layout is not None else {"other": {}}, terminal=TypedTerminal())


def test_a_key_layout_with_an_axis_is_refused():
    axes = [{"dimension": each, "axis": "left_x", "speed": 1, "stream": "state"} for each in (0, 1)]
    with pytest.raises(LayoutError, match="no axis 'left_x'; there is none"):
        KeyboardOperator(PUSHT, {"pusht": {"moving": axes}}, terminal=TypedTerminal())


def test_a_duration_of_nothing_is_refused():
    with pytest.raises(LayoutError, match=r"operator.timing.decay_s is 0.0, wanted seconds above 0"):
        Person(PUSHT, timing={"decay_s": 0.0})


def test_a_camera_that_is_not_there_cannot_be_viewed():
    with pytest.raises(LayoutError, match=r"operator.view is 'image_wrist', which is no camera of 'metaworld'"):
        Person(METAWORLD, view="image_wrist")


def test_the_legend_names_every_key_of_the_layout():
    operator = Person(METAWORLD, correcting=True).operator
    legend = operator.legend()
    assert all(key in legend for key in operator.layout.controls)
    assert all(word in legend for word in ("Tab", "Esc", "Right", "Left", "Space", "gripper open / closed"))


def test_the_operator_owns_the_terminal_only_while_entered():
    person = Person(METAWORLD)
    with person.operator:
        assert person.terminal.inside
        assert "left / right" in person.terminal.shown
    assert not person.terminal.inside


@pytest.mark.parametrize(("spec", "shown"), [(METAWORLD, "\N{UPPER HALF BLOCK}"), (PUSHT, "state   100.000")])
def test_a_camera_is_drawn_or_else_the_state_is_written_out(spec, shown):
    person = Person(spec, place=(100, 200))
    person.terminal.size = (80, 40)
    with person.operator:
        person.operator.note("filter: step 12")
        deadline = 200
        while shown not in person.terminal.shown and deadline:
            person.poll(b"d")
            deadline -= 1
            time.sleep(0.01)
    assert shown in person.terminal.shown
    assert "you drive" in person.terminal.shown
    assert "filter: step 12" in person.terminal.shown
