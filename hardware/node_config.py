"""What a node is told: one JSON file with the whole resolved robot, and the objects that it names.

Nodes run on the robot's computer, where neither Hydra nor torch need be; so this is all of instantiation that they get.
"""

from __future__ import annotations

import importlib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from robot_rl.core import section
from robot_rl.core.errors import RobotRLError

TARGET = "_target_"

Settings = TypeVar("Settings")


class BadConfig(RobotRLError):
    """A node's settings are missing or make no sense."""


def read_config(path: str) -> dict[str, Any]:
    """The robot that a JSON file describes.

    Args:
        path: As given with `--ros-args -p config:=...`.

    Raises:
        BadConfig: There is no such file, or it holds no JSON object.
    """
    if not path:
        raise BadConfig("no robot given: start the node with --ros-args -p config:=/path/to/robot.json")
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise BadConfig(f"cannot read {path} ({error.strerror}): wanted a robot's settings as JSON") from error
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{path} is no JSON ({error}): write it anew with robot-rl up") from error
    if not isinstance(document, dict):
        raise BadConfig(f"{path} holds a {type(document).__name__}, wanted an object with the robot's settings")
    return document


def build(target_settings: Mapping[str, Any]) -> Any:
    """The object that `_target_` names, made with the other keys; settings within settings are built first.

    Raises:
        BadConfig: There is no such class, or it does not take these settings.
    """
    target = target_settings.get(TARGET)
    if not isinstance(target, str):
        raise BadConfig(f"settings {sorted(target_settings)} have no {TARGET}: name the class to build")
    make = find(target)
    arguments = {key: _built(value) for key, value in target_settings.items() if key != TARGET}
    require_types(target, make, arguments)
    try:
        return make(**arguments)
    except RobotRLError:
        raise
    except TypeError as error:
        raise BadConfig(f"{target} does not take {', '.join(arguments) or 'no settings'}: {error}") from error
    except Exception as error:  # a driver is anybody's code, and whoever starts it is told in words
        raise BadConfig(f"{target} cannot be made of these settings: {type(error).__name__}: {error}") from error


def require_types(target: str, make: Any, arguments: Mapping[str, Any]) -> None:
    """Refuses text for a number and the like, where a class says what it takes; NaN and infinity are no numbers.

    Args:
        target: Its name.
        make: The class, or a function that makes one.
        arguments: To be given to it.

    Raises:
        BadConfig: Names the argument.
    """
    try:
        hints = typing.get_type_hints(make.__init__ if isinstance(make, type) else make)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return  # annotations that exist for type checkers only
    for key, value in arguments.items():
        if _is_plain(hints.get(key)):
            section.value_of(hints[key], value, f"{target}: {key}", BadConfig)


def _is_plain(hint: Any) -> bool:
    return all(each in (bool, int, float, str, type(None)) for each in (typing.get_args(hint) or (hint,)))


def read_section(what: str, settings: Mapping[str, Any] | None, kind: type[Settings]) -> Settings:
    """A dataclass filled from a part of the robot's settings.

    Raises:
        BadConfig: The part is absent, a key is unknown or missing, or a value is of another type than the dataclass
            says; a number that is NaN or infinite is none.
    """
    if settings is None or settings == {}:
        raise BadConfig(f"the robot's settings have no '{what}': this node has nothing to run")
    return section.read(kind, settings, what, BadConfig)


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(value) if TARGET in value else {key: _built(each) for key, each in value.items()}
    return [_built(each) for each in value] if isinstance(value, list) else value


def find(target: str) -> Any:
    """What a `_target_` names.

    Raises:
        BadConfig: There is no such thing.
    """
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing a module runs it
        raise BadConfig(f"cannot import {module_name or target} of {TARGET} {target}: {error}") from error
    if not hasattr(module, name):
        raise BadConfig(f"{module_name} has no {name!r} ({TARGET}: {target})")
    return getattr(module, name)
