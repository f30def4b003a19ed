"""What a node is told: one JSON file with the whole resolved robot, and the objects that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from robot_rl.core import section, targets
from robot_rl.core.errors import RobotRLError

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
    return targets.build(target_settings, BadConfig, typed=True)


def read_section(what: str, settings: Mapping[str, Any] | None, kind: type[Settings]) -> Settings:
    """A dataclass filled from a part of the robot's settings.

    Raises:
        BadConfig: The part is absent, a key is unknown or missing, or a value is of another type than the dataclass
            says; a number that is NaN or infinite is none.
    """
    if settings is None or settings == {}:
        raise BadConfig(f"the robot's settings have no '{what}': this node has nothing to run")
    return section.read(kind, settings, what, BadConfig)
