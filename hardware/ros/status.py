"""What a vendor's driver says of itself, as a condition for motion: a robot whose program does not run is not moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hardware.ros.robot_config import RobotConfig, StatusCondition
from robot_rl.types import RobotRLError


class MotionRefused(RobotRLError):
    """The arm's own driver does not allow motion."""


class StatusMonitor:
    """The newest value of every status topic, written by the node's thread and read by the control loop.

    Args:
        config: The robot's.
    """

    def __init__(self, config: RobotConfig) -> None:
        self._robot = config.spec.name
        self.conditions: Sequence[tuple[StatusCondition, str]] = [
            (condition, config.topic(condition.topic)) for condition in config.status
        ]
        self._values: dict[str, Any] = {}

    def heard(self, condition: StatusCondition, message: Any) -> None:
        """Takes a message of a condition's topic."""
        value = getattr(message, condition.field, None)
        # rclpy hands a `byte` or `char` over as bytes of length 1.
        self._values[condition.name] = value[0] if isinstance(value, bytes) and len(value) == 1 else value

    @property
    def unheard(self) -> list[StatusCondition]:
        """Conditions whose topic has said nothing yet."""
        return [condition for condition, _ in self.conditions if condition.name not in self._values]

    def require_motion(self) -> None:
        """Refuses motion unless every condition is fulfilled.

        Raises:
            MotionRefused: Names the topic, its value, those wanted, and what to do.
        """
        for condition, topic in self.conditions:
            value = self._values.get(condition.name)
            if value not in condition.one_of:
                wanted = " or ".join(str(each) for each in condition.one_of)
                got = "silent" if condition.name not in self._values else f"{value}"
                raise MotionRefused(
                    f"{self._robot} may not be moved: {topic} is {got}, wanted {wanted}; {condition.remedy}"
                )


def status_message(condition: StatusCondition) -> Any:
    """Message class of a condition's topic.

    A vendor's own type is not among those that our client knows; the yaml spells its fields out, so that no vendor's
    package need be installed. Real rclpy has it from the vendor's driver.
    """
    from hardware.ros import client

    if client.BACKEND == "pip" and condition.fields:
        from hardware.ros.pip_client.messages import define_message

        return define_message(condition.type, condition.fields)
    return client.message(condition.type)
