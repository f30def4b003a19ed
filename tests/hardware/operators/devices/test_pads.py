"""Pads as their drivers report them, from opening to the arm: the kernel's replies and records are byte for byte.

Which axis is what is judged by Documentation/input/gamepad.rst and by the order in which SDL looks for triggers.
"""

import functools
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.devices import evdev, gamepad
from hardware.operators.devices.device_events import DeviceMissing, DeviceReader, DeviceUnfit
from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.devices.event_recording import EventRecording
from hardware.operators.devices.gamepad import about_gamepad, connect_gamepad, gamepad_operator, play_gamepad
from hardware.operators.devices.pad_map import BUTTONS
from hardware.operators.devices.written_map import WrittenMap
from hardware.operators.layout import Layout, LayoutError
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.device_fakes import METAWORLD, Holder
from tests.hardware.operators.devices.kernel_fakes import InputKernel

CONFIG = yaml.safe_load((Path(__file__).parents[4] / "configs/operator/gamepad.yaml").read_text())["operator"]
WRITTEN = {key: value for key, value in CONFIG.items() if not key.startswith("_")}

X, Y, Z, RX, RY, RZ, THROTTLE, RUDDER, _, GAS, BRAKE = range(11)
HAT0X, HAT0Y, HAT1X, HAT1Y, HAT2X, HAT2Y = range(0x10, 0x16)
SOUTH, TL, TR, TL2, TR2 = 0x130, 0x136, 0x137, 0x138, 0x139
XBOX_KEYS = (0x130, 0x131, 0x133, 0x134, 0x136, 0x137, 0x13A, 0x13B, 0x13C, 0x13D, 0x13E)
SONY_KEYS = (*XBOX_KEYS, TL2, TR2)
COUNTED_KEYS = tuple(range(0x130, 0x13F))
JOYSTICK_KEYS = tuple(range(0x120, 0x12C))
HAT = (0, -1, 1)


def signed(value=0):
    return value, -32768, 32767


def byte(value=128):
    return value, 0, 255


PADS = {
    "Xbox 360 by cable": (
        {X: signed(-128), Y: signed(-1861), RX: signed(438), RY: signed(12), Z: byte(0), RZ: byte(0)},
        XBOX_KEYS,
        {"right_x": RX, "right_y": RY, "left_trigger": Z, "right_trigger": RZ},
    ),
    "Xbox by Bluetooth": (
        {X: (31673, 0, 65535), Y: (32915, 0, 65535), Z: (32082, 0, 65535), RZ: (32239, 0, 65535)}
        | {GAS: (0, 0, 1023), BRAKE: (0, 0, 1023)},
        COUNTED_KEYS,
        {"right_x": Z, "right_y": RZ, "left_trigger": BRAKE, "right_trigger": GAS},
    ),
    "PlayStation by its own driver": (
        {X: byte(), Y: byte(127), Z: byte(0), RX: byte(), RY: byte(130), RZ: byte(0)},
        SONY_KEYS,
        {"right_x": RX, "right_y": RY, "left_trigger": Z, "right_trigger": RZ},
    ),
    "PlayStation without its driver": (
        {X: byte(), Y: byte(), Z: byte(126), RX: byte(0), RY: byte(0), RZ: byte()},
        COUNTED_KEYS,
        {"right_x": Z, "right_y": RZ, "left_trigger": RX, "right_trigger": RY},
    ),
    "Android pad without a driver": (
        {X: byte(), Y: byte(), Z: byte(), RZ: byte(), GAS: byte(0), BRAKE: byte(0)},
        COUNTED_KEYS,
        {"right_x": Z, "right_y": RZ, "left_trigger": BRAKE, "right_trigger": GAS},
    ),
    "triggers resting at -32768": (
        {X: signed(), Y: signed(), RX: signed(), RY: signed(), Z: signed(-32768), RZ: signed(-32768)},
        XBOX_KEYS,
        {"right_x": RX, "right_y": RY, "left_trigger": Z, "right_trigger": RZ},
    ),
    "triggers by the kernel's document": (
        {X: signed(), Y: signed(), RX: signed(), RY: signed(), HAT2X: byte(0), HAT2Y: byte(0)},
        (*XBOX_KEYS, TL2, TR2),
        {"right_x": RX, "right_y": RY, "left_trigger": HAT2Y, "right_trigger": HAT2X},
    ),
    "only a left stick and triggers": (
        {X: byte(), Y: byte(), Z: byte(0), RZ: byte(0)},
        XBOX_KEYS,
        {"left_trigger": Z, "right_trigger": RZ},
    ),
    "sticks and buttons for triggers": (
        {X: byte(), Y: byte(), Z: byte(), RZ: byte()},
        (*XBOX_KEYS, TL2, TR2),
        {"right_x": Z, "right_y": RZ},
    ),
}


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return InputKernel(tmp_path, monkeypatch)


def opened(kernel, written=None):
    """A reader that has opened the first pad, and what it told the person."""
    told = []
    find = functools.partial(connect_gamepad, root=kernel.root, written=WrittenMap.of(written))
    reader = DeviceReader(find, say=told.append)
    reader.connect()
    return reader, told


def deflections(reader):
    """The controls that are not at rest."""
    reader.pump()
    return {control: value for control, value in reader.reading().values.items() if abs(value) > 0.02}


# Which axis is what


@pytest.mark.parametrize("pad", PADS)
def test_every_axis_of_a_pad_moves_the_control_that_a_person_would_call_it(kernel, pad):
    axes, keys, wanted = PADS[pad]
    device = kernel.plug(3, axes | {HAT0X: HAT, HAT0Y: HAT}, keys, name=pad)
    reader, _ = opened(kernel)
    assert deflections(reader) == {}
    for control, code in {"left_x": X, "left_y": Y, **wanted}.items():
        rest, _, maximum = axes[code]
        device.move({code: maximum})
        assert deflections(reader) == {control: 1.0}
        device.move({code: rest})
        assert deflections(reader) == {}
    device.move({HAT0X: -1, HAT0Y: 1})
    assert deflections(reader) == {"dpad_left": 1.0, "dpad_down": 1.0}


@pytest.mark.parametrize("pad", PADS)
def test_a_stick_goes_both_ways_to_its_ends_whatever_else_the_pad_has(kernel, pad):
    axes, keys, wanted = PADS[pad]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    for control in ("left_x", "left_y", "right_x", "right_y"):
        if control in {"left_x": X, "left_y": Y, **wanted}:
            code = {"left_x": X, "left_y": Y, **wanted}[control]
            device.move({code: axes[code][1]})
            assert deflections(reader) == {control: -1.0}
            device.move({code: axes[code][0]})
            assert deflections(reader) == {}


def test_buttons_stand_for_the_triggers_that_have_no_axis(kernel):
    axes, keys, _ = PADS["sticks and buttons for triggers"]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    device.move(down=[TR2])
    assert deflections(reader) == {"right_trigger": 1.0}


def test_bumpers_that_are_axes_are_heard_as_the_kernels_document_has_them(kernel):
    device = kernel.plug(3, {X: byte(), Y: byte(), HAT1X: byte(0), HAT1Y: byte(0)}, (0x130, 0x131))
    reader, _ = opened(kernel)
    device.move({HAT1Y: 255})
    assert deflections(reader) == {"left_bumper": 1.0}


def test_triggers_that_both_rest_at_their_upper_end_are_turned_round_and_it_is_said(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {Z: byte(255), RZ: byte(255)}, keys)
    reader, told = opened(kernel)
    assert "turned round" in told[0]
    device.move({RZ: 0})
    assert deflections(reader) == {"right_trigger": 1.0}


def test_a_driver_that_only_counts_its_buttons_is_told_of(kernel):
    axes, keys, _ = PADS["Xbox by Bluetooth"]
    kernel.plug(3, axes, keys)
    assert "counts its buttons rather than names them" in opened(kernel)[1][0]


def test_a_pad_that_has_not_said_where_it_is_is_understood_once_it_has(kernel):
    axes, keys, _ = PADS["Android pad without a driver"]
    silent = {code: (0, minimum, maximum) for code, (_, minimum, maximum) in axes.items()}
    device = kernel.plug(3, silent, keys)
    reader, told = opened(kernel)
    assert "it has not said yet where it is" in told[0]
    assert deflections(reader) == {}
    device.move({code: value for code, (value, _, _) in axes.items()})
    assert deflections(reader) == {}
    device.move({RZ: 0, GAS: 255})
    assert deflections(reader) == {"right_y": -1.0, "right_trigger": 1.0}


def test_an_axis_that_does_not_say_its_range_is_none(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {RX: (0, 0, 0), RY: (5, 5, 5)}, keys)
    reader, _ = opened(kernel)
    device.move({RX: 5, RY: -5})
    assert deflections(reader) == {}
    assert not {"right_x", "right_y"} & connect_gamepad(root=kernel.root).controls


MOVES = st.one_of(
    st.tuples(st.just("axis"), st.sampled_from([X, Y, RX, RY]), st.integers(-32768, 32767), st.booleans()),
    st.tuples(st.just("axis"), st.sampled_from([Z, RZ]), st.integers(0, 255), st.booleans()),
    st.tuples(st.just("key"), st.sampled_from(XBOX_KEYS), st.booleans(), st.booleans()),
    st.tuples(st.just("replug"), st.none(), st.none(), st.booleans()),
)


@given(st.lists(MOVES, max_size=40))
@settings(deadline=None, max_examples=60)
def test_whatever_is_moved_lost_or_replugged_only_what_was_at_rest_since_opening_is_heard_and_truly(moves):
    axes, keys, wanted = PADS["Xbox 360 by cable"]
    controls = {"left_x": X, "left_y": Y, **wanted}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = InputKernel(Path(folder), patch)
        device = kernel.plug(3, {code: (0, *span) for code, (_, *span) in axes.items()}, keys)
        reader, _ = opened(kernel)
        held = set()
        for what, code, value, is_lost in moves:
            if what == "axis":
                device.move({code: value}, lost=is_lost)
            elif what == "key":
                device.move(down=[code] if value else (), up=() if value else [code], lost=is_lost)
            else:
                device.pull()
                reader.pump()
                assert reader.reading().values == {}
                device, held = replugged_with_the_left_stick_and_keys_as_they_were(kernel, device)
            if is_lost and what != "replug":
                device.overrun()
            reader.pump()
            held = {code for code in held if code in device.down or abs(deflection(device, code)) > 0.1}
            values = reader.reading().values
            for control, each in controls.items():
                true = 0.0 if each in held else deflection(device, each)
                assert values.get(control, 0.0) == pytest.approx(true, abs=1e-3)
            for each in keys:
                true = float(each in device.down and each not in held)
                assert values.get(BUTTONS[each], 0.0) == true


def replugged_with_the_left_stick_and_keys_as_they_were(kernel, device):
    """The device, everything else at rest, and the codes of what is held."""
    axes = {code: (0, *span) for code, (_, *span) in device.axes.items()}
    is_held = abs(deflection(device, X)) > 0.25
    if is_held:
        axes[X] = tuple(device.axes[X])
    return kernel.plug(3, axes, device.keys, device.down), {*device.down, *([X] if is_held else [])}


def deflection(device, code):
    """How far an axis is deflected, from what the kernel knows; 0 for a key."""
    if code not in device.axes:
        return 0.0
    value, minimum, maximum = device.axes[code]
    share = (value - minimum) / (maximum - minimum)
    return share if code in (Z, RZ) else 2 * share - 1


def test_a_stick_held_while_a_pad_has_not_said_where_it_is_stays_unheard_though_events_were_lost(kernel):
    axes, keys, _ = PADS["Android pad without a driver"]
    device = kernel.plug(3, {code: (0, minimum, maximum) for code, (_, minimum, maximum) in axes.items()}, keys)
    reader, _ = opened(kernel)
    device.move({code: value for code, (value, _, _) in axes.items()} | {X: 255}, down=[TL], lost=True)
    device.overrun()
    reader.pump()
    assert deflections(reader) == {"left_bumper": 1.0}
    device.move({X: 128})
    device.move({X: 255})
    reader.pump()
    assert reader.reading().values["left_x"] == 1.0


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


def person(kernel, spec=METAWORLD, layouts=WRITTEN["layouts"]):
    """Somebody with the first pad and the configured settings."""
    find = functools.partial(connect_gamepad, root=kernel.root)

    def make(spec, _, say):
        reader = DeviceReader(find, say=say)
        reader.connect()
        buttons = ButtonWishes.of(WRITTEN["buttons"])
        settings = DeviceSettings("pad", buttons, WRITTEN["deadman"], StickShape(**WRITTEN["stick"]))
        operator = DeviceOperator(spec, Layout.for_spec(spec, layouts), reader, settings, say=say)
        operator.pump = reader.pump
        return operator

    return Holder(spec, make, (0, 0, 0, 1.0))


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


# Settings that the pad cannot satisfy


@pytest.fixture
def entered(kernel, monkeypatch, capsys):
    """Enters the configured operator with the pads of the fake kernel; returns what was said."""
    real = evdev.input_nodes
    monkeypatch.setattr(gamepad.evdev, "input_nodes", lambda root: real(kernel.root))

    def enter(**changes):
        with gamepad_operator(METAWORLD, **{**WRITTEN, **changes}):
            return capsys.readouterr().err

    return enter


def test_a_pad_that_lacks_a_control_of_the_layout_is_refused_naming_it_and_what_there_is(kernel, entered):
    kernel.plug(3, {X: byte(), Y: byte(), HAT0X: HAT, HAT0Y: HAT}, XBOX_KEYS)
    with pytest.raises(
        DeviceUnfit,
        match=r"Fake pad has no right_y \(operator.layouts.metaworld\); it has a, b, dpad_down.*"
        r"axes ABS_X \(0 to 255, at 128\).*buttons BTN_SOUTH",
    ):
        entered()


def test_a_pad_without_the_dead_man_button_is_refused(kernel, entered):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    kernel.plug(3, axes, set(keys) - {TL})
    with pytest.raises(DeviceUnfit, match=r"has no left_bumper \(operator.deadman\)"):
        entered()


def test_buttons_that_the_pad_lacks_are_named_at_the_start(kernel, entered):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    kernel.plug(3, axes, set(keys) - {0x13A})
    assert "it has no dpad_up (operator.buttons.success)" in entered()
    assert "select (operator.buttons.stop)" in entered()


def test_another_pad_that_does_not_fit_is_not_driven_with_and_it_is_said_why(kernel, entered):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes, keys)
    find = gamepad.fitting(functools.partial(connect_gamepad, root=kernel.root), {"right_trigger": "layout"}, {})
    reader = DeviceReader(find)
    reader.connect()
    device.pull()
    reader.pump()
    kernel.plug(3, {X: byte(), Y: byte()}, keys, name="Pad in another mode")
    reader.pump()
    assert "Pad in another mode has no right_trigger (layout)" in reader.reading().problem
    assert reader.reading().connections == 1
    kernel.plug(3, axes, keys)
    reader.pump()
    assert reader.reading()[2:] == (2, "")


def test_a_joystick_is_named_with_how_to_drive_with_it(kernel):
    kernel.plug(5, {X: byte(), Y: byte(), RZ: byte()}, JOYSTICK_KEYS, name="Flight stick")
    with pytest.raises(DeviceMissing, match=r"event5 \(Flight stick, a joystick: to drive with it, write"):
        connect_gamepad(root=kernel.root)


FLIGHT = {X: (512, 0, 1023), Y: (512, 0, 1023), RZ: byte(), THROTTLE: byte(200), HAT0X: HAT, HAT0Y: HAT, HAT1X: HAT}
FLIGHT_MAP = {
    "axes": {
        "left_x": "ABS_X",
        "left_y": "ABS_Y",
        "right_x": {"axis": "ABS_RZ", "rest": 120},
        "right_trigger": {"axis": "ABS_THROTTLE", "rest": 255},
        "dpad_left": "-ABS_HAT1X",
        "dpad_right": "+ABS_HAT1X",
    },
    "keys": {"left_bumper": "BTN_TRIGGER", "a": 0x121},
}


def test_a_flight_stick_drives_by_a_written_map(kernel):
    device = kernel.plug(5, FLIGHT, JOYSTICK_KEYS, name="Flight stick")
    written = WrittenMap.of(FLIGHT_MAP)
    reader = DeviceReader(lambda: connect_gamepad(str(device.file), kernel.root, written))
    reader.connect()
    device.move({X: 1023, RZ: 120, THROTTLE: 255, HAT1X: -1, HAT0X: 1}, down=[0x120])
    assert deflections(reader) == {"left_x": 1.0, "dpad_left": 1.0, "left_bumper": 1.0}
    device.move({THROTTLE: 0, X: 512, RZ: 0, HAT1X: 1}, up=[0x120], down=[0x121])
    assert deflections(reader) == {"right_trigger": 1.0, "right_x": -1.0, "dpad_right": 1.0, "a": 1.0}


def test_the_map_in_the_yamls_comment_drives_a_pad_in_its_d_mode_with_every_layout(kernel):
    comment = (Path(__file__).parents[4] / "configs/operator/gamepad.yaml").read_text().split("D mode")[1]
    lines = [line.strip(" #") for line in comment.split("pad_map: null")[0].splitlines()[1:]]
    written = yaml.safe_load(" ".join(lines))
    axes = {X: byte(), Y: byte(), Z: byte(), RZ: byte(), HAT0X: HAT, HAT0Y: HAT}
    device = kernel.plug(3, axes, JOYSTICK_KEYS, name="Logitech Dual Action")
    connection = connect_gamepad(str(device.file), kernel.root, WrittenMap.of(written))
    assert connection.controls == {"left_x", "left_y", "right_x", "right_y", *gamepad.ALL_BUTTONS} - {"mode"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"axes": {"left_x": "ABS_WHEEL"}}, r"left_x: the device has no ABS_WHEEL; it has ABS_X \(-32768 to 32767"),
        (
            {"axes": {"left_x": {"axis": "ABS_Z", "rest": 300}}},
            r"rest is 300, wanted a value of ABS_Z \(0 to 255, at 0",
        ),
        ({"axes": {"left_x": {"axis": "ABS_Z", "rest": -1}}}, r"rest is -1, wanted a value of ABS_Z"),
        ({"keys": {"a": "BTN_TRIGGER"}}, r"keys.a: the device has no BTN_TRIGGER; it has BTN_SOUTH, BTN_EAST"),
        ({"keys": {"a": 0x2FF}}, r"keys.a: the device has no 0x2ff; it has BTN_SOUTH"),
    ],
)
def test_a_map_that_does_not_fit_the_pad_is_refused_naming_what_the_pad_has(kernel, entered, written, message):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    kernel.plug(3, axes, keys)
    with pytest.raises(DeviceUnfit, match=message):
        entered(pad_map=written)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"buttons": {}}, "operator.pad_map has no 'buttons'; there is axes, keys"),
        ({"axes": {"wheel": "ABS_X"}}, "operator.pad_map.axes.wheel: no such control; there is left_x, left_y"),
        ({"axes": {"left_x": "ABS_Q"}}, "operator.pad_map.axes.left_x: no axis ABS_Q; the kernel's names are ABS_X"),
        ({"axes": {"left_x": "+ABS_X"}}, "is .ABS_X, half an axis, but a stick goes both ways"),
        ({"axes": {"left_x": {"rest": 0}}}, "wanted an axis, or axis and rest"),
        ({"axes": {"left_x": {"axis": "ABS_X", "rest": "low"}}}, "rest is 'low', wanted a whole number"),
        ({"axes": {"left_x": {"axis": "ABS_X", "rest": True}}}, "rest is True, wanted a whole number"),
        ({"axes": {"left_x": "ABS_X", "left_y": "ABS_X"}}, r"pad_map gives \+ABS_X to two controls"),
        ({"axes": {"left_x": "ABS_X", "dpad_up": "-ABS_X"}}, "pad_map gives -ABS_X to two controls"),
        ({"keys": {"a": "BTN_A1"}}, "operator.pad_map.keys.a: no key 'BTN_A1'; wanted a code below 0x300"),
        ({"keys": {"a": 0x300}}, "no key 768"),
        ({"keys": {"left_x": 0x130}}, "operator.pad_map.keys.left_x: no such button"),
        ({"keys": {"a": 0x130, "b": "BTN_SOUTH"}}, "pad_map gives BTN_SOUTH to two controls"),
        ({"axes": ["ABS_X"]}, "operator.pad_map.axes is"),
        ("ABS_X", "operator.pad_map is"),
    ],
)
def test_a_map_that_no_pad_can_fit_is_refused_before_anything_is_opened(written, message):
    with pytest.raises(LayoutError, match=message):
        gamepad_operator(METAWORLD, **{**WRITTEN, "pad_map": written})


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
