"""Somebody with a fake pad and a plain layout, and a terminal beside it."""

from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.layout import Layout
from tests.hardware.operators.devices.device_fakes import METAWORLD, Holder

PLAIN = StickShape(dead_zone=0.1, expo=0.0)
BUTTONS = ButtonWishes("b", "up", "down", "right", "left", "start", "select")
LAYOUTS = {
    "metaworld": {
        "moving": [
            {"dimension": "x", "axis": "left_x", "speed": 10.0},
            {"dimension": "y", "axis": "left_y", "speed": -10.0},
            {"dimension": "z", "minus": "lt", "plus": "rt", "speed": 10.0},
        ],
        "switching": [
            {
                "dimension": "gripper",
                "key": "a",
                "first": -1.0,
                "second": 1.0,
                "stream": "state",
                "index": 3,
                "second_below": 0.95,
            }
        ],
    },
    "arm": {
        "moving": [
            {"dimension": "hip", "axis": "left_x", "speed": 1.0, "stream": "joint_position", "leash": 0.3},
            {"dimension": "knee", "stream": "joint_position", "index": 1},
        ],
        "switching": [
            {
                "dimension": "gripper",
                "key": "a",
                "first": 0.0,
                "second": 1.0,
                "stream": "joint_position",
                "index": 2,
                "second_above": 0.5,
            }
        ],
    },
}


def holder(spec=METAWORLD, place=(0, 0, 0, 1.0), **more):
    """A person with a fake pad, dead-man button `lb` unless told otherwise."""
    written = DeviceSettings(**{"name": "pad", "buttons": BUTTONS, "deadman": "lb", "stick": PLAIN, **more})

    def make(spec, device, say):
        return DeviceOperator(spec, Layout.for_spec(spec, LAYOUTS), device, written, say=say)

    return Holder(spec, make, place)


class Typed:
    """A terminal at which somebody typed something."""

    size = (80, 24)

    def __init__(self, *typed):
        self.typed = list(typed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self):
        return self.typed.pop(0) if self.typed else b""

    def write(self, text):
        pass
