"""Pads as their drivers report them, and a person who holds one: the kernel's replies and records are byte for byte."""

import functools
from pathlib import Path

import yaml

from hardware.operators.devices.device_events import DeviceReader
from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.devices.gamepad import connect_gamepad
from hardware.operators.devices.written_map import WrittenMap
from hardware.operators.layout import Layout
from tests.hardware.operators.devices.device_fakes import METAWORLD, Holder

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
