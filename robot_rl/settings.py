"""From yaml files and command-line overrides to typed dataclasses; the only place that talks to Hydra's composer.

Nobody below the command layer sees a DictConfig.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from robot_rl.types import HelpRequested, RobotRLError

__all__ = ["MISSING", "ConfigError", "build", "compose", "load", "to_dataclass"]

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"

T = TypeVar("T")


class ConfigError(RobotRLError):
    """A setting that does not exist, has the wrong type, or is missing."""


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
    config = compose(config_name, [_settable(each) for each in overrides])
    return to_dataclass(config, schema)


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The composed yaml of a command.

    Raises:
        ConfigError: An override names a key, group or option that does not exist.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        known = OmegaConf.to_container(hydra_compose(config_name))
        try:
            return hydra_compose(config_name, overrides=[*overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, overrides, _leaves(known))) from None


def to_dataclass(config: DictConfig, schema: type[T]) -> T:
    """Checks a composed config against a dataclass and returns an instance of it.

    Raises:
        ConfigError: A key that the dataclass lacks, a value of another type, or a required value left out.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        return cast(T, OmegaConf.to_object(merged))
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a required setting"
        raise ConfigError(f"{key} is required: add {key}=... to the command") from None
    except OmegaConfBaseException as error:
        defaults = OmegaConf.to_container(OmegaConf.structured(schema))
        raise ConfigError(_explain(error, (), _leaves(defaults))) from None


def build(settings: dict[str, Any], **arguments: Any) -> Any:
    """Instantiates the class that `_target_` names with the other settings and `arguments`.

    Raises:
        ConfigError: No `_target_`, or the class refuses an argument; its own clear errors pass through.
    """
    if "_target_" not in settings:
        raise ConfigError(f"no _target_ among {', '.join(settings) or 'the settings'}: name the class to build")
    _require_parameters(settings)
    try:
        return instantiate(settings, **arguments)
    except HydraException as error:
        if isinstance(error.__cause__, RobotRLError):
            raise error.__cause__ from None
        reason: BaseException = error.__cause__ or error
        raise ConfigError(f"cannot build {settings['_target_']}: {reason!s}") from error


def _settable(override: str) -> str:
    """Lets an override set what only the dataclass names; the choice of a group's option stays as it is."""
    key = override.partition("=")[0]
    is_choice = (CONFIG_DIRECTORY / key).is_dir()
    return override if is_choice or not key[:1].isalpha() else f"++{override}"


def _require_parameters(settings: dict[str, Any]) -> None:
    """Refuses a key that the class does not take, naming those that it does."""
    try:
        parameters = inspect.signature(get_object(settings["_target_"])).parameters
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"_target_ {settings['_target_']} cannot be imported: {error}") from error
    for key in settings:
        if key not in parameters and key not in {"_target_", "_partial_"}:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"{settings['_target_']} takes no '{key}': {hint}It takes {', '.join(parameters)}")


def _help_text(schema: type[Any], config_name: str) -> str:
    """Every setting of a command with its default, and the options of its groups."""
    config = OmegaConf.merge(OmegaConf.structured(schema), compose(config_name, ()))
    groups = [
        f"  {group.name}=" + "|".join(sorted(path.stem for path in group.glob("*.yaml")))
        for group in sorted(CONFIG_DIRECTORY.iterdir())
        if group.is_dir() and group.name in config
    ]
    choices = "\ngroups:\n" + "\n".join(groups) + "\n" if groups else ""
    return (
        f"usage: robot-rl {config_name} [setting=value ...]\n{choices}"
        f"\nsettings and defaults (??? is required):\n{OmegaConf.to_yaml(config).strip()}\n"
    )


def _explain(error: Exception, overrides: Sequence[str], valid: Sequence[str]) -> str:
    """Hydra's or OmegaConf's message, shortened, with the nearest valid names."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    wrong: str = getattr(cause, "full_key", None) or ""
    if wrong and wrong not in valid:
        near = difflib.get_close_matches(wrong, valid, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"unknown setting '{wrong}': {hint}Valid settings: {', '.join(valid)}"
    text = " ".join(str(error).split())
    return f"{text} (from: {' '.join([*overrides])})" if overrides else text


def _leaves(settings: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a composed config turned into plain containers."""
    if not isinstance(settings, dict):
        return []
    return [leaf for key, child in settings.items() for leaf in (f"{prefix}{key}", *_leaves(child, f"{prefix}{key}."))]
