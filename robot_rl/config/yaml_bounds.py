"""What a robot's yaml may hold, checked on its text before any library reads it whole.

PyYAML and OmegaConf expand whatever they are given: a few lines of aliases or of `${...}` that name each other become
gigabytes, brackets within brackets end in a RecursionError, and YAML 1.1 makes other things of what people type: `no`
is false, `1_0` is ten, `12:30` is 750. So a file's text is walked event by event here, which costs what the text is
long, and refused in words. `require_bounded` does the same for `${...}`, once all files are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_rl.core.errors import RobotRLError

MAX_BYTES = 128 * 1024
"""Twenty times the longest of ours."""
MAX_DEPTH = 24
MAX_NODES = 4000
"""Values of a file with its aliases written out, and of all settings with their `${...}` written out."""
MAX_DIGITS = 40
NUMBER_KEY = re.compile(r"0|[1-9][0-9]{0,3}")
"""`limits.measured` and `limits.start` may have an action's index as key."""
PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+")
"""A number to OmegaConf, though not to PyYAML."""
REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_KINDS = {
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:timestamp": "a date",
}


class YamlRefused(RobotRLError):
    """A yaml file that is unreadable, too large, or says something else than it seems to."""


def require_readable(path: Path) -> None:
    """Refuses a yaml file that no library should be given.

    Args:
        path: The file.

    Raises:
        YamlRefused: Names file and line, what is there, and what to write instead.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise YamlRefused(f"{path} is over {MAX_BYTES // 1024} KiB, wanted a robot's settings: a few KiB")
        require_sound(data.decode("utf-8"))
    except OSError as error:
        raise YamlRefused(f"{path} cannot be read ({error.strerror}): wanted a yaml file") from error
    except UnicodeDecodeError as error:
        raise YamlRefused(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except YamlRefused as error:
        raise YamlRefused(f"{path}: {error}") from error


def require_sound(text: str) -> None:
    """Refuses a yaml text: not a mapping, too deep or large, keys twice, tags, names that YAML makes numbers of.

    Raises:
        YamlRefused: Names the line.
    """
    walk = _Walk()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            walk.take(event)
    except yaml.MarkedYAMLError as error:
        raise YamlRefused(_words(error)) from error
    except yaml.YAMLError as error:
        raise YamlRefused(f"no valid yaml: {' '.join(str(error).split())}") from error


@dataclass
class _Open:
    """A mapping or list that has not ended yet.

    Attributes:
        anchor: Its name for aliases.
        line: Where it begins.
        is_mapping: Else a list.
        nodes: In it so far, aliases written out.
        children: Direct ones so far; of a mapping every other one is a key.
        keys: Of a mapping.
    """

    anchor: str | None
    line: int
    is_mapping: bool
    nodes: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


class _Walk:
    """Follows a document's events and refuses the first that is out of bounds."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, int] = {}
        self._resolver = yaml.SafeLoader("")
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """The next event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlRefused(f"line {_line(event)}: a second document begins; a robot is one (remove the ---)")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._finish()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        line, is_mapping = _line(event), isinstance(event, yaml.MappingStartEvent)
        if not self._open and not is_mapping:
            raise YamlRefused(f"line {line}: the file is a list, wanted sections such as robot: and limits:")
        if self._is_key():
            raise YamlRefused(f"line {line}: a list or mapping is a key; wanted a name")
        if event.tag is not None and event.tag not in ("!", f"tag:yaml.org,2002:{'map' if is_mapping else 'seq'}"):
            raise YamlRefused(f"line {line}: tag {event.tag}; wanted plain values")
        if len(self._open) >= MAX_DEPTH:
            raise YamlRefused(f"line {line}: nested more than {MAX_DEPTH} deep")
        self._open.append(_Open(event.anchor, line, is_mapping))

    def _finish(self) -> None:
        ended = self._open.pop()
        if ended.anchor is not None:
            self._anchors[ended.anchor] = ended.nodes
        self._add(ended.nodes, ended.line)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line, name = _line(event), event.anchor
        if any(each.anchor == name for each in self._open):
            raise YamlRefused(f"line {line}: *{name} is within itself")
        if name not in self._anchors:
            raise YamlRefused(f"line {line}: there is no &{name} before *{name}")
        if self._is_key():
            raise YamlRefused(f"line {line}: *{name} is a key; wanted a name")
        self._add(self._anchors[name], line)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line = _line(event)
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            raise YamlRefused(f"line {line}: tag {event.tag}; wanted plain values")
        if not self._open and event.value:
            raise YamlRefused(f"line {line}: the file is {_short(event.value)}, wanted sections such as robot:")
        if event.implicit[0] and event.tag is None:
            kind = self._resolver.resolve(yaml.ScalarNode, event.value, (True, False))
            kind = "tag:yaml.org,2002:float" if EXPONENT.fullmatch(event.value) else kind
            (_check_key if self._is_key() else _check_value)(event.value, kind, line)
        if self._is_key() and event.value != "<<":
            keys = self._open[-1].keys
            if event.value in keys:
                raise YamlRefused(f"line {line}: key {_short(event.value)} is there twice; which one counts?")
            keys.add(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = 1
        self._add(1, line)

    def _is_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_mapping and self._open[-1].children % 2 == 0

    def _add(self, nodes: int, line: int) -> None:
        """Counts a child that is complete."""
        if not self._open:
            return
        self._open[-1].children += 1
        self._open[-1].nodes += nodes
        if self._open[-1].nodes > MAX_NODES:
            raise YamlRefused(f"line {line}: over {MAX_NODES:,} values, aliases written out; a robot has a few hundred")


def _check_key(text: str, kind: str, line: int) -> None:
    if kind in _KINDS and not NUMBER_KEY.fullmatch(text):
        raise YamlRefused(f"line {line}: key {_short(text)} is read as {_KINDS[kind]}: put the name in quotes")


def _check_value(text: str, kind: str, line: int) -> None:
    if kind == "tag:yaml.org,2002:bool" and text.lower() not in ("true", "false"):
        said = "true" if text.lower() in ("yes", "on") else "false"
        raise YamlRefused(f"line {line}: {text} is read as {said}: write {said}, or a name in quotes: '{text}'")
    if kind == "tag:yaml.org,2002:int" and not PLAIN_INT.fullmatch(text):
        raise YamlRefused(
            f"line {line}: {_short(text)} is read as another number by yaml 1.1 (1_0 is 10, 1:30 is 90, 010 is 8): "
            "write it plainly, or a name in quotes"
        )
    if kind == "tag:yaml.org,2002:float" and ("_" in text or ":" in text):
        raise YamlRefused(f"line {line}: {_short(text)} is read as another number: write it plainly, or in quotes")
    if kind in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(text) > MAX_DIGITS:
        raise YamlRefused(f"line {line}: a number of {len(text)} digits, wanted at most {MAX_DIGITS}")


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _words(error: yaml.MarkedYAMLError) -> str:
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
    said = f"{error.problem or error.context}"
    if "'\\t'" in said:
        said = "a tab; yaml is indented with spaces"
    return f"{line}no valid yaml: {said}"


def require_bounded(settings: Mapping[str, Any]) -> None:
    """Refuses settings whose `${...}` would make too much of little, or lead back to themselves.

    Args:
        settings: All of them, `${...}` not yet resolved.

    Raises:
        YamlRefused: Names the setting.
    """
    measured = _References(settings)
    try:
        nodes = measured.cost((), settings)
    except RecursionError as error:
        raise YamlRefused("settings are nested, or lead on from ${...} to ${...}, too deep to be followed") from error
    if nodes > MAX_NODES:
        raise YamlRefused(f"${{...}} make over {MAX_NODES:,} values of these settings; a robot has a few hundred")


_Way = tuple[str, ...]
_NOTHING = object()


class _References:
    """How many values each setting is with its references written out.

    Args:
        settings: All.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._known: dict[_Way, int] = {}
        self._open: set[_Way] = set()

    def cost(self, way: _Way, value: Any) -> int:
        """Values that the one at `way` becomes."""
        if way in self._known:
            return self._known[way]
        if way in self._open:
            raise YamlRefused(f"{'.'.join(way)} leads back to itself by ${{...}}")
        self._open.add(way)
        total = 1 + sum(self._parts(way, value))
        self._open.remove(way)
        self._known[way] = total
        return total

    def _parts(self, way: _Way, value: Any) -> Iterator[int]:
        if isinstance(value, Mapping):
            yield from (self.cost((*way, str(key)), each) for key, each in value.items())
        elif isinstance(value, list | tuple):
            yield from (self.cost((*way, str(index)), each) for index, each in enumerate(value))
        elif isinstance(value, str):
            yield from self._referred(way, value)

    def _referred(self, way: _Way, text: str) -> Iterator[int]:
        names = REFERENCE.findall(text)
        if len(names) != text.count("${"):
            raise YamlRefused(f"{'.'.join(way)} is {_short(text)}: wanted ${{...}} around a setting's name alone")
        for name in names:
            # A resolver, `oc.select:task.name,default`, may name settings in its arguments.
            for each in name.partition(":")[2].split(",") if ":" in name else [name]:
                target = self._followed(_target(way, each.strip()))
                if target:
                    yield self.cost(target, _found(self._settings, target))

    def _followed(self, way: _Way, hops: int = 0) -> _Way:
        """A way with the references in its middle followed; () if there is nothing."""
        for end in range(1, len(way) + 1):
            value = _found(self._settings, way[:end])
            if value is _NOTHING:
                return ()
            reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if reference is not None and end < len(way):
                if hops >= MAX_DEPTH:
                    raise YamlRefused(f"{'.'.join(way)} leads on from ${{...}} to ${{...}} over {MAX_DEPTH} times")
                return self._followed((*_target(way[:end], reference[1]), *way[end:]), hops + 1)
        return way


def _target(way: _Way, name: str) -> _Way:
    """The way that a reference means, from the root."""
    dots = len(name) - len(name.lstrip("."))
    keys = tuple(each for each in re.split(r"[.\[\]]+", name[dots:]) if each)
    return (*way[: len(way) - dots], *keys) if dots else keys


def _found(settings: Any, way: _Way) -> Any:
    """The setting at a way, `_NOTHING` where there is none."""
    for key in way:
        if isinstance(settings, Mapping):
            settings = next((each for name, each in settings.items() if str(name) == key), _NOTHING)
        elif isinstance(settings, list) and key.isdecimal() and int(key) < len(settings):
            settings = settings[int(key)]
        else:
            return _NOTHING
    return settings
