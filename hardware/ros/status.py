"""What a vendor's driver says of itself, as a condition for motion: a robot whose program does not run is not moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hardware.ros.robot_config import RobotConfig
from hardware.ros.status_condition import StatusCondition
from hardware.ros.yaml_section import RobotYamlError
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S


class MotionRefused(RobotRLError):
    """The arm's own driver does not allow motion."""


class _Said(NamedTuple):
    """What a driver said, and when it was heard [ns]."""

    value: Any
    heard_ns: int


class StatusMonitor:
    """The newest value of every status topic, written by the node's thread and read by the control loop.

    Args:
        config: The robot's.
        monotonic_ns: When something is heard, and for how long nothing was.
    """

    def __init__(self, config: RobotConfig, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._robot = config.spec.name
        self._now_ns = monotonic_ns
        self.conditions: Sequence[tuple[StatusCondition, str]] = [
            (condition, config.topic(condition.topic)) for condition in config.status
        ]
        self._said: dict[str, _Said] = {}

    def heard(self, condition: StatusCondition, message: Any) -> None:
        """Takes a message of a condition's topic."""
        self._said[condition.name] = _Said(condition.read(message), self._now_ns())

    @property
    def unheard(self) -> list[StatusCondition]:
        """Conditions whose topic has said nothing yet, or not for too long."""
        return [condition for condition, _ in self.conditions if self._silence(condition)]

    def require_motion(self) -> None:
        """Refuses motion unless every condition is fulfilled.

        Raises:
            MotionRefused: Names the topic, its value, those wanted, and what to do.
        """
        for condition, topic in self.conditions:
            problem = self._silence(condition)
            if not problem and not condition.allows(value := self._said[condition.name].value):
                problem = f"{value}"
            if problem:
                raise MotionRefused(
                    f"{self._robot} may not be moved: {topic} is {problem}, wanted {condition.wanted}; "
                    f"{condition.remedy}"
                )

    def _silence(self, condition: StatusCondition) -> str:
        """For how long a topic has said nothing, in words; empty while what it said last still counts."""
        said = self._said.get(condition.name)
        if said is None:
            return "silent"
        silent_s = (self._now_ns() - said.heard_ns) / NS_PER_S
        if condition.max_age_s is not None and silent_s > condition.max_age_s:
            return f"silent for {silent_s:.2f} s (at most {condition.max_age_s:g} s)"
        return ""


def status_message(condition: StatusCondition) -> Any:
    """Message class of a condition's topic.

    A vendor's own type is not among those that our client knows; the yaml spells its fields out, so that no vendor's
    package need be installed. Real rclpy has it from the vendor's driver.

    Raises:
        RobotYamlError: The type is not installed, its definition cannot be read, or it has no such field.
    """
    from hardware.ros import client

    own = client.BACKEND == "pip" and condition.fields
    made = _defined(condition) if own else _installed(condition)
    condition.read(made())
    return made


def _installed(condition: StatusCondition) -> Any:
    from hardware.ros import client

    try:
        return client.message(condition.type)
    except (ImportError, AttributeError, RobotRLError) as error:
        raise RobotYamlError(
            f"robot.status.{condition.name}.type is {condition.type}, which is not installed here ({error}): "
            "source the workspace that has the vendor's messages"
        ) from error


def _defined(condition: StatusCondition) -> Any:
    from hardware.ros.pip_client.messages import define_message

    where = f"robot.status.{condition.name}"
    try:
        for name, lines in condition.also.items():
            define_message(name, lines)
        return define_message(condition.type, condition.fields)
    except Exception as error:  # rosbags' parser, on somebody's text
        raise RobotYamlError(
            f"{where}: fields or also define no {condition.type} ({error}): one 'type name' a line"
        ) from error
