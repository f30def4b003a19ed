"""What `--ros-args` says: remaps, node name, namespace, parameters and log level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hardware.ros.pip_client.exceptions import RCLInvalidROSArgsError

NAME_FLAGS = {"-r", "--remap"}
PARAMETER_FLAGS = {"-p", "--param"}
NO_VALUE_FLAGS = {"--enable-rosout-logs", "--disable-rosout-logs", "--enable-stdout-logs", "--disable-stdout-logs"}
NO_VALUE_FLAGS |= {"--enable-external-lib-logs", "--disable-external-lib-logs"}
NAME = r"[A-Za-z_][A-Za-z0-9_]*"
REMAP = re.compile(rf"(?:(?P<node>{NAME}):(?!//))?(?:ros(?:topic|service)://)?(?P<source>[^:]+)")
PARAMETER = re.compile(rf"(?:(?P<node>{NAME}):)?(?P<name>[^:]+)")
TOPIC = re.compile(rf"(~/|/)?{NAME}(/{NAME})*")
PATTERN = re.compile(rf"/?({NAME}|\*\*?)(/({NAME}|\*\*?))*")


@dataclass(frozen=True)
class Remap:
    """One rule.

    Attributes:
        node: Only for the node of this name, if any.
        source: Name to replace; `__ns` and `__node` stand for the node's own.
        target: What takes its place.
    """

    node: str | None
    source: str
    target: str


@dataclass(frozen=True)
class Arguments:
    """Parsed arguments.

    Attributes:
        remaps: Rules in the order given; the first that fits is used.
        parameters: (node pattern, name, value) in the order given; later ones win.
        log_levels: Least severity by logger name; empty for all.
    """

    remaps: tuple[Remap, ...] = ()
    parameters: tuple[tuple[str, str, Any], ...] = ()
    log_levels: dict[str, str] = field(default_factory=dict)

    def own_name(self, source: str, node: str) -> str | None:
        """New name (`__node`) or namespace (`__ns`) of a node, if a rule gives one."""
        fitting = (rule for rule in self.remaps if rule.source == source and rule.node in (None, node))
        return next((rule.target for rule in fitting), None)

    def overrides(self, full_name: str) -> dict[str, Any]:
        """Parameter values for the node of this full name, such as `/ur5e/arm_node`."""
        return {name: value for pattern, name, value in self.parameters if fits(pattern, full_name)}


def fits(pattern: str, full_name: str) -> bool:
    """Whether a node pattern of a params file means this node; `*` is one level, `**` any number."""
    return _fits([part for part in full_name.split("/") if part], [part for part in pattern.split("/") if part])


def _fits(parts: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[skip:], wanted[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and wanted[0] in ("*", parts[0]) and _fits(parts[1:], wanted[1:])


def ros_arguments(argv: Sequence[str]) -> list[str]:
    """What stands between each `--ros-args` and `--`."""
    found: list[str] = []
    inside = False
    for word in argv:
        if word == "--ros-args":
            inside = True
        elif inside and word == "--":
            inside = False
        elif inside:
            found.append(word)
    return found


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line.

    Raises:
        RCLInvalidROSArgsError: A rule, file or flag cannot be understood.
    """
    words = iter(ros_arguments(argv))
    remaps: list[Remap] = []
    parameters: list[tuple[str, str, Any]] = []
    log_levels: dict[str, str] = {}
    for flag in words:
        if flag in NO_VALUE_FLAGS:
            continue
        value = next(words, None)
        if value is None:
            raise RCLInvalidROSArgsError(f"--ros-args: {flag} needs a value")
        if flag in NAME_FLAGS:
            remaps.append(remap_rule(value))
        elif flag in PARAMETER_FLAGS:
            parameters.append(parameter_rule(value))
        elif flag == "--params-file":
            parameters.extend(params_file(Path(value)))
        elif flag == "--log-level":
            name, separator, level = value.rpartition(":=")
            log_levels[name if separator else ""] = level
        elif flag not in {"--log-config-file", "-e", "--enclave"}:
            raise RCLInvalidROSArgsError(
                f"--ros-args: unknown flag {flag}; known are -r, -p, --params-file and --log-level"
            )
    return Arguments(tuple(remaps), tuple(parameters), log_levels)


def remap_rule(text: str) -> Remap:
    """`from:=to`, or `node:from:=to` for nodes of this name only, in whatever namespace."""
    source, _, target = text.partition(":=")
    rule = REMAP.fullmatch(source)
    if rule is None or not remappable(rule["source"], target):
        raise RCLInvalidROSArgsError(f"--ros-args -r: got {text!r}, wanted from:=to or node:from:=to")
    return Remap(rule["node"], rule["source"].replace("__name", "__node"), target)


def remappable(source: str, target: str) -> bool:
    """Whether a name can be replaced by another."""
    if source in ("__node", "__name"):
        return bool(re.fullmatch(NAME, target))
    if source == "__ns":
        return bool(re.fullmatch(rf"/|(/{NAME})+", target))
    return bool(TOPIC.fullmatch(source) and TOPIC.fullmatch(target))


def parameter_rule(text: str) -> tuple[str, str, Any]:
    """`name:=value`, or `node:name:=value` for the node of this name in the root namespace; the value is YAML."""
    source, separator, value = text.partition(":=")
    rule = PARAMETER.fullmatch(source)
    if not separator or rule is None:
        raise RCLInvalidROSArgsError(f"--ros-args -p: got {text!r}, wanted name:=value or node:name:=value")
    return f"/{rule['node'] or '**'}", rule["name"], parameter_value(value)


def parameter_value(text: str) -> Any:
    """A YAML value as rcl reads it: also `1e3`, which YAML 1.1 calls a text."""
    value = yaml.safe_load(text) if text.strip() else ""
    return as_number(value)


def as_number(value: Any) -> Any:
    """Numbers that YAML 1.1 leaves as texts."""
    if isinstance(value, list):
        return [as_number(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def params_file(path: Path) -> list[tuple[str, str, Any]]:
    """Every (node pattern, name, value) of a params file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RCLInvalidROSArgsError(f"--params-file {path}: {error}") from error
    found: list[tuple[str, str, Any]] = []
    collect_nodes("", content or {}, found, path)
    return found


def collect_nodes(prefix: str, content: Any, found: list[tuple[str, str, Any]], path: Path) -> None:
    """Descend through namespaces to each `ros__parameters`."""
    if not isinstance(content, dict):
        raise RCLInvalidROSArgsError(f"--params-file {path}: {prefix or 'top level'} is not a mapping of node names")
    for name, below in content.items():
        if name == "ros__parameters":
            if not PATTERN.fullmatch(prefix):
                raise RCLInvalidROSArgsError(f"--params-file {path}: {prefix!r} is not a node; wildcards are * and **")
            collect_parameters(prefix, "", below or {}, found)
        else:
            joined = str(name) if not prefix else f"{prefix.rstrip('/')}/{str(name).lstrip('/')}"
            collect_nodes(joined, below, found, path)


def collect_parameters(node: str, prefix: str, content: dict[str, Any], found: list[tuple[str, str, Any]]) -> None:
    """Nested parameters get dotted names."""
    for name, value in content.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            collect_parameters(node, f"{dotted}.", value, found)
        else:
            found.append((node, dotted, as_number(value)))
