"""The `robot` section of a yaml in `configs/robot/ros/`, checked as a whole before anything is connected.

Every mistake is named with its key: a key that means nothing, a joint that no stream shows, a topic used twice, an
action without a range. Limits of the command filter are the section `limits`, checked by `hardware/safety/limits.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardware.ros.status_condition import StatusCondition
from hardware.ros.streams import StreamConfig
from hardware.ros.yaml_section import (
    RobotYamlError,
    number,
    plain,
    refuse_twice,
    refuse_unknown,
    require_mapping,
    strings,
    text,
    topic_name,
)
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

ADAPTERS = ("arm_node", "joint_forward", "joint_trajectory", "cartesian_pose", "servo_twist")
LONGEST_NAME = 100
_ACTION_KEYS = {"names", "unit", "kinds", "low", "high", "dtype"}


@dataclass(frozen=True)
class RobotConfig:
    """A robot behind topics.

    Attributes:
        spec: What everybody else knows of it.
        namespace: Where its relative topics live.
        streams: In the spec's order.
        command: Settings of the adapter, `adapter` among them.
        gripper: Settings of the gripper that is commanded apart from the joints; {} for none.
        status: Conditions for motion.
    """

    spec: RobotSpec
    namespace: str
    streams: Mapping[str, StreamConfig]
    command: Mapping[str, Any]
    gripper: Mapping[str, Any]
    status: tuple[StatusCondition, ...]

    @property
    def adapter(self) -> str:
        """How commands are sent."""
        return str(self.command["adapter"])

    def topic(self, name: str) -> str:
        """A topic's full name."""
        return name if name.startswith("/") else f"{self.namespace.rstrip('/')}/{name}"

    @classmethod
    def parse(
        cls,
        name: str,
        namespace: str,
        control_hz: float,
        streams: object,
        action: object,
        command: object,
        gripper: object = None,
        status: object = None,
    ) -> RobotConfig:
        """The section's values, checked.

        Raises:
            RobotYamlError: See the module.
        """
        parsed = {
            each: StreamConfig.parse(each, document)
            for each, document in require_mapping(plain(streams), "robot.streams").items()
        }
        if not parsed:
            raise RobotYamlError("robot.streams is empty: a robot shows at least one stream")
        settings = require_mapping(plain(command), "robot.command")
        if settings.get("adapter") not in ADAPTERS:
            wanted = ", ".join(ADAPTERS)
            raise RobotYamlError(f"robot.command.adapter is {settings.get('adapter')!r}, wanted one of {wanted}")
        arm = parse_action(action)
        hz = number(control_hz, "robot.control_hz")
        kinds = tuple(_kind(each) for each in require_mapping(plain(action), "robot.action")["kinds"])
        config = cls(
            spec=RobotSpec(_name(name), {each: stream.spec for each, stream in parsed.items()}, arm, kinds, hz),
            namespace=_namespace(namespace),
            streams=parsed,
            command=settings,
            gripper=require_mapping(plain(gripper or {}), "robot.gripper"),
            status=tuple(
                StatusCondition.parse(each, document)
                for each, document in require_mapping(plain(status or {}), "robot.status").items()
            ),
        )
        config._check_topics()
        return config

    def shown_joints(self) -> tuple[str, ...]:
        """Every joint whose position some stream shows."""
        return tuple(
            joint
            for stream in self.streams.values()
            if stream.kind == "joints" and stream.field == "position"
            for joint in stream.joints
        )

    def _check_topics(self) -> None:
        seen: dict[tuple[str, ...], str] = {}
        types: dict[str, tuple[str, str]] = {}
        for stream in self.streams.values():
            topic = self.topic(stream.topic)
            other = types.setdefault(topic, (stream.message_type, stream.name))
            if other[0] != stream.message_type:
                raise RobotYamlError(
                    f"robot.streams.{stream.name} and {other[1]} read {topic} as {stream.message_type} and {other[0]}; "
                    "a topic has one type"
                )
            same = (topic, stream.kind, stream.field, *stream.joints, *stream.names)
            if same in seen:
                raise RobotYamlError(f"robot.streams.{stream.name} and {seen[same]} are the same part of {topic}")
            seen[same] = stream.name
            commands = self.command.get("topic")
            if isinstance(commands, str) and self.topic(commands) == topic:
                raise RobotYamlError(
                    f"robot.command.topic and robot.streams.{stream.name} are the same topic {topic}: "
                    "commands would be read as measurements"
                )


def parse_action(document: object) -> ArraySpec:
    """The action's spec.

    Raises:
        RobotYamlError: Names, units, kinds and ranges do not fit each other.
    """
    where = "robot.action"
    keys = require_mapping(plain(document), where)
    refuse_unknown(keys, _ACTION_KEYS, where)
    for key in ("names", "unit", "kinds"):
        if keys.get(key) is None:
            raise RobotYamlError(f"{where}.{key} is missing")
    names = strings(keys["names"], f"{where}.names")
    refuse_twice(names, f"{where}.names")
    units, kinds = (strings(keys[key], f"{where}.{key}") for key in ("unit", "kinds"))
    for key, count in (("unit", len(units)), ("kinds", len(kinds))):
        if count != len(names):
            raise RobotYamlError(f"{where}.{key} has {count} entries for {len(names)} names; give one each")
    for each in kinds:
        _kind(each)
    low, high = (_bound(keys.get(key), len(names), f"{where}.{key}") for key in ("low", "high"))
    for name, one, other in zip(names, low or (), high or (), strict=False):
        if one > other:
            raise RobotYamlError(f"{where}.low of '{name}' is {one}, above its high {other}")
    dtype = text(keys.get("dtype", "float32"), f"{where}.dtype")
    if dtype not in ("float32", "float64"):
        raise RobotYamlError(f"{where}.dtype is '{dtype}', wanted float32 or float64")
    return ArraySpec((len(names),), dtype, ",".join(units), _shared(low), _shared(high), names)


def _name(value: object) -> str:
    """What a robot is called, in data sets and policies too."""
    name = text(value, "robot.name")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise RobotYamlError(f"robot.name is {name!r}, wanted 1 to {LONGEST_NAME} printable characters")
    return name


def _namespace(value: object) -> str:
    """With one slash in front; `/` alone is the root."""
    return "/" if value == "/" else f"/{topic_name(value, 'robot.namespace').removeprefix('/')}"


def _shared(bound: tuple[float, ...] | None) -> float | tuple[float, ...] | None:
    """One number where every dimension has the same bound, as simulated robots write their specs."""
    return bound[0] if bound and len(set(bound)) == 1 else bound


def _kind(value: object) -> ActionKind:
    try:
        return ActionKind(str(value))
    except ValueError:
        raise RobotYamlError(f"robot.action.kinds has {value!r}, wanted {', '.join(ActionKind)}") from None


def _bound(value: object, count: int, where: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value] * count
    if not isinstance(value, list) or len(value) != count:
        raise RobotYamlError(f"{where} is {value!r}, wanted {count} numbers, one per action")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float) or not math.isfinite(each):
            raise RobotYamlError(f"{where} holds {each!r}, wanted a finite number")
    return tuple(float(each) for each in value)
