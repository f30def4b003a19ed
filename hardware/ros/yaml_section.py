"""Reading one section of a robot yaml: a clear error names the key, the value and what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robot_rl.core.errors import RobotRLError


class RobotYamlError(RobotRLError):
    """The `robot` section of a yaml does not describe a robot."""


def plain(value: object) -> Any:
    """Settings as dictionaries, lists and scalars, whichever containers a config library handed over."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


def require_mapping(value: object, where: str) -> dict[str, Any]:
    """The mapping that a section must be."""
    if not isinstance(value, Mapping):
        raise RobotYamlError(f"{where} is {value!r}, wanted a mapping")
    return dict(value)


def refuse_unknown(keys: Mapping[str, Any], known: set[str], where: str, of: str = "") -> None:
    """Refuses a key that means nothing, naming those that do."""
    unknown = sorted(set(keys) - known)
    if unknown:
        raise RobotYamlError(f"{where}{of} has no key '{unknown[0]}'; it takes {', '.join(sorted(known))}")


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Refuses a list that names something twice."""
    for name in names:
        if names.count(name) > 1:
            raise RobotYamlError(f"{where} has '{name}' twice")


def strings(value: object, where: str) -> tuple[str, ...]:
    """A list of names."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RobotYamlError(f"{where} is {value!r}, wanted a list of names")
    return tuple(text(each, f"an entry of {where}") for each in value)


def text(value: object, where: str) -> str:
    """A name, or other words; not what yaml makes of a bare `no`, `1` or `1e5`."""
    if not isinstance(value, str):
        raise RobotYamlError(f"{where} is {value!r}, wanted a name: put it in quotes")
    return value


def flag(value: object, where: str) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise RobotYamlError(f"{where} is {value!r}, wanted true or false")
    return value


def whole(value: object, where: str) -> int:
    """A number of things, at least 1."""
    if type(value) is not int or value < 1:
        raise RobotYamlError(f"{where} is {value!r}, wanted a whole number of at least 1")
    return value


def number(value: object, where: str) -> float:
    """A finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < float("inf"):
        raise RobotYamlError(f"{where} is {value!r}, wanted a number of at least 0")
    return float(value)


def topic_name(value: object, where: str) -> str:
    """A topic as ROS spells one."""
    text = value if isinstance(value, str) else ""
    parts = text.removeprefix("/").split("/")
    if not all(part.isidentifier() and part.isascii() for part in parts):
        raise RobotYamlError(f"{where} is {value!r}, wanted a ROS topic such as joint_states or /camera/image_raw")
    return text


def _size(value: object, where: str) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    sound = isinstance(value, Sequence) and all(type(each) is int and each > 0 for each in value)
    if not sound or not isinstance(value, Sequence):
        raise RobotYamlError(f"{where}.size is {value!r}, wanted whole numbers above 0")
    return tuple(value)
