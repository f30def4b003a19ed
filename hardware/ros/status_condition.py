"""What a vendor's driver must say of itself before its arm may be moved: one entry of a yaml's `robot.status`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardware.ros.yaml_section import RobotYamlError, flag, number, refuse_unknown, require_mapping, text, topic_name

_KEYS = {"topic", "type", "field", "one_of", "at_least", "at_most", "remedy", "latched", "max_age_s", "fields", "also"}


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
    topic: str
    type: str
    field: str
    remedy: str
    one_of: tuple[Any, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    latched: bool = True
    max_age_s: float | None = None
    fields: str = ""
    also: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, name: str, document: object) -> StatusCondition:
        """A condition from its yaml.

        Raises:
            RobotYamlError: Names the key, what it is and what was wanted.
        """
        where = f"robot.status.{name}"
        keys = require_mapping(document, where)
        refuse_unknown(keys, _KEYS, where)
        for key in ("topic", "type", "remedy"):
            if keys.get(key) is None:
                raise RobotYamlError(f"{where}.{key} is missing")
        latched = flag(keys.get("latched", True), f"{where}.latched")
        low, high = (_bound(keys.get(key), f"{where}.{key}") for key in ("at_least", "at_most"))
        return cls(
            name=name,
            topic=topic_name(keys["topic"], f"{where}.topic"),
            type=message_type(keys["type"], f"{where}.type"),
            field=_field(keys.get("field", "data"), f"{where}.field"),
            remedy=text(keys["remedy"], f"{where}.remedy"),
            one_of=_one_of(keys, low, high, where),
            at_least=low,
            at_most=high,
            latched=latched,
            max_age_s=_age(keys.get("max_age_s"), latched, where),
            fields=text(keys.get("fields", ""), f"{where}.fields"),
            also=tuple(
                (message_type(each, f"{where}.also"), text(lines, f"{where}.also.{each}"))
                for each, lines in require_mapping(keys.get("also", {}), f"{where}.also").items()
            ),
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


def message_type(value: object, where: str) -> str:
    """A message type as ROS spells one."""
    name = value if isinstance(value, str) else ""
    if name.count("/") != 2 or name.split("/")[1] != "msg" or not all(each.isidentifier() for each in name.split("/")):
        raise RobotYamlError(f"{where} is {value!r}, wanted a message type such as std_msgs/msg/Bool")
    return name


def _one_of(keys: Mapping[str, Any], low: float | None, high: float | None, where: str) -> tuple[Any, ...]:
    values, bounded = keys.get("one_of"), low is not None or high is not None
    if values is None and not bounded:
        raise RobotYamlError(f"{where} says no value that allows motion: write one_of, or at_least and at_most")
    if values is not None and bounded:
        raise RobotYamlError(f"{where} has one_of as well as at_least or at_most: write one of them")
    if bounded and low is not None and high is not None and low > high:
        raise RobotYamlError(f"{where}.at_least is {low:g}, above at_most {high:g}")
    if values is None:
        return ()
    if not isinstance(values, list) or not values:
        raise RobotYamlError(f"{where}.one_of is {values!r}, wanted a list of the values that allow motion")
    for each in values:
        if not isinstance(each, bool | int | str):
            raise RobotYamlError(f"{where}.one_of holds {each!r}, wanted true, false, whole numbers or names")
    return tuple(values)


def _bound(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RobotYamlError(f"{where} is {value!r}, wanted a finite number")
    return float(value)


def _age(value: object, latched: bool, where: str) -> float | None:
    if value is None and latched:
        return None
    if value is None:
        raise RobotYamlError(
            f"{where}.max_age_s is missing; a driver that died says nothing: after how long is that so?"
        )
    seconds = number(value, f"{where}.max_age_s")
    if seconds == 0.0:
        raise RobotYamlError(f"{where}.max_age_s is 0, wanted seconds above 0")
    return seconds


def _field(value: object, where: str) -> str:
    name = text(value, where)
    if not all(part.isidentifier() for part in name.split(".")):
        raise RobotYamlError(f"{where} is {name!r}, wanted a field such as mode, or one within another: errors.reflex")
    return name
