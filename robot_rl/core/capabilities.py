"""Capabilities that were meant but misshapen: half of them there, a method that takes something else, no answer at all.

`isinstance` would take such a thing for one without the capability, or for one with it; either is found out too late.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import cast

from robot_rl.core.errors import RobotRLError


def misshapen(thing: object, capabilities: Iterable[type]) -> list[str]:
    """What is wrong with the capabilities that something offers, in words; [] if nothing is.

    Args:
        thing: A robot, an operator or a policy.
        capabilities: Protocols, for example `robot_rl.core.protocols.ROBOT_CAPABILITIES`.
    """
    return [problem for each in capabilities for problem in _problems(thing, each)]


def require_shape(thing: object, capabilities: Iterable[type]) -> None:
    """Refuses something with a misshapen capability.

    Raises:
        RobotRLError: Names the capability and what is wanted.
    """
    problems = misshapen(thing, capabilities)
    if problems:
        raise RobotRLError(f"{type(thing).__name__}: {'; '.join(problems)}")


def _problems(thing: object, capability: type) -> list[str]:
    members = {name: member for name, member in vars(capability).items() if _is_asked_for(name, member)}
    offered = [name for name in members if hasattr(thing, name)]
    if not offered:
        return []
    missing = [name for name in members if name not in offered]
    if missing:
        return [f"it has {', '.join(offered)} but no {', '.join(missing)}, {_asked_by(capability)}"]
    problems = (_problem(thing, name, member) for name, member in members.items())
    return [f"{problem}, {_asked_by(capability)}" for problem in problems if problem]


def _is_asked_for(name: str, member: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))


def _problem(thing: object, name: str, wanted: object) -> str | None:
    offered, whose = getattr(thing, name), f"{name} of {type(thing).__name__}"
    if isinstance(wanted, property):
        declares = inspect.get_annotations(cast(Callable[..., object], wanted.fget))["return"] in ("bool", bool)
        misfit = declares and not isinstance(offered, bool)
        return f"{whose} is {offered!r}, wanted True or False: an attribute or a property" if misfit else None
    return _method_problem(offered, whose, cast(Callable[..., object], wanted))


def _method_problem(offered: object, whose: str, wanted: Callable[..., object]) -> str | None:
    parameters = list(inspect.signature(wanted).parameters)[1:]
    call = f"{wanted.__name__}({', '.join(parameters)})"
    if not callable(offered):
        return f"{whose} is {offered!r}, wanted a method {call}"
    try:
        inspect.signature(offered).bind(*parameters)
    except TypeError as error:
        return f"{whose} cannot be called as {call} ({error})"
    except ValueError:
        # Of C, which tells nothing about itself.
        return None
    return None


def _asked_by(capability: type) -> str:
    return f"which {capability.__name__} in robot_rl/core/protocols.py asks for"
