"""From yaml files and command-line overrides to typed dataclasses; the only place that talks to Hydra's composer.

Nobody below the command layer sees a DictConfig.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from robot_rl.config.search import CONFIG_DIRECTORY, ConfigError, find_option, options, search_directories
from robot_rl.config.yaml_bounds import require_bounded, require_readable
from robot_rl.core import targets
from robot_rl.core.errors import HelpRequested, RobotRLError

__all__ = ["MISSING", "ConfigError", "build", "compose", "load", "to_dataclass"]

T = TypeVar("T")


def load(schema: type[T], config_name: str, overrides: Sequence[str]) -> T:
    """A command's settings: the dataclass's defaults, then its yaml file, then the command line.

    Args:
        schema: Dataclass that names every setting; group contents (`robot`, `policy`) are dictionaries in it.
        config_name: File below `configs/`, without `.yaml`.
        overrides: Hydra overrides, for example `robot=pusht episodes=3`.

    Raises:
        ConfigError: Names the setting, what was wanted and the valid choices.
    """
    if {"-h", "--help"} & set(overrides):
        raise HelpRequested(_help_text(schema, config_name))
    return to_dataclass(compose(config_name, overrides), schema)


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The composed yaml of a command.

    Hydra chooses the options of the groups that the command's yaml names; every other override is merged afterwards,
    because Hydra takes `policy=runs/peg/bundle` for a choice wherever a folder `configs/policy` exists.

    Raises:
        ConfigError: A group's option does not exist, or an override is not `name=value`.
        YamlRefused: A chosen file, or what its `${...}` make of it, is no bounded set of plain values.
    """
    GlobalHydra.instance().clear()
    places = search_directories(CONFIG_DIRECTORY)
    home = next((place for place in places if (place / f"{config_name}.yaml").is_file()), CONFIG_DIRECTORY)
    search = _search_path([place for place in places if place != home])
    if "/" in config_name:
        require_readable(home / f"{config_name}.yaml")
    with initialize_config_dir(str(home), version_base="1.3"):
        with _in_words():
            groups = hydra_compose(config_name, search, return_hydra_config=True).hydra.runtime.choices
        choices = [each for each in overrides if each.partition("=")[0] in groups]
        values = [each for each in overrides if each not in choices]
        for each in values:
            if not each.partition("=")[0].replace(".", "").isidentifier() or "=" not in each:
                raise ConfigError(f"'{each}' is not a setting: wanted name=value (robot-rl {config_name} --help)")
        for group, _, option in (each.partition("=") for each in choices):
            _require_readable_choice(find_option(group, option, places), option, places)
        return _merged(config_name, [*search, *choices], values)


def _merged(config_name: str, choices: list[str], values: list[str]) -> DictConfig:
    """What Hydra composes of the chosen files, and single values on top."""
    with _in_words():
        config = hydra_compose(config_name, overrides=choices)
        OmegaConf.set_struct(config, False)
        merged = cast(DictConfig, OmegaConf.merge(config, OmegaConf.from_dotlist(values)))
        require_bounded(cast(dict[str, Any], OmegaConf.to_container(merged, resolve=False)))
        return merged


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Whatever Hydra, OmegaConf and PyYAML raise on a user's files becomes a `ConfigError`."""
    try:
        yield
    except RobotRLError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_explain(error)) from None
    except Exception as error:  # ValueError, TypeError, AttributeError ... on odd files
        raise ConfigError(_odd(error)) from error


def _require_readable_choice(path: Path, option: str, places: Sequence[Path]) -> None:
    """Refuses a chosen file, or another that is read with it, that no library should be given.

    Read with it are those that it names in `defaults`, and other groups' options of the same name (`task: ${robot}`).
    """
    groups = [group for place in places for group in place.iterdir() if group.is_dir()]
    todo, seen = [path, *(group / f"{option}.yaml" for group in groups)], set[Path]()
    while todo:
        each = todo.pop().resolve()
        if each not in seen and each.is_file():
            seen.add(each)
            require_readable(each)
            todo += [found for place in places for found in _defaults(each, place)]


def _defaults(path: Path, place: Path) -> list[Path]:
    """Files of a directory that a file's `defaults` may mean."""
    document = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # every value is a string
    named = document.get("defaults") if isinstance(document, dict) else None
    found = []
    for entry in named if isinstance(named, list) else []:
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for group, option in pairs:
            folder = str(group).split()[-1].partition("@")[0] if str(group).split() else ""
            for one in option if isinstance(option, list) else [option]:
                name = f"{folder}/{str(one).partition('@')[0]}".strip("/") + ".yaml"
                found += [place / name, path.parent / name]
    return found


def _search_path(places: Sequence[Path]) -> list[str]:
    """Hydra's override for further directories; the command's own file must be in the first one."""
    quoted = ("'file://" + str(place).replace("'", "\\'") + "'" for place in places)
    return [f"hydra.searchpath=[{', '.join(quoted)}]"] if places else []


def to_dataclass(config: DictConfig | dict[str, Any], schema: type[T]) -> T:
    """Checks a composed config, or a section of one, against a dataclass and returns an instance of it.

    Raises:
        ConfigError: A key that the dataclass lacks, a value of another type, or a required value left out.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        return cast(T, OmegaConf.to_object(merged))
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a required setting"
        raise ConfigError(f"{key} is required: add {key}=... to the command") from None
    except InterpolationToMissingValueError as error:
        key = str(error.msg).splitlines()[0].rpartition(": ")[2]
        raise ConfigError(f"{key} is required by {error.full_key}: add {key}=... to the command") from None
    except OmegaConfBaseException as error:
        defaults = OmegaConf.to_container(OmegaConf.structured(schema))
        raise ConfigError(_explain(error, _leaves(defaults))) from None
    except RobotRLError:
        raise
    except Exception as error:  # as above; and a dataclass may do sums with what it was given
        raise ConfigError(_odd(error)) from error


def build(settings: dict[str, Any], **arguments: Any) -> Any:
    """Instantiates the class that `_target_` names with the other settings and `arguments`.

    Raises:
        ConfigError: No `_target_`, or the class refuses an argument; its own clear errors pass through.
    """
    return targets.build(settings, ConfigError, **arguments)


def _help_text(schema: type[Any], config_name: str) -> str:
    """Every setting of a command with its default, and the options of its groups."""
    composed = compose(config_name, ())
    config = OmegaConf.merge(OmegaConf.structured(schema), composed)
    places = search_directories(CONFIG_DIRECTORY)
    groups = [
        f"  {group.name}=" + "|".join(options(group.name, places))
        for group in sorted(CONFIG_DIRECTORY.iterdir())
        if group.is_dir() and group.name in composed
    ]
    choices = "\ngroups:\n" + "\n".join(groups) + "\n" if groups else ""
    return (
        f"usage: robot-rl {config_name} [setting=value ...]\n{choices}"
        f"\nsettings and defaults (??? is required):\n{OmegaConf.to_yaml(config).strip()}\n"
    )


def _explain(error: Exception, valid: Sequence[str] = ()) -> str:
    """Hydra's or OmegaConf's message without its framing, with the nearest valid names."""
    if isinstance(error, ConfigKeyError):
        wrong = str(error.full_key)
        near = difflib.get_close_matches(wrong, valid, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"unknown setting '{wrong}': {hint}Valid settings: {', '.join(valid)}"
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {str(error.msg).splitlines()[0]}"
    if isinstance(error, YAMLError):
        return "a value is not valid yaml: " + " ".join(str(error).split())
    return " ".join(str(error).partition("Config search path")[0].split())


def _odd(error: Exception) -> str:
    """Words for what a library did not foresee."""
    if isinstance(error, RecursionError):
        return "settings are nested too deep to be read"
    return f"the settings cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"


def _leaves(settings: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a composed config turned into plain containers."""
    if not isinstance(settings, dict):
        return []
    return [leaf for key, child in settings.items() for leaf in (f"{prefix}{key}", *_leaves(child, f"{prefix}{key}."))]
