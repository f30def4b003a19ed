"""The `robot` section of a yaml in `configs/robot/ros/`, checked as a whole before anything is connected.

Every mistake is named with its key: a key that means nothing, a joint that no stream shows, a topic used twice, an
action without a range. Limits of the command filter are the section `limits`, checked by `hardware/safety/limits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from hardware.ros.status_condition import StatusCondition
from hardware.ros.streams import StreamConfig
from hardware.ros.yaml_section import RobotYamlError, refuse_twice, topic_name
from robot_rl.core import section
from robot_rl.core.section import NotNegative, one_of
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

ADAPTERS = ("arm_node", "joint_forward", "joint_trajectory", "cartesian_pose", "servo_twist")
LONGEST_NAME = 100
Adapter = Annotated[str, one_of(ADAPTERS, f"one of {', '.join(ADAPTERS)}")]
Bound = float | tuple[float, ...] | None


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
        parsed = {each: StreamConfig.parse(each, document) for each, document in _section(streams, "streams").items()}
        if not parsed:
            raise RobotYamlError("robot.streams is empty: a robot shows at least one stream")
        settings = _section(command, "command")
        section.value_of(Adapter, settings.get("adapter"), "robot.command.adapter", RobotYamlError)
        arm = section.read(ActionSection, action, "robot.action", RobotYamlError)
        hz = section.value_of(NotNegative, control_hz, "robot.control_hz", RobotYamlError)
        shown = {each: stream.spec for each, stream in parsed.items()}
        config = cls(
            spec=RobotSpec(_name(name), shown, arm.spec, tuple(map(ActionKind, arm.kinds)), hz),
            namespace=_namespace(namespace),
            streams=parsed,
            command=settings,
            gripper=_section(gripper or {}, "gripper"),
            status=tuple(
                StatusCondition.parse(each, document) for each, document in _section(status or {}, "status").items()
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


@dataclass(frozen=True)
class ActionSection:
    """A yaml's `robot.action`, with an entry per dimension.

    Attributes:
        names: What the dimensions are called.
        unit: What each is measured in.
        kinds: `ActionKind` of each.
        low: Lowest value of each, or one for all; None for none.
        high: Highest, likewise.
        dtype: Of the rows of actions.

    Raises:
        RobotYamlError: Names, units, kinds and ranges do not fit each other.
    """

    names: tuple[str, ...]
    unit: tuple[str, ...]
    kinds: tuple[Annotated[str, one_of(ActionKind)], ...]
    low: Bound = None
    high: Bound = None
    dtype: Annotated[str, one_of(("float32", "float64"), "float32 or float64")] = "float32"

    def __post_init__(self) -> None:
        """Refuses entries that do not fit each other."""
        where, count = "robot.action", len(self.names)
        refuse_twice(self.names, f"{where}.names")
        for key, entries in (("unit", self.unit), ("kinds", self.kinds)):
            if len(entries) != count:
                raise RobotYamlError(f"{where}.{key} has {len(entries)} entries for {count} names; give one each")
        for key, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, tuple) and len(bound) != count:
                raise RobotYamlError(f"{where}.{key} is {list(bound)}, wanted {count} numbers, one per action")
        for name, low, high in zip(self.names, *self.spec.bounds(), strict=True):
            if low > high:
                raise RobotYamlError(f"{where}.low of '{name}' is {low}, above its high {high}")

    @property
    def spec(self) -> ArraySpec:
        """The action as the robot's spec shows it."""
        unit = ",".join(self.unit)
        return ArraySpec((len(self.names),), self.dtype, unit, _shared(self.low), _shared(self.high), self.names)


def _section(document: object, name: str) -> dict[str, Any]:
    return section.mapping(document, f"robot.{name}", RobotYamlError)


def _name(value: object) -> str:
    """What a robot is called, in data sets and policies too."""
    name = str(section.value_of(str, value, "robot.name", RobotYamlError))
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise RobotYamlError(f"robot.name is {name!r}, wanted 1 to {LONGEST_NAME} printable characters")
    return name


def _namespace(value: object) -> str:
    """With one slash in front; `/` alone is the root."""
    return "/" if value == "/" else f"/{topic_name(value, 'robot.namespace').removeprefix('/')}"


def _shared(bound: Bound) -> Bound:
    """One number where every dimension has the same bound, as simulated robots write their specs."""
    return bound[0] if isinstance(bound, tuple) and len(set(bound)) == 1 else bound
