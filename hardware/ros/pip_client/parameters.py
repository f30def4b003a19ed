"""Parameters: typed values that a node declares, and that the command line or a params file overrides."""

from __future__ import annotations

import array
import enum
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hardware.ros.pip_client.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from hardware.ros.pip_client.messages import message_class


class ParameterType(enum.IntEnum):
    """Type of a parameter's value; the numbers are rcl_interfaces'."""

    NOT_SET = 0
    BOOL = 1
    INTEGER = 2
    DOUBLE = 3
    STRING = 4
    BYTE_ARRAY = 5
    BOOL_ARRAY = 6
    INTEGER_ARRAY = 7
    DOUBLE_ARRAY = 8
    STRING_ARRAY = 9


SCALARS: tuple[tuple[type, ParameterType], ...] = (
    (bool, ParameterType.BOOL),
    (int, ParameterType.INTEGER),
    (float, ParameterType.DOUBLE),
)
ARRAYS: tuple[tuple[type, ParameterType], ...] = (
    (bytes, ParameterType.BYTE_ARRAY),
    (bool, ParameterType.BOOL_ARRAY),
    (int, ParameterType.INTEGER_ARRAY),
    (float, ParameterType.DOUBLE_ARRAY),
    (str, ParameterType.STRING_ARRAY),
)
MESSAGE_FIELDS = {
    ParameterType.BOOL: "bool_value",
    ParameterType.INTEGER: "integer_value",
    ParameterType.DOUBLE: "double_value",
    ParameterType.STRING: "string_value",
    ParameterType.BYTE_ARRAY: "byte_array_value",
    ParameterType.BOOL_ARRAY: "bool_array_value",
    ParameterType.INTEGER_ARRAY: "integer_array_value",
    ParameterType.DOUBLE_ARRAY: "double_array_value",
    ParameterType.STRING_ARRAY: "string_array_value",
}


def type_of(value: Any) -> ParameterType:
    """Parameter type of a Python value.

    Raises:
        TypeError: No parameter can hold it.
    """
    if value is None:
        return ParameterType.NOT_SET
    for kind, found in SCALARS:
        if isinstance(value, kind):
            return found
    if isinstance(value, str):
        return ParameterType.STRING
    if isinstance(value, array.array):
        return ParameterType.DOUBLE_ARRAY if value.typecode in "fd" else ParameterType.INTEGER_ARRAY
    if isinstance(value, list | tuple):
        for kind, found in ARRAYS:
            if all(isinstance(item, kind) and not (kind is int and isinstance(item, bool)) for item in value):
                return found
    raise TypeError(f"No parameter can hold {value!r}: wanted bool, int, float, str, or a list of one of them")


class Parameter:
    """Name, type and value.

    Args:
        name: Dotted name.
        type_: Its type; None takes the value's.
        value: The value.
    """

    Type = ParameterType

    def __init__(self, name: str, type_: ParameterType | None = None, value: Any = None) -> None:
        kind = type_of(value) if type_ is None else ParameterType(type_)
        if type_ is not None and not fits(kind, value):
            raise ValueError(f"Type {kind.name} does not match value {value!r} of parameter {name!r}")
        self.name, self.type_, self.value = name, kind, value

    @classmethod
    def from_parameter_msg(cls, msg: Any) -> Parameter:
        """From rcl_interfaces/msg/Parameter."""
        kind = ParameterType(msg.value.type)
        value = None if kind == ParameterType.NOT_SET else getattr(msg.value, MESSAGE_FIELDS[kind])
        return cls(msg.name, kind, value)

    def get_parameter_value(self) -> Any:
        """As rcl_interfaces/msg/ParameterValue."""
        message: Any = message_class("rcl_interfaces/msg/ParameterValue")(type=int(self.type_))
        if self.type_ != ParameterType.NOT_SET:
            setattr(message, MESSAGE_FIELDS[self.type_], self.value)
        return message

    def to_parameter_msg(self) -> Any:
        """As rcl_interfaces/msg/Parameter."""
        return message_class("rcl_interfaces/msg/Parameter")(name=self.name, value=self.get_parameter_value())

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.type_.name}, {self.value!r})"


def fits(kind: ParameterType, value: Any) -> bool:
    """Whether a parameter of this type can hold the value; an empty list fits every array."""
    if isinstance(value, list | tuple) and not value:
        return kind.name.endswith("ARRAY")
    return type_of(value) == kind


class ParameterStore:
    """A node's declared parameters and the rules for changing them; the node exposes its methods.

    Args:
        overrides: Values from arguments, by name.
        allow_undeclared: Setting an undeclared parameter declares it.
    """

    def __init__(self, overrides: dict[str, Any], allow_undeclared: bool) -> None:
        self.overrides, self.allow_undeclared = overrides, allow_undeclared
        self._values: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._checks: list[Callable[[list[Parameter]], Any]] = []

    def declare(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> Parameter:
        """Declare one; see `Node.declare_parameter`."""
        if name in self._values:
            raise ParameterAlreadyDeclaredException(f"Parameter {name!r} is declared twice")
        descriptor = descriptor or message_class("rcl_interfaces/msg/ParameterDescriptor")()
        type_only = isinstance(value, ParameterType)
        wanted = value if type_only else type_of(value)
        used = None if type_only else value
        if not ignore_override and name in self.overrides:
            used = self.overrides[name]
        free = descriptor.dynamic_typing or wanted == ParameterType.NOT_SET
        if not free and used is not None and not fits(wanted, used):
            raise wrong_type(name, used, wanted)
        kind = wanted if not free and used is not None else type_of(used)
        parameter = Parameter(name, kind, used)
        self._refuse_out_of_range(parameter, descriptor)
        reason = self._objection([parameter])
        if reason is not None:
            raise InvalidParameterValueException(f"Parameter {name!r} = {used!r} refused: {reason}")
        descriptor.name, descriptor.type = name, int(kind if free else wanted)
        self._values[name], self._descriptors[name] = parameter, descriptor
        return parameter

    def _refuse_out_of_range(self, parameter: Parameter, descriptor: Any) -> None:
        for bounds in [*descriptor.integer_range, *descriptor.floating_point_range]:
            if isinstance(parameter.value, int | float) and not bounds.from_value <= parameter.value <= bounds.to_value:
                raise InvalidParameterValueException(
                    f"Parameter {parameter.name!r} is {parameter.value}, "
                    f"wanted {bounds.from_value} to {bounds.to_value}"
                )

    def _objection(self, parameters: list[Parameter]) -> str | None:
        for check in self._checks:
            result = check(parameters)
            if not result.successful:
                return str(result.reason)
        return None

    def add_check(self, check: Callable[[list[Parameter]], Any]) -> None:
        """Ask this callback before values change; the newest is asked first."""
        self._checks.insert(0, check)

    def remove_check(self, check: Callable[[list[Parameter]], Any]) -> None:
        """Do not ask it any more."""
        self._checks.remove(check)

    def has(self, name: str) -> bool:
        """Whether it is declared."""
        return name in self._values

    def get(self, name: str) -> Parameter:
        """One parameter; see `Node.get_parameter`."""
        if name not in self._values:
            if self.allow_undeclared:
                return Parameter(name)
            raise ParameterNotDeclaredException(f"Parameter {name!r} is not declared")
        parameter = self._values[name]
        dynamic = self._descriptors[name].dynamic_typing
        if parameter.type_ == ParameterType.NOT_SET and self._descriptors[name].type and not dynamic:
            raise ParameterUninitializedException(f"Parameter {name!r} has no value")
        return parameter

    def by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """Parameters below a prefix, by the rest of their names."""
        start = f"{prefix}." if prefix else ""
        return {name[len(start) :]: p for name, p in self._values.items() if name.startswith(start)}

    def descriptor(self, name: str) -> Any:
        """rcl_interfaces/msg/ParameterDescriptor of one."""
        self.get(name)
        return self._descriptors[name]

    def undeclare(self, name: str) -> None:
        """Forget one."""
        self.get(name)
        if self._descriptors[name].read_only:
            raise ParameterImmutableException(f"Parameter {name!r} is read-only")
        del self._values[name], self._descriptors[name]

    def set_together(self, parameters: Sequence[Parameter]) -> Any:
        """All or none; returns rcl_interfaces/msg/SetParametersResult."""
        result = message_class("rcl_interfaces/msg/SetParametersResult")
        for parameter in parameters:
            if not self.has(parameter.name):
                if not self.allow_undeclared:
                    raise ParameterNotDeclaredException(f"Parameter {parameter.name!r} is not declared")
                self.declare(parameter.name, parameter.value, None, ignore_override=True)
        reason = next(filter(None, map(self._refusal, parameters)), None) or self._objection(list(parameters))
        if reason is not None:
            return result(successful=False, reason=reason)
        self._values.update({parameter.name: parameter for parameter in parameters})
        return result(successful=True)

    def _refusal(self, parameter: Parameter) -> str | None:
        descriptor = self._descriptors[parameter.name]
        if descriptor.read_only:
            return f"Parameter {parameter.name!r} is read-only"
        if (
            not descriptor.dynamic_typing
            and descriptor.type
            and not fits(ParameterType(descriptor.type), parameter.value)
        ):
            return str(wrong_type(parameter.name, parameter.value, ParameterType(descriptor.type)))
        try:
            self._refuse_out_of_range(parameter, descriptor)
        except InvalidParameterValueException as error:
            return str(error)
        return None


def wrong_type(name: str, value: Any, wanted: ParameterType) -> InvalidParameterTypeException:
    """The error for a value of another type than declared."""
    if isinstance(value, np.generic):
        value = value.item()
    return InvalidParameterTypeException(
        f"Trying to set parameter '{name}' to '{value}' of type '{type_of(value).name}', expecting type '{wanted.name}'"
    )
