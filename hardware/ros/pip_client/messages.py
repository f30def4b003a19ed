"""Message classes that behave as rclpy's, and their CDR codec.

Definitions, codec and type hashes come from rosbags; the classes are ours, because rosbags' have neither defaults
nor checks. A class is made when first asked for; `warm_up` compiles its codec, which takes milliseconds and would
otherwise cost the first messages on a topic.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from rosbags.interfaces import Msgdef, Nodetype
from rosbags.serde.cdr import generate_deserialize_cdr, generate_getsize_cdr, generate_serialize_cdr
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from hardware.ros.pip_client.definitions import DEFAULTS, HUMBLE_GID_BYTES, MESSAGES, SERVICES
from hardware.ros.pip_client.fields import Field, make_field
from robot_rl.core.errors import RobotRLError

HEADER_BYTES = 4


class Message:
    """Base of every message class: keyword constructor, comparison and text as in rclpy."""

    __slots__ = ()
    FIELDS: tuple[Field, ...] = ()
    TYPE_NAME = ""

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            if field.name in values:
                value = values.pop(field.name)
                setattr(self, field.name, value if field.construct is None else field.construct(value))
            else:
                setattr(self, f"_{field.name}", field.default())
        if values:
            names = [field.name for field in self.FIELDS]
            raise AssertionError(f"{self.TYPE_NAME} has no field {', '.join(values)}; it has {', '.join(names)}")

    @classmethod
    def from_wire(cls, *values: Any) -> Message:
        """The message of decoded values, in the definition's order."""
        made = cls.__new__(cls)
        for field, value in zip(cls.FIELDS, values, strict=True):
            setattr(made, f"_{field.name}", value if field.from_wire is None else field.from_wire(value))
        return made

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field names and their types."""
        return {field.name: field.type_name for field in cls.FIELDS}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return False
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in self.FIELDS)
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # messages are mutable

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self.FIELDS)
        return f"{self.TYPE_NAME.replace('/', '.')}({values})"


class MessageStore(Typestore):
    """rosbags' definitions with our classes and with the CDR codec only.

    The encoder reads slots and, where the kept form differs from the wire's, a property beside the slot.
    """

    def get_msgdef(self, typename: str) -> Msgdef[object]:
        """Codec of one type, compiled on first use."""
        if typename not in self.cache:
            cls = message_class(typename)
            plain = list(self.fielddefs[typename][1])
            slots = [
                (f"_{name}_wire" if field.to_wire else f"_{name}", description)
                for (name, description), field in zip(plain, cls.FIELDS, strict=True)
            ]
            size_of, size = generate_getsize_cdr(slots, self)
            codec = {
                "name": typename,
                "fields": plain,
                "cls": cls.from_wire,
                "size_cdr": size,
                "getsize_cdr": size_of,
                "serialize_cdr_le": generate_serialize_cdr(slots, self, "le"),
                "serialize_cdr_be": generate_serialize_cdr(slots, self, "be"),
                "deserialize_cdr_le": generate_deserialize_cdr(plain, self, "le"),
                "deserialize_cdr_be": generate_deserialize_cdr(plain, self, "be"),
            }
            self.cache[typename] = cast("Msgdef[object]", SimpleNamespace(**codec))
        return self.cache[typename]


def known_types() -> MessageStore:
    """Jazzy's types and those of `definitions`, with Humble's participant id where ROS_DISTRO says so."""
    store = MessageStore()
    store.fielddefs.update(get_typestore(Stores.ROS2_JAZZY).fielddefs)
    texts = dict(MESSAGES)
    for name, (request, response) in SERVICES.items():
        texts |= {f"{name}_Request": request, f"{name}_Response": response}
    for name, text in texts.items():
        (definition,) = get_types_from_msg(text or "uint8 structure_needs_at_least_one_member", name).values()
        store.fielddefs[name] = definition
    if os.environ.get("ROS_DISTRO") == "humble":
        gid = (Nodetype.ARRAY, ((Nodetype.BASE, ("char", 0)), HUMBLE_GID_BYTES))
        store.fielddefs["rmw_dds_common/msg/Gid"] = cast(Any, ([], [("data", gid)]))
    return store


STORE = known_types()
LOCK = threading.RLock()
"""Held while classes and codecs are made."""


def message_class(name: str) -> type[Message]:
    """Class of a message type such as `sensor_msgs/msg/JointState`; one class per type, whichever threads ask.

    Raises:
        RobotRLError: No such type is known here.
    """
    with LOCK:
        return make_message_class(name)


def define_message(name: str, text: str) -> type[Message]:
    """Class of a type that is not known here, such as a vendor's status message.

    Args:
        name: As `vendor_msgs/msg/Status`.
        text: Its definition, one `type name` per line.
    """
    with LOCK:
        if name not in STORE.fielddefs:
            (definition,) = get_types_from_msg(text, name).values()
            STORE.fielddefs[name] = definition
        return make_message_class(name)


@functools.cache
def make_message_class(name: str) -> type[Message]:
    """What `message_class` returns, made once."""
    if name not in STORE.fielddefs:
        package = name.split("/")[0]
        near = sorted(known for known in STORE.fielddefs if known.split("/")[0] == package)
        wanted = f"; {package} has {', '.join(near)}" if near else ""
        raise RobotRLError(f"Unknown message type {name!r}{wanted}. Write it as package/msg/Name.")
    constants, descriptions = STORE.fielddefs[name]
    fields = tuple(make_field(field, description, message_class) for field, description in descriptions)
    fields = tuple(with_default(field, DEFAULTS.get(name, {})) for field in fields)
    namespace: dict[str, Any] = {"FIELDS": fields, "TYPE_NAME": name, "__module__": __name__}
    namespace["__slots__"] = tuple(f"_{field.name}" for field in fields)
    for field in fields:
        namespace[field.name] = checked_property(field)
        if field.to_wire is not None:
            namespace[f"_{field.name}_wire"] = wire_property(field)
    for constant, base, value in constants:
        namespace[constant] = bytes([cast(int, value)]) if base == "byte" else value
    return type(name.split("/")[-1], (Message,), namespace)


def with_default(field: Field, defaults: dict[str, Any]) -> Field:
    """The field, with the definition's own default where it has one."""
    if field.name not in defaults:
        return field
    value = defaults[field.name]
    return dataclasses.replace(field, default=lambda: value)


def checked_property(field: Field) -> property:
    """Reads the slot; checks before writing it."""
    slot, accept = f"_{field.name}", field.accept

    def write(message: Message, value: Any) -> None:
        setattr(message, slot, accept(value))

    return property(operator.attrgetter(slot), write)


def wire_property(field: Field) -> property:
    """What the encoder takes for this field."""
    slot, to_wire = operator.attrgetter(f"_{field.name}"), field.to_wire
    assert to_wire is not None
    return property(lambda message: to_wire(slot(message)))


def service_class(name: str) -> type:
    """Class of a service type such as `std_srvs/srv/SetBool`, with `Request` and `Response`.

    Raises:
        RobotRLError: No such type is known here.
    """
    with LOCK:
        return make_service_class(name)


@functools.cache
def make_service_class(name: str) -> type:
    """What `service_class` returns, made once."""
    if name not in SERVICES:
        raise RobotRLError(f"Unknown service type {name!r}. Known are {', '.join(sorted(SERVICES))}.")
    parts = {"Request": message_class(f"{name}_Request"), "Response": message_class(f"{name}_Response")}
    return type(name.split("/")[-1], (), {**parts, "TYPE_NAME": name})


def encode(message: Message) -> bytearray:
    """Little-endian XCDR1 with its 4-byte header, padded to 4 bytes as the transport wants it."""
    codec = STORE.get_msgdef(message.TYPE_NAME)
    size = HEADER_BYTES + codec.getsize_cdr(0, message, STORE)
    data = bytearray(size + -size % 4)
    data[1] = 1  # little endian
    codec.serialize_cdr_le(memoryview(data)[HEADER_BYTES:], 0, message, STORE)
    return data


def decode(data: bytes | bytearray, cls: type[Message]) -> Message:
    """The message in received bytes.

    Raises:
        ValueError: The bytes are not a message of this type.
    """
    try:
        return cast(Message, STORE.deserialize_cdr(memoryview(data), cls.TYPE_NAME))
    except Exception as error:  # the peer may send anything, and the codec indexes into it
        raise ValueError(f"{len(data)} bytes are not a {cls.TYPE_NAME}: {error}") from error


def warm_up(classes: Iterable[type[Message]]) -> None:
    """Compile the codecs, so that the first message is not late."""
    with LOCK:
        for cls in classes:
            decode(encode(cls()), cls)


def type_hash(name: str) -> str:
    """The type's RIHS01 hash, which Jazzy's peers compare."""
    return STORE.hash_rihs01(name)
