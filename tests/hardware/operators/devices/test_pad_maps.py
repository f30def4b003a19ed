"""Settings and maps that a pad cannot satisfy, and pads that only a written map makes sense of."""

import functools
from pathlib import Path

import pytest
import yaml

from hardware.operators.devices import evdev, gamepad
from hardware.operators.devices.device_events import DeviceMissing, DeviceReader, DeviceUnfit
from hardware.operators.devices.gamepad import connect_gamepad, gamepad_operator
from hardware.operators.devices.written_map import WrittenMap
from hardware.operators.layout import LayoutError
from tests.hardware.operators.devices.device_fakes import METAWORLD
from tests.hardware.operators.devices.pad_fakes import (
    HAT,
    HAT0X,
    HAT0Y,
    HAT1X,
    JOYSTICK_KEYS,
    PADS,
    RZ,
    THROTTLE,
    TL,
    WRITTEN,
    XBOX_KEYS,
    X,
    Y,
    Z,
    byte,
    deflections,
)


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
