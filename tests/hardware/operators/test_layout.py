import pytest

from hardware.operators.layout import Layout, LayoutError
from tests.hardware.operators.devices.device_fakes import ARM

HIP = {"dimension": "hip", "axis": "stick", "speed": 1.0, "stream": "joint_position"}
KNEE = {"dimension": "knee", "minus": "down", "plus": "up", "speed": 1.0, "stream": "joint_position", "index": 1}
GRIPPER = {"dimension": "gripper", "key": "a", "first": 0.0, "second": 1.0}


def layout(hip=HIP, knee=KNEE, gripper=GRIPPER):
    return Layout.for_spec(ARM, {"arm": {"moving": [hip, knee], "switching": [gripper]}})


def test_a_layout_lists_every_control_as_often_as_it_is_used():
    assert layout().controls == ["stick", "down", "up", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hip": {**HIP, "minus": "left"}}, "'hip': give minus and plus, or an axis"),
        ({"hip": {**HIP, "axis": "", "minus": "left"}}, "'hip': give minus and plus, or an axis"),
        ({"hip": {**HIP, "minus": "left", "plus": "right"}}, "'hip': give minus and plus, or an axis"),
        ({"hip": {**HIP, "speed": 0.0}}, "'hip': speed is 0.0 with stick; give both, or neither"),
        ({"hip": {**HIP, "axis": ""}}, "'hip': speed is 1.0 with no control; give both, or neither"),
        ({"hip": {**HIP, "leash": 0.0}}, "'hip': leash is 0.0, wanted more than 0; leave it out"),
        ({"hip": {**HIP, "leash": -0.2}}, "'hip': leash is -0.2, wanted more than 0"),
        ({"hip": {**HIP, "leash": "far"}}, "'hip': leash is 'far', wanted a number"),
        ({"hip": {**HIP, "speed": float("nan")}}, "'hip': speed is nan, wanted a number"),
        ({"hip": {**HIP, "speed": "fast"}}, "'hip': speed is 'fast', wanted a number"),
        ({"hip": {**HIP, "index": 3}}, r"'hip': 'joint_position' has no element 3, wanted 0..2"),
        ({"hip": {**HIP, "stream": None}}, "'hip': give stream and index, to start where the robot is"),
        ({"gripper": {**GRIPPER, "stream": "joint_position"}}, "'gripper': give second_below or second_above"),
        ({"gripper": {**GRIPPER, "first": "open"}}, "'gripper': first is 'open', wanted a number"),
        ({"gripper": {**GRIPPER, "dimension": "ankle"}}, "no action dimension 'ankle' of 'arm', which has hip, knee"),
        ({"gripper": {"dimension": "gripper"}}, "does not fit; it takes dimension, key, first, second"),
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused_in_words(change, message):
    with pytest.raises(LayoutError, match=message):
        layout(**change)


@pytest.mark.parametrize(
    ("axes", "keys", "used", "message"),
    [
        ((), ("up", "down", "a"), (), "'hip': no axis 'stick'; there is none"),
        (("stick",), ("up", "down"), (), "'gripper': no button 'a'; there is up, down"),
        (("stick",), ("up", "down", "a"), ("a",), "operator.layouts.arm uses 'a', which is taken"),
    ],
)
def test_controls_that_a_device_lacks_or_that_are_taken_are_refused(axes, keys, used, message):
    with pytest.raises(LayoutError, match=message):
        layout().check_controls("arm", axes, keys, used)
