import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from hardware.operators.layout import LayoutError
from hardware.operators.terminal.key_motion import HeldKeys, HoldTiming
from hardware.operators.terminal.keyboard import KeyboardOperator
from robot_rl.core.episode import Observation, Outcome
from robot_rl.core.protocols import OperatorEvent
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

MS = 1_000_000
CONFIG = Path(__file__).parents[4] / "configs" / "operator" / "keyboard.yaml"

METAWORLD = RobotSpec(
    name="metaworld",
    observations={"state": ArraySpec((4,), "float32", "m"), "image_corner": ArraySpec((8, 8, 3), "uint8", "rgb")},
    action=ArraySpec((4,), "float32", "cm/tick,cm/tick,cm/tick,1", -1.0, 1.0, ("x", "y", "z", "gripper")),
    action_kinds=(ActionKind.RATE, ActionKind.RATE, ActionKind.RATE, ActionKind.POSITION),
    control_hz=80.0,
)
PUSHT = RobotSpec(
    name="pusht",
    observations={"state": ArraySpec((5,), "float32", "px")},
    action=ArraySpec((2,), "float32", "px", 0.0, 512.0),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=10.0,
)
RIGHT, LEFT, ESC = b"\x1b[C", b"\x1b[D", b"\x1b"


class TypedTerminal:
    """A terminal at which somebody types what a test says."""

    size = (80, 24)

    def __init__(self):
        self.typed = b""
        self.gone = False
        self.shown = ""
        self.inside = False

    def __enter__(self):
        self.inside = True
        return self

    def __exit__(self, *_):
        self.inside = False

    def read(self):
        if self.gone:
            return None
        typed, self.typed = self.typed, b""
        return typed

    def write(self, text):
        self.shown += text


class Person:
    """Somebody at the keyboard of a robot, with their own clock."""

    def __init__(self, spec, place=None, **settings):
        self.spec = spec
        self.terminal = TypedTerminal()
        self.now_ns = 10**12
        written = yaml.safe_load(CONFIG.read_text())["operator"]
        written = {key: value for key, value in written.items() if not key.startswith("_")}
        self.operator = KeyboardOperator(
            spec, clock_ns=lambda: self.now_ns, terminal=self.terminal, **{**written, **settings}
        )
        self.state = np.zeros(spec.observations["state"].shape, dtype=np.float32)
        self.state[: len(place or ())] = place or ()
        self.operator.reset(0)

    def poll(self, keys=b""):
        """One tick later."""
        self.terminal.typed += keys
        self.now_ns += self.spec.tick_ns
        values = {"state": self.state.copy()}
        for name in self.spec.images:
            values[name] = np.zeros(self.spec.observations[name].shape, dtype=np.uint8)
        return self.operator.poll(Observation(self.now_ns, values, dict.fromkeys(values, 0)))

    def hold(self, key, duration_s):
        """Holds a key as a terminal shows it: once, after 500 ms again, then every 33 ms. Returns the commands."""
        commands, elapsed_s = [self.poll(key)], 0.0
        next_s = 0.5
        while elapsed_s < duration_s:
            elapsed_s += self.spec.tick_ns / 1e9
            repeats = 0
            while next_s <= elapsed_s:
                next_s, repeats = next_s + 0.033, repeats + 1
            commands.append(self.poll(key * repeats))
        return commands

    def wait(self, duration_s):
        """Types nothing for a while; returns the commands."""
        return [self.poll() for _ in range(round(duration_s * self.spec.control_hz))]


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


# Motion of a robot that obeys rates


def test_nothing_is_asked_for_before_the_first_motion_key():
    person = Person(METAWORLD)
    assert all(each.action is None for each in person.wait(1.0))
    assert person.poll(b"d").action is not None


def test_a_tap_is_a_small_step_that_ends_by_itself():
    person = Person(METAWORLD)
    actions = np.array([each.action for each in [person.poll(b"d"), *person.wait(0.5)]])
    assert actions[0, 0] == pytest.approx(10.0 / 80)
    assert (actions[-1, :3] == 0).all()
    assert 0.5 < actions[:, 0].sum() < 2.0
    assert (actions[:, 1:3] == 0).all()


def test_a_held_key_moves_at_full_speed_until_it_is_released():
    person = Person(METAWORLD)
    held = np.array([each.action for each in person.hold(b"w", 1.5)])
    assert (held[int(0.55 * 80) :, 1] == np.float32(10.0 / 80)).all()
    after = np.array([each.action[1] for each in person.wait(0.5)])
    assert (np.diff(after) <= 0).all()
    assert after[round(0.3 * 80) :].max() == 0


def test_the_opposite_key_ends_a_motion_at_once():
    person = Person(METAWORLD)
    person.hold(b"w", 1.0)
    assert person.poll(b"s").action[1] == np.float32(-10.0 / 80)


@pytest.mark.parametrize(("key", "scale"), [(b"1", 0.25), (b"2", 1.0), (b"3", 2.0)])
def test_speeds(key, scale):
    person = Person(METAWORLD)
    person.poll(key)
    assert person.poll(b"d").action[0] == np.float32(scale * 10.0 / 80)


def test_the_gripper_key_switches():
    person = Person(METAWORLD, place=(0, 0, 0, 1.0))
    assert [person.poll(key).action[3] for key in (b"d", b"g", b"", b"g", b"")] == [-1, 1, 1, -1, -1]


@pytest.mark.parametrize(("opening", "effort"), [(1.0, -1.0), (0.5, 1.0)])
def test_taking_over_keeps_the_gripper_as_it_is_seen(opening, effort):
    person = Person(METAWORLD, place=(0, 0, 0, opening), correcting=True)
    assert person.poll(b"\t").action[3] == effort


# Motion of a robot that obeys positions


def test_a_position_starts_where_the_robot_is_seen():
    person = Person(PUSHT, place=(100, 200))
    first = person.poll(b"d").action
    assert first[0] == pytest.approx(100 + 15)
    assert first[1] == 200


def test_a_target_stays_where_it_was_left():
    person = Person(PUSHT, place=(100, 200))
    moved = person.hold(b"s", 1.0)[-1].action
    rested = [each.action for each in person.wait(2.0)]
    assert rested[-1][1] >= moved[1]
    assert (rested[-1] == rested[-5]).all()


def test_a_target_does_not_run_away_from_a_robot_that_is_blocked():
    person = Person(PUSHT, place=(100, 200))
    assert person.hold(b"d", 5.0)[-1].action[0] == 180


@pytest.mark.parametrize("key", [b"", b"d", b"a"])
def test_one_false_measurement_drags_no_target_along(key):
    person = Person(PUSHT, place=(200, 200))
    person.poll(b"d")
    person.wait(1.0)
    before = person.poll().action
    person.state[:2] = 0
    during = person.poll(key).action
    person.state[:2] = 200
    person.wait(1.0)
    after = person.poll().action
    assert abs(during - before).max() <= 150.0 / PUSHT.control_hz + 1e-6
    assert abs(after - before).max() <= 150.0 * 0.2 + 1e-6


def test_a_target_stays_in_the_action_space():
    person = Person(PUSHT, place=(500, 5))
    assert person.hold(b"d", 2.0)[-1].action[0] == 512
    assert person.hold(b"w", 2.0)[-1].action[1] == 0


def test_after_a_pause_the_target_is_where_the_robot_is():
    person = Person(PUSHT, place=(100, 200))
    person.hold(b"d", 0.5)
    assert person.poll(b" ").event is OperatorEvent.PAUSE
    person.wait(0.5)
    person.state[:2] = 300, 310
    person.poll(b" ")
    assert list(person.poll().action) == [300, 310]


def test_a_paused_robot_is_not_moved_by_keys():
    person = Person(PUSHT, place=(100, 200))
    person.poll(b"d")
    person.wait(0.5)
    person.poll(b" ")
    before = person.poll().action
    assert (person.hold(b"d", 1.0)[-1].action == before).all()


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


# Presses and holds


def test_a_press_within_the_repeat_delay_holds_and_a_later_one_taps():
    timing = HoldTiming(tap_s=0.1, repeat_delay_s=0.5, hold_s=0.2, decay_s=0.1)
    held = HeldKeys(timing)
    held.press("d", 0)
    assert [held.weight("d", ms * MS) for ms in (0, 100, 150, 200)] == pytest.approx([1, 1, 0.5, 0])
    held.press("d", 450 * MS)
    assert [held.weight("d", (450 + ms) * MS) for ms in (200, 250, 300)] == pytest.approx([1, 0.5, 0])
    held.press("d", 1200 * MS)
    assert held.weight("d", 1400 * MS) == 0
