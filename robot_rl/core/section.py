"""One section of a yaml becomes a dataclass whose annotations say what each value must be.

Every error names the key with its section, the value, and what was wanted. Which error it is, the reader's room says.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from robot_rl.core.errors import RobotRLError

T = TypeVar("T")
Refusal = type[RobotRLError]


@dataclass(frozen=True)
class Wanted:
    """Beside a type, in `Annotated`: what is asked of a value besides being of that type.

    Attributes:
        words: What was wanted, for the error.
        fits: Whether a value of the type is it.
    """

    words: str
    fits: Callable[[Any], bool]


def one_of(values: Iterable[object], words: str = "") -> Wanted:
    """One of some values; the words are the values where none are given."""
    known = tuple(values)
    return Wanted(words or ", ".join(map(str, known)), lambda value: value in known)


MORE_THAN_0 = Wanted("more than 0", lambda value: value > 0)
AT_LEAST_0 = Wanted("0 or more", lambda value: value >= 0)
AT_LEAST_1 = Wanted("at least 1", lambda value: value >= 1)
SHARE = Wanted("0 to 1", lambda value: 0.0 <= value <= 1.0)

NotNegative = Annotated[float, Wanted("a number of at least 0", lambda value: value >= 0)]
Positive = Annotated[float, Wanted("a number above 0", lambda value: value > 0)]
Seconds = Annotated[float, Wanted("seconds above 0", lambda value: value > 0)]
Count = Annotated[int, Wanted("a whole number of at least 1", lambda value: value >= 1)]

WORDS = {
    str: "a name: put it in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    types.NoneType: "null",
}


def require_each(values: object, where: str, wanted: Wanted, *names: str) -> None:
    """Refuses the first of some attributes that is not what is wanted; NaN never is.

    Args:
        values: Has the attributes.
        where: What the command calls these settings; empty for the command's own.
        wanted: What each must be.
        names: Of the attributes.

    Raises:
        RobotRLError: Names the setting, its value and what was wanted.
    """
    for name in names:
        value = getattr(values, name)
        if not wanted.fits(value):
            raise RobotRLError(f"{where}{'.' if where else ''}{name} is {value}, wanted {wanted.words}")


def read(
    kind: type[T],
    document: object,
    where: str,
    error: Refusal,
    *,
    keys: Collection[str] = (),
    of: str = "",
    needed: Collection[str] = (),
    hint: str = "",
    **given: Any,
) -> T:
    """A dataclass filled from a mapping.

    Args:
        kind: The dataclass; a field without default is a key that must be there.
        document: What the yaml has.
        where: The section's name.
        error: Raised where it does not fit.
        keys: Those that it takes here; empty is every field that is not given.
        of: Says why it takes only these, for example ` of kind 'image'`.
        needed: Those that must be there besides.
        hint: What is said of one that is missing.
        given: Fields that are not read from the mapping.

    Raises:
        RobotRLError: `error`: a key is unknown or missing, or a value is not what the dataclass says.
    """
    section = mapping(document, where, error)
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    taken = [each for each in fields if each.name not in given and (not keys or each.name in keys)]
    refuse_unknown(section, [each.name for each in taken], where + of, error)
    none = (dataclasses.MISSING, dataclasses.MISSING)
    always = [each.name for each in taken if (each.default, each.default_factory) == none]
    require(section, [*always, *needed], where, error, hint)
    values = {key: value_of(hints[key], each, f"{where}.{key}", error) for key, each in section.items()}
    return kind(**values, **given)


def mapping(document: object, where: str, error: Refusal, of: str = "") -> dict[str, Any]:
    """The mapping that a section must be, `of` what if that needs saying."""
    if not isinstance(document, Mapping):
        raise error(f"{where} is {document!r}, wanted a mapping{of}")
    return dict(document)


def refuse_unknown(section: Mapping[str, Any], known: Collection[str], where: str, error: Refusal) -> None:
    """Refuses a key that means nothing, naming the nearest that does, and all of them."""
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{near[0]}'? It" if near else "it"
            raise error(f"{where} has no key '{key}': {hint} takes {', '.join(known)}")


def require(section: Mapping[str, Any], keys: Iterable[str], where: str, error: Refusal, hint: str = "") -> None:
    """Refuses a section without one of these keys; a key that is null is not there."""
    for key in keys:
        if section.get(key) is None:
            raise error(f"{where}.{key} is missing{hint}")


def value_of(hint: Any, value: Any, where: str, error: Refusal) -> Any:
    """A value that is what an annotation says: lists as tuples, and whole numbers as floats, where it says so."""
    choices = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for choice in choices:
        kind, *tests = typing.get_args(choice) if typing.get_origin(choice) is Annotated else (choice,)
        origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
        if origin in (tuple, Sequence) and isinstance(value, Sequence) and not isinstance(value, str):
            found: Any = tuple(value_of(inner[0], each, f"an entry of {where}", error) for each in value)
        elif origin in (dict, Mapping) and isinstance(value, Mapping):
            found = {
                value_of(inner[0], key, where, error): value_of(inner[1], each, f"{where}.{key}", error)
                for key, each in value.items()
            }
        elif _is_a(origin, value):
            found = float(value) if origin is float else value
        else:
            continue
        if all(test.fits(found) for test in tests):
            return found
    raise error(f"{where} is {value!r}, wanted {' or '.join(map(_words, choices))}")


def _is_a(kind: Any, value: Any) -> bool:
    if kind is Any:
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return type(value) is int
    return isinstance(kind, type) and isinstance(value, kind)


def _words(hint: Any) -> str:
    """What an annotation wants."""
    if typing.get_origin(hint) is Annotated:
        return str(typing.get_args(hint)[1].words)
    origin = typing.get_origin(hint) or hint
    if origin in (tuple, Sequence):
        inner = typing.get_args(hint)[0]
        return "a list of names" if str in (inner, getattr(inner, "__origin__", None)) else "a list"
    return "a mapping" if origin in (dict, Mapping) else WORDS.get(hint, str(hint))
