"""What a `_target_` names, and the object made of the settings beside it.

The rules are Hydra's, `_partial_`, `_args_` and `_recursive_` among them, without Hydra: nodes run on the robot's
computer, where it need not be. Whatever `_convert_` says, a class is given plain lists and dictionaries.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any

from robot_rl.core import section
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import Refusal

TARGET = "_target_"
RULES = ("_partial_", "_convert_", "_recursive_", "_args_")
_OPERATORS = "hardware.operators"
MOVED = {
    f"{_OPERATORS}.{old}": f"{_OPERATORS}.{new}"
    for old, new in {
        "absent": "simulated.absent",
        "corrector": "simulated.corrector",
        "device_operator": "devices.device_operator",
        "gamepad": "devices.gamepad",
        "keyboard": "terminal.keyboard",
        "leader_arm": "leader.operator",
        "pusht_pusher": "simulated.pusht_pusher",
        "replay": "simulated.replay",
        "scripted": "simulated.scripted",
        "spacemouse": "devices.spacemouse",
    }.items()
}
"""Modules whose classes yamls and runs of before name, and where they are now."""


def current_name(name: str) -> str:
    """The name that a class has now."""
    module = next((old for old in MOVED if name.startswith(f"{old}.")), None)
    return name if module is None else MOVED[module] + name[len(module) :]


@functools.cache
def _say_moved(name: str) -> None:
    sys.stderr.write(f"{name} is {current_name(name)} now: write that into the yaml\n")


def find(target: object, error: Refusal) -> Any:
    """What a `_target_` names: something of a module, or of a class in one.

    Raises:
        RobotRLError: `error`: it is no name, or there is no such thing.
    """
    if not isinstance(target, str):
        raise error(f"{TARGET} is {target!r}, wanted the name of a class such as hardware.ros.robot.RosRobot")
    try:
        now = current_name(target)
        if now != target:
            _say_moved(target)
        module, _, name = now.rpartition(".")
        return getattr(_located(module), name)
    except Exception as reason:  # importing a module runs it
        raise error(f"{TARGET} {target} cannot be imported: {reason}") from reason


def _located(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        outer, _, inner = name.rpartition(".")
        if missing.name != name or not outer or not hasattr(_located(outer), inner):
            raise
        return getattr(_located(outer), inner)


def require_parameters(settings: Mapping[str, Any], error: Refusal) -> Any:
    """What `_target_` names; refuses a key that it does not take, naming those that it does.

    Raises:
        RobotRLError: `error`: see there, or there is no such class.
    """
    if TARGET not in settings:
        raise error(f"no {TARGET} among {', '.join(map(str, settings)) or 'the settings'}: name the class to build")
    target = settings[TARGET]
    made = find(target, error)
    try:
        parameters = inspect.signature(made).parameters
    except Exception as reason:
        raise error(f"{TARGET} {target} cannot be built: {reason}") from reason
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return made
    for key in settings:
        if key not in parameters and key not in (TARGET, *RULES):
            near = difflib.get_close_matches(str(key), parameters, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise error(f"{target} takes no '{key}': {hint}It takes {', '.join(parameters)}")
    return made


def require_types(target: str, make: Any, arguments: Mapping[str, Any], error: Refusal) -> None:
    """Refuses text for a number and the like, where a class says what it takes; NaN and infinity are no numbers.

    Args:
        target: Its name.
        make: The class, or a function that makes one.
        arguments: To be given to it.
        error: Raised where one does not fit; names the argument.
    """
    try:
        hints = typing.get_type_hints(make.__init__ if isinstance(make, type) else make)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return  # annotations that exist for type checkers only
    for key, value in arguments.items():
        if _is_plain(hints.get(key)):
            section.value_of(hints[key], value, f"{target}: {key}", error)


def _is_plain(hint: Any) -> bool:
    return all(each in (bool, int, float, str, type(None)) for each in (typing.get_args(hint) or (hint,)))


def build(settings: Mapping[str, Any], error: Refusal, *, typed: bool = False, **arguments: Any) -> Any:
    """The object that `_target_` names, made with the other settings; targets within settings are built first.

    Args:
        settings: `_target_` and what it takes.
        error: Raised where nothing can be built of them.
        typed: Settings must be of the types that the class says, see `require_types`.
        arguments: Win over the settings, and are given to the class as they are.

    Raises:
        RobotRLError: `error`, or the class's own.
    """
    made, target = require_parameters(settings, error), settings[TARGET]
    try:
        recursive = settings.get("_recursive_", True)
        own = {
            key: _built(each, error, typed, recursive)
            for key, each in settings.items()
            if key not in (TARGET, *RULES) and key not in arguments
        }
        if typed:
            require_types(target, made, own, error)
        positional = _built(settings.get("_args_", []), error, typed, recursive)
        if settings.get("_partial_", False):
            return functools.partial(made, *positional, **own, **arguments)
        return made(*positional, **own, **arguments)
    except RobotRLError:
        raise
    except Exception as reason:  # a class of a yaml is anybody's code, and whoever starts it is told in words
        raise error(f"cannot build {target}: {type(reason).__name__}: {reason}") from reason


def _built(value: Any, error: Refusal, typed: bool, recursive: bool) -> Any:
    """Settings as plain containers, with what `_target_` names within them made where that is wanted."""
    if isinstance(value, Mapping):
        if recursive and TARGET in value:
            return build(value, error, typed=typed)
        return {key: _built(each, error, typed, recursive) for key, each in value.items()}
    return [_built(each, error, typed, recursive) for each in value] if isinstance(value, list | tuple) else value
