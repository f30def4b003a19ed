"""Where yaml files are looked for: our own `configs`, then the user's. No Hydra here, so that `doctor` can ask too.

A user's directory has the shape of ours: `robot/ros/my_arm.yaml` in it is `robot=ros/my_arm`. It is what
`ROBOT_RL_CONFIGS` names (several are separated as in `PATH`), else `configs` in the working directory.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from robot_rl.core.errors import RobotRLError

CONFIG_DIRECTORY = Path(__file__).resolve().parents[2] / "configs"
VARIABLE = "ROBOT_RL_CONFIGS"


class ConfigError(RobotRLError):
    """A setting that does not exist, has the wrong type, or is missing; a yaml file that is not there."""


def user_directories(environment: Mapping[str, str] = os.environ, own: Path = CONFIG_DIRECTORY) -> list[Path]:
    """The user's directories, in order of precedence.

    Args:
        environment: Variables, the process's own if left out.
        own: The package's directory, which is left out where it is also the working directory's.

    Raises:
        ConfigError: `ROBOT_RL_CONFIGS` names something that is no directory.
    """
    named = environment.get(VARIABLE)
    if named is None:
        places = [place for place in [Path.cwd() / "configs"] if place.is_dir()]
    else:
        places = [Path(each).expanduser() for each in named.split(os.pathsep) if each]
        for place in places:
            if not place.is_dir():
                raise ConfigError(f"{VARIABLE} names {place}, which is no directory: wanted one like {own}")
    return [place.resolve() for place in places if place.resolve() != own.resolve()]


def search_directories(own: Path = CONFIG_DIRECTORY) -> list[Path]:
    """Everywhere, our own first."""
    return [own, *user_directories(own=own)]


def options(group: str, directories: Sequence[Path]) -> list[str]:
    """Every option of a group, those in folders as `ros/my_arm`."""
    found = {
        path.relative_to(place / group).with_suffix("").as_posix()
        for place in directories
        for path in (place / group).rglob("*.yaml")
    }
    return sorted(found, key=lambda name: (name.count("/"), name))


def find_option(group: str, name: str, directories: Sequence[Path]) -> Path:
    """The file of a group's option.

    Raises:
        ConfigError: None has it, listing those that exist; or two directories hold different files of this name,
            since nobody should have to guess which limits an arm obeys.
    """
    files = [path for place in directories if (path := place / group / f"{name}.yaml").is_file()]
    if not files:
        known = options(group, directories)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        where = " and ".join(map(str, directories))
        raise ConfigError(
            f"Could not find '{group}/{name}': {hint}Available options in '{group}': {' '.join(known)}. Looked in "
            f"{where}; yours go into configs/{group}/ here, or set {VARIABLE}=<directory with {group}/{name}.yaml>"
        )
    for other in files[1:]:
        if other.read_bytes() != files[0].read_bytes():
            raise ConfigError(f"{group}={name} is two different files, {files[0]} and {other}: rename yours")
    return files[0]
