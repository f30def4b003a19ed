"""What a pad moves that was held when it was opened, lost events, or was lost itself: nothing until it was at rest."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.devices.device_events import DeviceReader
from hardware.operators.devices.event_recording import EventRecording
from hardware.operators.devices.gamepad import about_gamepad, connect_gamepad, play_gamepad
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.kernel_fakes import InputKernel
from tests.hardware.operators.devices.pad_fakes import (
    BRAKE,
    COUNTED_KEYS,
    GAS,
    HAT0X,
    HAT0Y,
    HAT1X,
    HAT1Y,
    HAT2X,
    HAT2Y,
    PADS,
    RUDDER,
    RX,
    RY,
    RZ,
    SOUTH,
    THROTTLE,
    TL,
    X,
    Y,
    Z,
    byte,
    deflections,
    opened,
    person,
    signed,
)

# At rest or not


@pytest.mark.parametrize("code", [X, Y, RX, RY, Z, RZ])
def test_what_is_held_when_the_pad_is_plugged_in_moves_nothing_until_it_was_at_rest(kernel, code):
    axes, keys, wanted = PADS["Xbox 360 by cable"]
    control = {code: name for name, code in {"left_x": X, "left_y": Y, **wanted}.items()}[code]
    rest, minimum, maximum = axes[code]
    device = kernel.plug(3, axes | {code: (maximum, minimum, maximum)}, keys)
    reader, told = opened(kernel)
    assert told == [
        f"Fake pad: not at rest when it was opened: {control} (+1.00). They count as let go until they have been; if "
        "nobody holds them, press them through once, or something is stuck or worn out"
    ]
    for held in (maximum - 5, maximum, round(0.6 * maximum)):
        device.move({code: held})
        assert deflections(reader) == {}
    device.move({code: rest})
    device.move({code: maximum})
    assert deflections(reader) == {control: 1.0}


def test_a_button_that_is_down_when_the_pad_is_plugged_in_presses_nothing_until_it_was_let_go(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys, down=[TL, 0x13B])
    reader, told = opened(kernel)
    assert "left_bumper (+1.00), start (+1.00)" in told[0]
    device.send((1, TL, 2))
    reader.pump()
    assert reader.reading().values.get("left_bumper", 0.0) == 0.0
    device.move(up=[TL, 0x13B])
    device.move(down=[TL])
    reader.pump()
    assert reader.reading()[:2] == ({"left_bumper": 1.0, "start": 0.0}, ("left_bumper",))


@pytest.mark.parametrize("drift", [-0.2, 0.12, 0.24])
def test_a_worn_stick_is_at_rest_where_it_rests_and_in_its_middle_and_still_reaches_its_ends(kernel, drift):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {X: signed(round(drift * 32768))}, keys)
    reader, told = opened(kernel)
    assert told == [f"Fake pad: left_x rests at {drift:+.2f} of its way: counted as at rest up to there"]
    for rest in (0.0, drift / 2, drift):
        device.move({X: round(rest * 32768)})
        assert deflections(reader) == {}
    for value, wanted in ((-32768, -1.0), (32767, 1.0)):
        device.move({X: value})
        assert deflections(reader) == {"left_x": wanted}


def test_a_trigger_that_reads_half_until_it_is_first_pressed_moves_nothing(kernel):
    axes, keys, _ = PADS["triggers resting at -32768"]
    device = kernel.plug(3, axes | {Z: signed(0), RZ: signed(0)}, keys)
    reader, told = opened(kernel)
    assert "left_trigger (+0.50), right_trigger (+0.50)" in told[0]
    device.move({RZ: 20000})
    assert deflections(reader) == {}
    device.move({RZ: -32768})
    device.move({RZ: 32767})
    assert deflections(reader) == {"right_trigger": 1.0}


# Events that were lost, pads that were lost


def test_after_events_were_lost_the_kernel_is_asked_where_everything_is(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    device.move({X: 32767}, down=[TL, 0x13B])
    reader.pump()
    assert reader.reading().pressed == ("left_x", "left_bumper", "start")
    device.move({X: 16384, RZ: 255}, down=[SOUTH], up=[TL], lost=True)
    device.overrun()
    reader.pump()
    reading = reader.reading()
    assert {name: value for name, value in reading.values.items() if abs(value) > 0.1} == {
        "left_x": pytest.approx(0.5, abs=1e-3),
        "right_trigger": 1.0,
        "a": 1.0,
        "start": 1.0,
    }
    assert set(reading.pressed) == {"a", "right_trigger"}, "a button that stayed down was pressed once"


def test_when_events_were_lost_and_the_pad_is_gone_everything_is_at_rest(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    device.move({X: 32767}, down=[TL])
    reader.pump()
    device.overrun()
    device.pull()
    assert deflections(reader) == {}


def test_a_pad_plugged_in_again_with_a_stick_and_buttons_held_moves_and_presses_nothing(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    reader, told = opened(kernel)
    device.move({X: 32767}, down=[TL, SOUTH])
    reader.pump()
    device.pull()
    reader.pump()
    assert reader.reading().values == {}
    device = kernel.plug(3, axes | {X: signed(32767)}, keys, down=[TL, SOUTH])
    reader.pump()
    device.move({X: 30000})
    reader.reading()
    assert deflections(reader) == {}
    assert reader.reading()[1:] == ((), 2, "")
    assert "left_x (+1.00)" in told[-1]


def test_a_pad_of_the_same_name_is_named_with_the_one_that_was_chosen(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    kernel.plug(3, axes, keys)
    kernel.plug(4, axes, keys)
    [note] = opened(kernel)[1]
    assert "event3; there is also" in note
    assert "event4 (Fake pad): operator.device chooses" in note


def test_a_lost_pad_is_not_taken_for_another_of_its_name_that_lay_beside_it(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    kernel.plug(4, axes, keys)
    passed_over = set()
    reader = DeviceReader(lambda: connect_gamepad(root=kernel.root, passed_over=passed_over))
    reader.connect()
    device.pull()
    for _ in range(3):
        reader.pump()
    assert reader.reading()[2:] == (1, "Fake pad is gone (it says nothing more): plug it in again")
    device = kernel.plug(5, axes, keys)
    reader.pump()
    device.move({X: 32767})
    assert deflections(reader) == {"left_x": 1.0}


# From the pad to the arm


TRIGGER_LAYOUT = {
    "moving": [{"dimension": "z", "minus": "left_trigger", "plus": "x", "speed": 10.0}],
    "switching": [{"dimension": "gripper", "key": "a", "first": -1.0, "second": 1.0}],
}


def test_an_arm_stays_while_the_stick_that_was_held_on_plugging_in_is_not_let_go(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {X: signed(30000)}, keys)
    somebody = person(kernel)
    for x in (29000, 32767, 20000):
        device.move({X: x}, down=[TL])
        somebody.operator.pump()
        assert somebody.poll().action is None
    device.move({X: 0})
    somebody.operator.pump()
    somebody.poll()
    device.move({X: 32767})
    somebody.operator.pump()
    assert somebody.poll().action[0] == pytest.approx(10 / 80)


def test_a_stick_held_on_plugging_in_moves_nothing_even_if_the_kernel_has_0_until_the_pad_speaks(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, {code: (0, *span) for code, (_, *span) in axes.items()}, keys)
    somebody = person(kernel)
    somebody.poll()
    device.move({X: 30000}, down=[TL])
    for x in (29000, 32767, 20000):
        somebody.operator.pump()
        assert somebody.poll().action is None
        device.move({X: x})
    device.move({X: 100})
    somebody.operator.pump()
    somebody.poll()
    device.move({X: 32767})
    somebody.operator.pump()
    assert somebody.poll().action[0] == pytest.approx(10 / 80)


def test_triggers_held_on_plugging_in_that_look_turned_round_move_nothing_when_they_are_let_go(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {Z: byte(255), RZ: byte(255)}, keys)
    somebody = person(kernel, layouts={"metaworld": TRIGGER_LAYOUT})
    somebody.poll()
    device.move({Z: 0, RZ: 0})
    for down, up in ([TL], []), ([], [TL]), ([TL], []):
        device.move(down=down, up=up)
        somebody.operator.pump()
        somebody.operator.pump()
        assert [somebody.poll().action for _ in range(5)] == [None] * 5
    assert "let go of left_trigger (+1.00)" in somebody.told[-1]


AXES = st.dictionaries(
    st.sampled_from([X, Y, Z, RX, RY, RZ, THROTTLE, RUDDER, GAS, BRAKE, HAT0X, HAT0Y, HAT1X, HAT1Y, HAT2X, HAT2Y]),
    st.tuples(*[st.sampled_from([-32768, -1, 0, 1, 127, 128, 255, 1023, 32767]) for _ in range(3)]),
)


@given(AXES, st.sets(st.sampled_from(COUNTED_KEYS)), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_a_pad_in_whatever_state_whose_axes_nobody_moves_moves_nothing(axes, down, overruns):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = InputKernel(Path(folder), patch)
        axes = {X: byte(), Y: byte(), **axes}
        device = kernel.plug(3, axes, COUNTED_KEYS, down - {SOUTH, 0x133, 0x134})
        somebody = person(kernel, layouts={"metaworld": EVERY_AXIS})
        for _ in range(overruns + 1):
            device.move(down=[TL])
            device.overrun()
            somebody.operator.pump()
            assert [somebody.poll().action is None for _ in range(3)] == [True] * 3
            device.move(up=[TL])
            somebody.operator.pump()
            somebody.poll()


EVERY_AXIS = {
    "moving": [
        {"dimension": "x", "axis": "left_x", "speed": 10.0},
        {"dimension": "y", "axis": "right_y", "speed": 10.0},
        {"dimension": "z", "minus": "left_trigger", "plus": "right_trigger", "speed": 10.0},
    ],
    "switching": [{"dimension": "gripper", "key": "a", "first": -1.0, "second": 1.0}],
}


def test_a_recording_carries_where_the_pad_was_and_what_was_down(kernel):
    axes, keys, _ = PADS["PlayStation without its driver"]
    kernel.plug(3, axes | {X: byte(255)}, keys, down=[TL])
    connection = connect_gamepad(root=kernel.root)
    recording = EventRecording("gamepad", "Pad", about_gamepad(connection), [])
    played = play_gamepad(recording)
    played.stream.close()
    assert {change for change in played.opening if change.value > 0.1} == {("left_x", 1.0), ("left_bumper", 1.0)}
    assert played.decoder.pad_map == connection.decoder.pad_map
    assert played.about == connection.about


@pytest.mark.parametrize("about", [{}, {"axes": 3}, {"axes": {"x": [0, 1]}}, {"axes": {"0": [0]}}, {"axes": {"0": 5}}])
def test_a_recording_that_does_not_say_what_the_pad_was_is_refused_in_words(about):
    with pytest.raises(RobotRLError, match="recording of Pad does not say what axes it has"):
        play_gamepad(EventRecording("gamepad", "Pad", about, []))


def test_a_paused_arm_does_not_go_on_by_a_button_that_was_held_through_the_loss_of_the_pad(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    somebody = person(kernel)
    device.move({X: 32767}, down=[TL])
    somebody.operator.pump()
    somebody.poll()
    device.pull()
    somebody.operator.pump()
    somebody.poll()
    device = kernel.plug(3, axes, keys, down=[0x13B])
    somebody.operator.pump()
    device.send((1, 0x13B, 2))
    somebody.operator.pump()
    assert somebody.poll().event is OperatorEvent.NONE
