"""The parameter methods of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hardware.ros.pip_client.parameters import Parameter, ParameterStore


class NodeParameters:
    """Mixed into `Node`, which gives it its store."""

    _parameters: ParameterStore

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare a parameter.

        Args:
            name: Dotted name.
            value: Default, or a `Parameter.Type` for one that must be given.
            descriptor: rcl_interfaces/msg/ParameterDescriptor.
            ignore_override: Take the default whatever the arguments say.
        """
        return self._parameters.declare(name, value, descriptor, ignore_override)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare several, each (name, value) or (name, value, descriptor)."""
        prefix = f"{namespace}." if namespace else ""
        return [
            self.declare_parameter(prefix + name, value, descriptor, ignore_override)
            for name, value, descriptor in ((*given, None, None)[:3] for given in parameters)
        ]

    def undeclare_parameter(self, name: str) -> None:
        """Forget a parameter."""
        self._parameters.undeclare(name)

    def has_parameter(self, name: str) -> bool:
        """Whether it is declared."""
        return self._parameters.has(name)

    def get_parameter(self, name: str) -> Parameter:
        """A declared parameter."""
        return self._parameters.get(name)

    def get_parameters(self, parameter_names: Sequence[str]) -> list[Parameter]:
        """Several declared parameters."""
        return [self.get_parameter(name) for name in parameter_names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        """A declared parameter, or the alternative."""
        if self.has_parameter(name):
            return self.get_parameter(name)
        return alternative_value if alternative_value is not None else Parameter(name)

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """Parameters below a prefix, by the rest of their names."""
        return self._parameters.by_prefix(prefix)

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        """Change parameters one by one; a rcl_interfaces/msg/SetParametersResult for each."""
        return [self._parameters.set_together([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        """Change all or none; one rcl_interfaces/msg/SetParametersResult."""
        return self._parameters.set_together(parameter_list)

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Ask before values change; the callback returns a SetParametersResult."""
        self._parameters.add_check(callback)

    def remove_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        """Do not ask it any more."""
        self._parameters.remove_check(callback)

    def describe_parameter(self, name: str) -> Any:
        """rcl_interfaces/msg/ParameterDescriptor of a parameter."""
        return self._parameters.descriptor(name)
