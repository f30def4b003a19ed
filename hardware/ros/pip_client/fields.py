"""One field of a message: what it accepts, how it is kept, and how it goes to and from the wire.

Kept as rclpy keeps it, so that code written against one runs on the other: numbers of unbounded length in
`array.array`, of fixed length in numpy arrays, a `byte` as `bytes` of length one. What rclpy refuses with an
`AssertionError` is refused here in the same way, for example an `int` where a float64 belongs.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

TYPECODES = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    "char": "B",
}
FLOAT32_MAX = 3.402823466e38


@dataclass(frozen=True)
class Field:
    """One field of a message type.

    Attributes:
        name: As in the definition.
        type_name: For people and for `get_fields_and_field_types`.
        default: Makes the value of a fresh message.
        accept: Value as given by the user to value as kept; raises AssertionError for a wrong one.
        construct: Value as given to a constructor to what `accept` takes; None where both are the same.
        from_wire: Value as decoded to value as kept; None where both are the same.
        to_wire: Value as kept to what the encoder takes; None where both are the same.
    """

    name: str
    type_name: str
    default: Callable[[], Any]
    accept: Callable[[Any], Any]
    from_wire: Callable[[Any], Any] | None = None
    to_wire: Callable[[Any], Any] | None = None
    construct: Callable[[Any], Any] | None = None


def make_field(name: str, description: Any, message_class: Callable[[str], type]) -> Field:
    """The field that a definition describes.

    Args:
        name: As in the definition.
        description: rosbags' (kind, detail) of the field.
        message_class: Gives the class of a nested message.
    """
    kind, detail = description
    if kind == Nodetype.BASE:
        return scalar_field(name, detail[0])
    if kind == Nodetype.NAME:
        nested = message_class(detail)
        return Field(name, detail, nested, instance_check(name, nested))
    (item_kind, item_detail), length = detail
    fixed = kind == Nodetype.ARRAY
    if item_kind == Nodetype.NAME:
        nested = message_class(item_detail)
        return list_field(name, item_detail, nested, instance_check(name, nested), length, fixed)
    base = item_detail[0]
    if base in TYPECODES:
        return fixed_numbers_field(name, base, length) if fixed else numbers_field(name, base, length)
    item = scalar_field(name, base)
    return list_field(name, base, item.default, item.accept, length, fixed)


def scalar_field(name: str, base: str) -> Field:
    """A single number, bool, byte or text."""
    if base == "string":
        return Field(name, base, str, instance_check(name, str))
    if base == "bool":
        return Field(name, base, bool, instance_check(name, bool))
    if base == "byte":
        return Field(
            name, base, lambda: b"\x00", byte_check(name), lambda value: bytes([value]), lambda value: value[0]
        )
    if base.startswith("float"):
        return Field(name, base, float, float_check(name, base))
    return Field(name, base, int, integer_check(name, base))


def refuse(name: str, wanted: str, value: Any) -> None:
    """Raise what rclpy raises for a wrong value."""
    raise AssertionError(f"The '{name}' field must be {wanted}, got {type(value).__name__} {str(value)[:60]!r}")


def instance_check(name: str, wanted: type) -> Callable[[Any], Any]:
    """Accepts instances of one class only."""

    def accept(value: Any) -> Any:
        if not isinstance(value, wanted):
            refuse(name, f"of type '{wanted.__name__}'", value)
        return value

    return accept


def byte_check(name: str) -> Callable[[Any], Any]:
    """Accepts one byte."""

    def accept(value: Any) -> Any:
        if not (isinstance(value, bytes | bytearray) and len(value) == 1):
            refuse(name, "of type 'bytes' with length 1", value)
        return bytes(value)

    return accept


def float_check(name: str, base: str) -> Callable[[Any], Any]:
    """Accepts a Python float (and numpy's float64, which is one) in range."""

    def accept(value: Any) -> Any:
        if not isinstance(value, float):
            refuse(name, "of type 'float'", value)
        if base == "float32" and FLOAT32_MAX < abs(value) < float("inf"):
            refuse(name, "a float in the range of float32", value)
        return value

    return accept


def integer_check(name: str, base: str) -> Callable[[Any], Any]:
    """Accepts a Python int in the type's range."""
    limits = np.iinfo(np.dtype(TYPECODES[base]))
    low, high = int(limits.min), int(limits.max)

    def accept(value: Any) -> Any:
        if not isinstance(value, int):
            refuse(name, "of type 'int'", value)
        if not low <= value <= high:
            refuse(name, f"an int in [{low}, {high}]", value)
        return value

    return accept


def numbers_field(name: str, base: str, bound: int) -> Field:
    """Numbers of any length, kept in an `array.array`."""
    code = TYPECODES[base]
    dtype = np.dtype(code)
    wanted = f"an array.array('{code}') or a sequence of {base}"
    item = scalar_field(name, base)

    def accept(value: Any) -> Any:
        if isinstance(value, array.array):
            if value.typecode != code:
                refuse(name, wanted, value)
            kept = value
        elif code == "B" and isinstance(value, bytes | bytearray):
            kept = array.array(code, value)
        else:
            if not isinstance(value, Sequence | set | frozenset) or isinstance(value, str):
                refuse(name, f"{wanted}; for a numpy array: array.array('{code}', values.tobytes())", value)
            kept = array.array(code, [item.accept(number) for number in value])
        if bound and len(kept) > bound:
            refuse(name, f"at most {bound} long", value)
        return kept

    def from_wire(value: np.ndarray[Any, Any]) -> array.array[Any]:
        kept = array.array(code)
        kept.frombytes(value.view(np.uint8).data)
        return kept

    def to_wire(value: array.array[Any]) -> np.ndarray[Any, Any]:
        return np.frombuffer(value, dtype) if value else np.empty(0, dtype)

    def construct(value: Any) -> array.array[Any]:
        # As rclpy's: whatever array.array takes, an int for a float too, and its TypeError or OverflowError.
        if isinstance(value, array.array) and value.typecode == code:
            return value
        return array.array(code, value)

    return Field(name, f"sequence<{base}>", lambda: array.array(code), accept, from_wire, to_wire, construct)


def fixed_numbers_field(name: str, base: str, length: int) -> Field:
    """Numbers of a fixed length, kept in a numpy array."""
    dtype = np.dtype(TYPECODES[base])
    item = scalar_field(name, base)

    def accept(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype != dtype or value.size != length:
                refuse(name, f"a numpy array of {length} {dtype}", value)
            return value
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != length:
            refuse(name, f"a sequence of {length} {base}", value)
        return np.array([item.accept(number) for number in value], dtype)

    return Field(
        name,
        f"{base}[{length}]",
        lambda: np.zeros(length, dtype),
        accept,
        np.array,  # the decoder's array is a read-only window on the received bytes
        lambda value: np.ascontiguousarray(value).reshape(-1),
    )


def list_field(
    name: str,
    item_name: str,
    item_default: Callable[[], Any],
    accept_item: Callable[[Any], Any],
    length: int,
    fixed: bool,
) -> Field:
    """Texts, bools, bytes or messages in a list."""

    def accept(value: Any) -> Any:
        if not isinstance(value, Sequence | set | frozenset) or isinstance(value, str | bytes):
            refuse(name, f"a sequence of {item_name}", value)
        for item in value:
            accept_item(item)
        if (fixed and len(value) != length) or (length and len(value) > length):
            refuse(name, f"{'exactly' if fixed else 'at most'} {length} long", value)
        return value

    def default() -> list[Any]:
        return [item_default() for _ in range(length)] if fixed else []

    type_name = f"{item_name}[{length}]" if fixed else f"sequence<{item_name}>"
    if item_name == "bool":
        return Field(
            name, type_name, default, accept, lambda value: value.tolist(), lambda value: np.array(value, np.bool_)
        )
    if item_name == "byte":
        return Field(
            name,
            type_name,
            default,
            accept,
            lambda value: [bytes([item]) for item in value.tobytes()],
            lambda value: np.frombuffer(b"".join(value), np.uint8),
        )
    return Field(name, type_name, default, accept)
