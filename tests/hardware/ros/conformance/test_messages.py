"""Every message type we use arrives as it was sent, and messages behave as rclpy's do."""

from __future__ import annotations

import array
import copy
import warnings

import numpy as np
import pytest

from hardware.ros.client import BACKEND, importable, message
from tests.hardware.ros.conformance.samples import SAMPLES, joint_state
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros


def test_every_message_type_arrives_as_it_was_sent(bench: Bench):
    ends = {}
    for name in known_samples():
        topic = name.split("/")[-1]
        got = bench.collect(message(name), topic, 10)
        ends[name] = bench.node.create_publisher(message(name), topic, 10), got
    for name, (publisher, _) in ends.items():
        bench.connected(publisher)
        publisher.publish(SAMPLES[name]())
    bench.until(lambda: all(got for _, got in ends.values()))
    for name, (_, got) in ends.items():
        assert got == [SAMPLES[name]()], name


def known_samples() -> list[str]:
    """Those that can be had: an rclpy without their packages has fewer."""
    packages = {name.split("/")[0] for name in SAMPLES}
    missing = {package for package in packages if BACKEND == "rclpy" and not importable(f"{package}.msg")}
    if missing:
        warnings.warn(f"not sent, for this ROS has no {', '.join(sorted(missing))}", stacklevel=2)
    return [name for name in SAMPLES if name.split("/")[0] not in missing]


def test_received_numbers_have_rclpys_types(bench: Bench):
    got = bench.collect(message("sensor_msgs/msg/CameraInfo"), "info", 10)
    publisher = bench.node.create_publisher(message("sensor_msgs/msg/CameraInfo"), "info", 10)
    bench.connected(publisher)
    publisher.publish(SAMPLES["sensor_msgs/msg/CameraInfo"]())
    bench.until(lambda: got)
    assert isinstance(got[0].d, array.array)
    assert got[0].d.typecode == "d"
    assert isinstance(got[0].k, np.ndarray)
    assert got[0].k.dtype == np.float64
    assert isinstance(got[0].header.frame_id, str)
    assert isinstance(got[0].roi.do_rectify, bool)


def test_a_received_image_can_be_viewed_as_numpy(bench: Bench):
    got = bench.collect(message("sensor_msgs/msg/Image"), "image", 10)
    publisher = bench.node.create_publisher(message("sensor_msgs/msg/Image"), "image", 10)
    bench.connected(publisher)
    publisher.publish(SAMPLES["sensor_msgs/msg/Image"]())
    bench.until(lambda: got)
    np.testing.assert_array_equal(np.frombuffer(got[0].data, np.uint8), np.arange(18))


def test_a_received_message_can_be_sent_on(bench: Bench):
    first = bench.collect(message("sensor_msgs/msg/JointState"), "first", 10)
    second = bench.collect(message("sensor_msgs/msg/JointState"), "second", 10)
    relay = bench.node.create_publisher(message("sensor_msgs/msg/JointState"), "second", 10)
    publisher = bench.node.create_publisher(message("sensor_msgs/msg/JointState"), "first", 10)
    bench.connected(publisher)
    bench.connected(relay)
    publisher.publish(joint_state())
    bench.until(lambda: first)
    relay.publish(first[0])
    bench.until(lambda: second)
    assert second == [joint_state()]


def test_a_fresh_message_has_the_definitions_defaults():
    assert message("geometry_msgs/msg/Quaternion")().w == 1.0
    assert message("diagnostic_msgs/msg/DiagnosticStatus")().level == b"\x00"
    assert message("sensor_msgs/msg/JointState")().position == array.array("d")
    assert message("std_msgs/msg/Header")().stamp == message("builtin_interfaces/msg/Time")()


def test_fresh_messages_share_nothing():
    first, second = message("sensor_msgs/msg/JointState")(), message("sensor_msgs/msg/JointState")()
    first.name.append("a")
    first.position.append(1.0)
    first.header.stamp.sec = 4
    assert second == message("sensor_msgs/msg/JointState")()


def test_a_copy_is_equal_and_apart():
    original = joint_state()
    copied = copy.deepcopy(original)
    assert copied == original
    copied.position[0] = 9.0
    assert copied != original


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("std_msgs/msg/Float64", {"data": 1}),
        ("std_msgs/msg/Float64", {"data": np.float32(1.0)}),
        ("std_msgs/msg/Int32", {"data": 1.0}),
        ("std_msgs/msg/Int32", {"data": np.int64(1)}),
        ("std_msgs/msg/Int32", {"data": 2**31}),
        ("std_msgs/msg/Bool", {"data": 1}),
        ("std_msgs/msg/Bool", {"data": np.True_}),
        ("std_msgs/msg/String", {"data": b"text"}),
        ("std_msgs/msg/Byte", {"data": 1}),
        ("sensor_msgs/msg/JointState", {"name": "abc"}),
        ("sensor_msgs/msg/JointState", {"name": [1]}),
        ("sensor_msgs/msg/JointState", {"header": 1}),
        ("sensor_msgs/msg/CameraInfo", {"k": [0.0] * 8}),
        ("sensor_msgs/msg/CameraInfo", {"k": np.zeros(9, np.float32)}),
        ("sensor_msgs/msg/Image", {"pixels": b""}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, fields: dict[str, object]):
    with pytest.raises(AssertionError):
        message(name)(**fields)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sensor_msgs/msg/JointState", "position", [1]),
        ("sensor_msgs/msg/JointState", "position", "abc"),
        ("sensor_msgs/msg/JointState", "position", array.array("f", [1.0])),
        ("sensor_msgs/msg/JointState", "position", np.ones(1)),
        ("sensor_msgs/msg/Image", "data", [256]),
        ("sensor_msgs/msg/Image", "data", [1.0]),
    ],
)
def test_numbers_of_the_wrong_type_cannot_be_assigned(name: str, field: str, value: object):
    with pytest.raises(AssertionError):
        setattr(message(name)(), field, value)


@pytest.mark.parametrize("value", [[1], (1.0,), array.array("f", [1.0]), array.array("i", [1]), np.ones(1)])
def test_a_constructor_takes_whatever_can_become_an_array_of_its_type(value: object):
    assert message("sensor_msgs/msg/JointState")(position=value).position == array.array("d", [1.0])


@pytest.mark.parametrize(
    ("name", "fields", "refusal"),
    [
        ("sensor_msgs/msg/JointState", {"position": "abc"}, TypeError),
        ("sensor_msgs/msg/JointState", {"position": [None]}, TypeError),
        ("sensor_msgs/msg/Image", {"data": [256]}, OverflowError),
        ("sensor_msgs/msg/Image", {"data": [1.0]}, TypeError),
    ],
)
def test_a_constructor_refuses_what_cannot(name: str, fields: dict[str, object], refusal: type[Exception]):
    with pytest.raises(refusal):
        message(name)(**fields)


def test_numpys_float64_is_a_float():
    assert message("std_msgs/msg/Float64")(data=np.float64(0.5)).data == 0.5
