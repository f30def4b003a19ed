"""What the sections of a robot's yaml hold that is ROS's own, for `robot_rl/core/section.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from robot_rl.core import section
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import Wanted


class RobotYamlError(RobotRLError):
    """The `robot` section of a yaml does not describe a robot."""


def _is_topic(name: str) -> bool:
    return all(part.isidentifier() and part.isascii() for part in name.removeprefix("/").split("/"))


def _is_message_type(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 3 and parts[1] == "msg" and all(part.isidentifier() for part in parts)


Topic = Annotated[str, Wanted("a ROS topic such as joint_states or /camera/image_raw", _is_topic)]
MessageType = Annotated[str, Wanted("a message type such as std_msgs/msg/Bool", _is_message_type)]


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Refuses a list that names something twice."""
    for name in names:
        if names.count(name) > 1:
            raise RobotYamlError(f"{where} has '{name}' twice")


def topic_name(value: object, where: str) -> str:
    """A topic as ROS spells one.

    Raises:
        RobotYamlError: It is none.
    """
    return str(section.value_of(Topic, value, where, RobotYamlError))
