"""What a vendor's driver must say of itself before its arm may be moved: one entry of a yaml's `robot.status`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from hardware.ros.yaml_section import MessageType, RobotYamlError, Topic
from robot_rl.core import section
from robot_rl.core.section import Seconds, Wanted

Said = Annotated[
    object, Wanted("true, false, whole numbers or names", lambda value: isinstance(value, bool | int | str))
]
SomeSaid = Annotated[tuple[Said, ...], Wanted("a list of the values that allow motion", bool)]
Field = Annotated[
    str,
    Wanted(
        "a field such as mode, or one within another: errors.reflex",
        lambda value: all(part.isidentifier() for part in value.split(".")),
    ),
]


@dataclass(frozen=True)
class StatusCondition:
    """A value that a driver says of itself, and which ones allow motion.

    Attributes:
        name: For errors.
        topic: For example `/io_and_status_controller/robot_program_running`.
        type: Its message type, `std_msgs/msg/Bool`.
        field: Of the message; within another one as `errors.joint_reflex`.
        remedy: What a person has to do where motion is not allowed.
        one_of: Values that allow motion; () where numbers are bounded instead.
        at_least: Lowest number that allows motion; None for no bound.
        at_most: Highest number that does, likewise.
        latched: The driver publishes it when it changes and keeps it for late subscribers. Else it says it again and
            again, and `max_age_s` is needed: a driver that died says nothing any more.
        max_age_s: What was said longer ago allows no motion [s]; None while it is true until something else is said.
        fields: The message's definition, for a type outside the standard packages: `uint8 mode`.
        also: Definitions of the types within it, by name, each before those that use it.
    """

    name: str
    topic: Topic
    type: MessageType
    remedy: str
    field: Field = "data"
    one_of: SomeSaid = ()
    at_least: float | None = None
    at_most: float | None = None
    latched: bool = True
    max_age_s: Seconds | None = None
    fields: str = ""
    also: Mapping[MessageType, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, document: object) -> StatusCondition:
        """A condition from its yaml.

        Raises:
            RobotYamlError: Names the key, what it is and what was wanted.
        """
        where = f"robot.status.{name}"
        condition = section.read(cls, document, where, RobotYamlError, name=name)
        condition._check(where)
        return condition

    def _check(self, where: str) -> None:
        low, high = self.at_least, self.at_most
        bounded = low is not None or high is not None
        if not self.one_of and not bounded:
            raise RobotYamlError(f"{where} says no value that allows motion: write one_of, or at_least and at_most")
        if self.one_of and bounded:
            raise RobotYamlError(f"{where} has one_of as well as at_least or at_most: write one of them")
        if low is not None and high is not None and low > high:
            raise RobotYamlError(f"{where}.at_least is {low:g}, above at_most {high:g}")
        if self.max_age_s is None and not self.latched:
            raise RobotYamlError(
                f"{where}.max_age_s is missing; a driver that died says nothing: after how long is that so?"
            )

    @property
    def wanted(self) -> str:
        """The values that allow motion, in words."""
        if self.one_of:
            return " or ".join(str(each) for each in self.one_of)
        bounds = {"at least": self.at_least, "at most": self.at_most}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)

    def read(self, message: Any) -> Any:
        """The field's value.

        Raises:
            RobotYamlError: The message has no such field.
        """
        value = message
        for part in self.field.split("."):
            if not hasattr(value, part):
                raise RobotYamlError(f"robot.status.{self.name}.field is '{self.field}': {self.type} has no '{part}'")
            value = getattr(value, part)
        # rclpy hands a `byte` or `char` over as bytes of length 1.
        return value[0] if isinstance(value, bytes) and len(value) == 1 else value

    def allows(self, value: Any) -> bool:
        """Whether motion is allowed while the driver says this."""
        if self.one_of:
            # 1 is not true: a mode is no yes.
            return any(value == each and isinstance(value, bool) is isinstance(each, bool) for each in self.one_of)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return is_number and low <= value <= high
