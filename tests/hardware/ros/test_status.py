"""An arm moves only while its own driver says, and goes on saying, that it may."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hardware.ros.robot_config import RobotConfig
from hardware.ros.status import MotionRefused, StatusMonitor, status_message
from hardware.ros.status_condition import StatusCondition
from hardware.ros.yaml_section import RobotYamlError

S = 1_000_000_000
TOPIC = {"topic": "/status", "type": "vendor_msgs/msg/Status", "field": "mode", "remedy": "look at the arm"}


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def monitor_of(clock: Clock | None = None, **keys: Any) -> StatusMonitor:
    joints = {
        "kind": "joints",
        "topic": "joint_states",
        "joints": ["pan"],
        "max_age_s": 0.05,
        "max_speed": 3.0,
        "margin": 0.05,
    }
    config = RobotConfig.parse(
        name="arm",
        namespace="/arm",
        control_hz=20.0,
        streams={"q": joints},
        action={"names": ["pan"], "unit": ["rad"], "kinds": ["position"]},
        command={"adapter": "joint_forward", "topic": "commands"},
        status={"state": {**TOPIC, **keys}},
    )
    return StatusMonitor(config, clock or Clock())


def say(monitor: StatusMonitor, value: Any, field: str = "mode") -> None:
    message: Any = value
    for part in reversed(field.split(".")):
        message = SimpleNamespace(**{part: message})
    condition, _ = monitor.conditions[0]
    monitor.heard(condition, message)


@pytest.mark.parametrize(
    ("keys", "allowed", "refused"),
    [
        ({"one_of": [1, 2]}, [1, 2], [0, 3, True, "1", None]),
        ({"one_of": [True]}, [True], [False, 1, "true"]),
        ({"one_of": ["ready"]}, ["ready"], ["error", 0]),
        ({"at_least": 1.0}, [1, 1.0, 100.0], [0.99, float("nan"), float("inf"), True, "2"]),
        ({"at_least": 0, "at_most": 4}, [0, 4], [-1, 5]),
        ({"at_most": 2}, [2, -7], [3]),
    ],
)
def test_only_the_values_that_were_named_allow_motion(keys, allowed, refused):
    monitor = monitor_of(**keys)
    for value in allowed:
        say(monitor, value)
        monitor.require_motion()
    for value in refused:
        say(monitor, value)
        with pytest.raises(MotionRefused, match=r"arm may not be moved: /status is .*, wanted .*; look at the arm"):
            monitor.require_motion()


def test_a_driver_that_has_said_nothing_allows_no_motion():
    monitor = monitor_of(one_of=[1])
    assert [each.name for each in monitor.unheard] == ["state"]
    with pytest.raises(MotionRefused, match="/status is silent, wanted 1"):
        monitor.require_motion()


def test_a_driver_that_says_nothing_any_more_allows_no_motion_until_it_speaks_again():
    clock = Clock()
    monitor = monitor_of(clock, one_of=[1], latched=False, max_age_s=0.5)
    say(monitor, 1)
    clock.now_ns = S // 2
    monitor.require_motion()
    clock.now_ns += 1_000_000
    with pytest.raises(MotionRefused, match=r"/status is silent for 0\.50 s \(at most 0\.5 s\), wanted 1; look"):
        monitor.require_motion()
    assert monitor.unheard
    say(monitor, 1)
    monitor.require_motion()


def test_what_is_latched_stays_true_until_something_else_is_said():
    clock = Clock()
    monitor = monitor_of(clock, one_of=[1])
    say(monitor, 1)
    clock.now_ns = 3600 * S
    monitor.require_motion()


def test_a_field_within_another_is_read():
    monitor = monitor_of(one_of=[False], field="errors.arm.reflex")
    say(monitor, False, "errors.arm.reflex")
    monitor.require_motion()
    say(monitor, True, "errors.arm.reflex")
    with pytest.raises(MotionRefused):
        monitor.require_motion()


def test_a_byte_of_rclpy_is_a_number():
    monitor = monitor_of(one_of=[7])
    say(monitor, bytes([7]))
    monitor.require_motion()


def test_a_vendors_nested_message_is_made_of_the_yamls_definition():
    client = pytest.importorskip("hardware.ros.client")
    if client.BACKEND != "pip":
        pytest.skip("real rclpy has a vendor's messages from the vendor's package")
    also = {"nested_msgs/msg/Errors": "bool reflex\nfloat64[3] at", "nested_msgs/msg/Arm": "nested_msgs/Errors errors"}
    keys = TOPIC | {"type": "nested_msgs/msg/State", "field": "arm.errors.reflex", "one_of": [False]}
    condition = StatusCondition.parse("state", keys | {"fields": "uint8 mode\nnested_msgs/Arm arm", "also": also})
    made = status_message(condition)()
    assert condition.read(made) is False
    for field, message in (("arm.errors.reflexx", "has no 'reflexx'"), ("modes", "has no 'modes'")):
        with pytest.raises(RobotYamlError, match=message):
            status_message(
                StatusCondition.parse("state", keys | {"fields": "uint8 mode", "also": also, "field": field})
            )


def test_a_definition_that_is_none_is_named():
    client = pytest.importorskip("hardware.ros.client")
    if client.BACKEND != "pip":
        pytest.skip("real rclpy has a vendor's messages from the vendor's package")
    for fields in ("uint8", "uint9 mode", "mode = {", "nowhere_msgs/Thing thing"):
        keys = TOPIC | {"type": "odd_msgs/msg/Odd", "one_of": [1], "fields": fields}
        with pytest.raises(RobotYamlError, match=r"robot\.status\.state: fields or also define no odd_msgs/msg/Odd"):
            status_message(StatusCondition.parse("state", keys))
