"""Changes one value in a yaml file's text and nothing else: comments, order, quotes and alignment stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from robot_rl.core.errors import RobotRLError

DECIMALS = 4


class YamlValueError(RobotRLError):
    """A value that cannot be put into a yaml file's text."""


def with_value(text: str, keys: Sequence[str], value: float) -> str:
    """The text with one number in it changed, or added with the sections that it lacks.

    Args:
        text: A yaml document whose root is a mapping.
        keys: Way to the number, for example `latency`, `command_s`.
        value: The number, written with four decimals at most.

    Raises:
        YamlValueError: The text is no such yaml, or the place is taken by something else than a plain scalar.
    """
    # Never with an exponent, which yaml 1.1 takes for text unless there is a point before it.
    where, number = ".".join(keys), repr(round(float(value), DECIMALS))
    node = _compose(text)
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode):
            raise YamlValueError(f"{where}: '{'.'.join(keys[:depth])}' is no section; write the number by hand")
        child = next((each for name, each in node.value if name.value == key), None)
        if child is None:
            changed = _inserted(text, node, keys[depth:], number)
            break
        node = child
    else:
        changed = _replaced(text, node, number, where)
    return _checked(text, changed, keys, number)


def _compose(text: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise YamlValueError(f"no valid yaml: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise YamlValueError("the yaml's root is no mapping; wanted a robot's file with sections")
    return node


def _replaced(text: str, node: yaml.Node, number: str, where: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, yaml.ScalarNode) or "${" in node.value:
        raise YamlValueError(f"{where} is {text[start:end].strip()!r}, no number of its own; write {number} by hand")
    # An empty value lies directly behind its colon.
    return text[:start] + (number if end > start else f" {number}") + text[end:]


def _inserted(text: str, section: yaml.MappingNode, keys: Sequence[str], number: str) -> str:
    """The text with a new entry at the end of a section; sections within it are written on its line."""
    nested = "".join(f"{key}: {{" for key in keys[1:-1]) + (f"{keys[-1]}: {number}" if len(keys) > 1 else "")
    entry = f"{keys[0]}: {{{nested}{'}' * (len(keys) - 1)}" if len(keys) > 1 else f"{keys[0]}: {number}"
    if section.flow_style:
        end = _end_of(section)
        before = text[: end - 1].rstrip()
        comma = "" if before.endswith(("{", ",")) else ", "
        return before + comma + entry + text[end - 1 :]
    last = section.value[-1][1] if section.value else section
    line_end = text.find("\n", _end_of(last))
    at = len(text) if line_end < 0 else line_end
    indent = " " * (section.value[0][0].start_mark.column if section.value else 0)
    return f"{text[:at]}\n{indent}{entry}{text[at:] or chr(10)}"


def _end_of(node: yaml.Node) -> int:
    """Where a node's own text ends; a block's end mark lies behind the comments and blank lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last: Any = node.value[-1]
        return _end_of(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _checked(before: str, after: str, keys: Sequence[str], number: str) -> str:
    """The changed text, after making sure that it says what it said before and the new number."""
    wanted, said = _unshared(yaml.safe_load(before)), yaml.safe_load(after)
    section = wanted
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    section[keys[-1]] = float(number)
    if said != wanted:
        raise YamlValueError(f"{'.'.join(keys)} cannot be changed without changing more; write {number} by hand")
    return after


def _unshared(document: Any) -> Any:
    """The same without two places being one object, as yaml's aliases make them."""
    if isinstance(document, dict):
        return {key: _unshared(each) for key, each in document.items()}
    return [*map(_unshared, document)] if isinstance(document, list) else document
