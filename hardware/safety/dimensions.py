"""Action dimensions: what errors call them, and values per dimension as a robot's yaml writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec


class LimitError(RobotRLError):
    """A command limit is missing, or makes no sense."""


def dimension_name(spec: RobotSpec, index: int) -> str:
    """How errors call an action dimension."""
    names = spec.action.names
    return f"action dimension {index} ('{names[index]}')" if index < len(names) else f"action dimension {index}"


def unit_of(spec: RobotSpec, index: int) -> str:
    """Unit of one action dimension."""
    units = spec.action.unit.split(",")
    return units[index] if len(units) == spec.action.size else spec.action.unit


def dimension_index(spec: RobotSpec, field: str, key: str | int) -> int:
    """The action dimension that a name or an index means.

    Raises:
        LimitError: There is none.
    """
    count = spec.action.shape[0]
    if key in spec.action.names:
        return spec.action.names.index(str(key))
    digits = str(key)
    if digits.isdecimal() and int(digits) < count:
        return int(digits)
    known = ", ".join(spec.action.names) or f"0..{count - 1}"
    raise LimitError(f"limits.{field}: no action dimension '{key}'; there is {known}")


def per_dimension(spec: RobotSpec, field: str, value: object) -> tuple[Any, ...]:
    """A list of values, or a mapping from dimension name or index, in the spec's order; None where one is absent.

    Raises:
        LimitError: It is neither.
    """
    if isinstance(value, Mapping):
        by_index = {dimension_index(spec, field, key): each for key, each in value.items()}
        return tuple(by_index.get(index) for index in range(spec.action.shape[0]))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise LimitError(f"limits.{field} is {value!r}, wanted a list of {spec.action.shape[0]}, one per action dimension")
