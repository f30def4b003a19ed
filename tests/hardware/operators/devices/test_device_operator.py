import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.layout import Layout, LayoutError
from hardware.operators.terminal.key_events import KeyEvents
from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.device_fakes import ARM, METAWORLD, Holder
from tests.hardware.operators.devices.pad_holder import LAYOUTS, Typed, holder

NONE, PAUSE = OperatorEvent.NONE, OperatorEvent.PAUSE


# Silence


def test_a_device_at_rest_asks_for_nothing():
    person = holder()
    assert all(person.poll().action is None for _ in range(100))


def test_holding_the_dead_man_button_alone_asks_for_nothing():
    assert holder().poll(lb=1.0).action is None


def test_a_stick_without_the_dead_man_button_asks_for_nothing():
    person = holder()
    assert person.poll(left_x=1.0).action is None
    assert person.poll("a").action is None


def test_a_trembling_stick_inside_the_dead_zone_asks_for_nothing():
    person = holder()
    assert all(person.poll(lb=1.0, left_x=value).action is None for value in (0.09, -0.1, 0.05))


# Motion


def test_a_deflected_stick_moves_at_its_speed():
    person = holder()
    person.poll(lb=1.0)
    action = person.poll(left_x=1.0, left_y=-1.0, rt=0.55).action
    assert action == pytest.approx([10 / 80, 10 / 80, 0.5 * 10 / 80, -1.0])
    assert action.dtype == np.float32


def test_letting_go_of_the_dead_man_button_holds_still():
    person = holder()
    person.poll(lb=1.0)
    assert person.poll(left_x=1.0).action[0] > 0
    assert person.poll(lb=0.0).action == pytest.approx([0, 0, 0, -1.0])


def test_letting_go_leaves_a_target_where_it_was():
    person = holder(ARM, (0.5, -0.25, 0.0))
    person.poll(lb=1.0)
    moved = person.poll(left_x=1.0).action
    assert moved == pytest.approx([0.55, -0.25, 0.0])
    assert all((person.poll(lb=0.0, left_x=1.0).action == moved).all() for _ in range(10))


def test_a_target_does_not_run_away_from_an_arm_that_is_blocked():
    person = holder(ARM, (0.5, -0.25, 0.0))
    person.poll(lb=1.0)
    for _ in range(100):
        action = person.poll(left_x=1.0).action
    assert action[0] == pytest.approx(0.8)


def test_a_dimension_without_controls_stays_where_it_was_taken_over():
    person = holder(ARM, (0.5, -0.25, 0.0))
    person.poll(lb=1.0)
    person.poll(left_x=1.0)
    person.place[1] = 1.0
    assert person.poll().action[1] == -0.25


def test_the_gripper_button_switches_with_every_press():
    person = holder(ARM, (0, 0, 0.9))
    person.poll(lb=1.0)
    assert [person.poll(*pressed).action[2] for pressed in (["a"], [], ["a"], ["a"])] == [0.0, 0.0, 1.0, 0.0]


def test_a_stick_that_is_held_when_an_episode_begins_moves_nothing_until_it_was_let_go():
    person = holder(METAWORLD)
    person.poll(lb=1.0, left_x=1.0)
    person.operator.reset(1)
    assert all(person.poll().action is None for _ in range(5))
    person.poll(left_x=0.0)
    assert person.poll(left_x=1.0).action[0] > 0


def test_a_stick_held_since_before_the_dead_man_button_moves_nothing_and_the_person_is_told_once():
    person = holder(METAWORLD)
    person.poll(left_x=0.6)
    assert all(person.poll(lb=1.0).action is None for _ in range(5))
    assert person.told == ["pad: let go of left_x (+0.60) first; nothing moves until the device was at rest"]
    person.poll(left_x=0.0)
    assert person.poll(left_x=1.0).action[0] > 0


def test_pressing_the_dead_man_button_again_with_a_stick_deflected_moves_nothing_until_it_was_let_go():
    person = holder(METAWORLD)
    person.poll(lb=1.0)
    assert person.poll(left_x=1.0).action[0] > 0
    person.poll(lb=0.0)
    assert person.poll(lb=1.0).action[0] == 0
    assert person.told == ["pad: let go of left_x (+1.00) first; nothing moves until the device was at rest"]
    person.poll(left_x=0.0)
    assert person.poll(left_x=1.0).action[0] > 0
    person.poll(lb=0.0)
    person.poll(lb=1.0)
    assert len(person.told) == 2


@given(value=st.floats(-1, 1), dead_zone=st.floats(0, 0.9), expo=st.floats(0, 1))
def test_the_stick_shape_is_odd_bounded_and_dead_in_its_zone(value, dead_zone, expo):
    stick = StickShape(dead_zone, expo)
    shaped = stick.shaped(value)
    assert abs(shaped) <= 1.0
    assert shaped == -stick.shaped(-value) or value == 0.0
    assert abs(value) > dead_zone or shaped == 0.0
    assert stick.shaped(1.0) == pytest.approx(1.0)


@given(low=st.floats(-1, 1), high=st.floats(-1, 1), expo=st.floats(0, 1))
def test_the_stick_shape_never_goes_back(low, high, expo):
    stick = StickShape(0.1, expo)
    assert (low <= high) <= (stick.shaped(low) <= stick.shaped(high))


# With a policy


def test_a_button_takes_over_from_where_the_robot_is_seen_and_gives_back():
    person = holder(ARM, (0.5, -0.25, 0.9), correcting=True)
    assert person.poll(lb=1.0, left_x=1.0).action is None
    person.poll(left_x=0.0)
    assert person.poll("b").action == pytest.approx([0.5, -0.25, 1.0])
    person.place[0] = 0.1
    assert person.poll("b").action is None
    assert person.poll("b").action[0] == pytest.approx(0.1)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 29))
def test_taking_over_is_continuous_wherever_the_arm_is_and_whatever_the_stick_does(path, taken_at):
    person = holder(ARM, (0, 0, 0), correcting=True)
    person.poll()
    last = None
    for tick, place in enumerate(path):
        person.place[0] = place if last is None else last
        action = person.poll(*(["b"] if tick == taken_at else []), lb=1.0, left_x=place).action
        if action is not None:
            assert abs(action[0] - person.place[0]) <= 1.0 / ARM.control_hz + 1e-6
            last = action[0]


def test_taking_over_starts_from_the_last_command():
    person = holder(ARM, (0.5, -0.25, 0.0), correcting=True)
    person.operator.see_applied(np.array([0.6, -0.2, 1.0]))
    assert person.poll("b").action == pytest.approx([0.6, -0.2, 1.0])


def test_after_a_pause_the_arm_is_where_it_is_seen_and_the_gripper_as_it_was_told():
    person = holder(ARM, (0.5, -0.25, 0.0), correcting=True)
    person.poll("b")
    person.operator.see_applied(np.array([0.6, -0.2, 1.0]))
    person.poll("start")
    person.operator.see_applied(np.array([0.6, -0.2, 1.0]))
    person.place[:2] = -1.0, 1.0
    command = person.poll("start")
    assert command.event is PAUSE
    assert command.action == pytest.approx([-1.0, 1.0, 1.0])


def test_without_a_policy_the_take_over_button_does_not_let_go():
    person = holder()
    person.poll(lb=1.0)
    person.poll(left_x=1.0)
    assert person.poll("b").action is not None


# Buttons


@pytest.mark.parametrize(
    ("button", "event", "outcome"),
    [
        ("up", OperatorEvent.END, Outcome.SUCCESS),
        ("down", OperatorEvent.END, Outcome.FAILURE),
        ("right", OperatorEvent.END, None),
        ("left", OperatorEvent.REDO, None),
        ("start", OperatorEvent.PAUSE, None),
        ("select", OperatorEvent.STOP, None),
        ("mode", OperatorEvent.NONE, None),
    ],
)
def test_every_button_means_what_is_written(button, event, outcome):
    command = holder().poll(button)
    assert (command.action, command.event, command.outcome) == (None, event, outcome)


def test_buttons_pressed_within_one_tick_are_all_heard_in_order():
    person = holder()
    assert [person.poll("start", "up").event, person.poll().event, person.poll().event] == [
        PAUSE,
        OperatorEvent.END,
        NONE,
    ]


def test_what_was_pressed_between_episodes_is_forgotten_except_a_wish_to_stop():
    person = holder()
    person.device.pressed += ["up", "left"]
    person.operator.reset(1)
    assert person.poll().event is NONE
    person.device.pressed += ["up", "select"]
    person.operator.reset(2)
    assert person.poll().event is OperatorEvent.STOP


def test_keys_label_pause_and_take_over_beside_the_device():
    def make(spec, device, say):
        written = DeviceSettings("pad", ButtonWishes(), correcting=True)
        layout = Layout.for_spec(spec, LAYOUTS)
        typed = KeyEvents(Typed(b"", b"\t", b" ", b"Y", None))
        return DeviceOperator(spec, layout, device, written, typed, say)

    person = Holder(METAWORLD, make, (0, 0, 0, 1))
    commands = [person.poll() for _ in range(5)]
    assert commands[0].action is not None
    events = [command.event for command in commands]
    assert events == [NONE, PAUSE, OperatorEvent.END, OperatorEvent.STOP, NONE]
    assert commands[2].outcome is Outcome.SUCCESS


def test_the_operator_reads_the_device_only_while_entered():
    person = holder()
    with person.operator:
        assert person.device.inside
    assert not person.device.inside
    assert person.told == ["pad: Fake pad, hold lb to move"]


@pytest.mark.parametrize(
    ("buttons", "message"),
    [
        ({"jump": "a"}, "operator.buttons has no 'jump'; there is take_over, success"),
        ({"stop": "z"}, "operator.buttons.stop is 'z', which is none of a, b"),
        ({"stop": "a", "redo": "a"}, "operator.buttons.stop and operator.buttons.redo are both 'a'"),
        ({"stop": "b"}, "operator.deadman and operator.buttons.stop are both 'b'"),
    ],
)
def test_buttons_that_cannot_be_are_refused_in_words(buttons, message):
    with pytest.raises(LayoutError, match=message):
        ButtonWishes.of(buttons).check(["a", "b"], "b")


@pytest.mark.parametrize("wrong", [{"dead_zone": 1.0}, {"dead_zone": -0.1}, {"expo": 1.5}])
def test_a_stick_that_would_not_move_is_refused(wrong):
    with pytest.raises(LayoutError, match=next(iter(wrong))):
        StickShape(**wrong)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"deadzone": 0.1}, "operator.stick has no 'deadzone'; there is dead_zone, expo"),
        ({"expo": "much"}, "operator.stick.expo is 'much', wanted a number"),
        ({"dead_zone": float("nan")}, "operator.stick.dead_zone is nan, wanted a number"),
    ],
)
def test_a_shape_that_is_none_is_refused_in_words(written, message):
    with pytest.raises(LayoutError, match=message):
        StickShape.of(written)
