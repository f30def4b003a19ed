"""CycloneDDS types of ROS messages.

Only name, layout and type information matter to the transport: samples travel as bytes that we encode ourselves,
because CycloneDDS' own Python codec takes a list of ints for an image (58 ms to write one of 640x480).
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype

from hardware.ros.pip_client.messages import LOCK, STORE

CONTAINERS: Any = idl
"""The same module: its generic classes are subscripted at run time only."""
BASES: dict[str, Any] = {
    "bool": bool,
    "byte": idl.uint8,
    "char": idl.uint8,
    "int8": idl.int8,
    "uint8": idl.uint8,
    "int16": idl.int16,
    "uint16": idl.uint16,
    "int32": idl.int32,
    "uint32": idl.uint32,
    "int64": idl.int64,
    "uint64": idl.uint64,
    "float32": idl.float32,
    "float64": idl.float64,
}
SERVICE_HEADER = {"guid": idl.uint64, "sequence_number": idl.int64}


def dds_name(name: str) -> str:
    """Type name as rmw has it: `sensor_msgs/msg/Image` is `sensor_msgs::msg::dds_::Image_`; here with dots."""
    package, kind, short = name.split("/")
    return f"{package}.{kind}.dds_.{short}_"


def idl_type(name: str) -> type[IdlStruct]:
    """Keyless, final struct of a message type; a service's request and response carry their header in front."""
    with LOCK:
        return make_idl_type(name)


@functools.cache
def make_idl_type(name: str) -> type[IdlStruct]:
    """What `idl_type` returns, made once."""
    members = {field: member_type(description) for field, description in STORE.fielddefs[name][1]}
    if "/srv/" in name:
        members = SERVICE_HEADER | members

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = members
        namespace["__module__"] = __name__

    made = types.new_class(name.split("/")[-1], (IdlStruct,), {"typename": dds_name(name)}, fill)
    return dataclass(made)


def member_type(description: Any) -> Any:
    """CycloneDDS' annotation for a rosbags field description."""
    kind, detail = description
    if kind == Nodetype.NAME:
        return idl_type(detail)
    if kind == Nodetype.BASE:
        base, bound = detail
        if base == "string":
            return CONTAINERS.bounded_str[bound] if bound else str
        return BASES[base]
    inner, length = detail
    if kind == Nodetype.ARRAY:
        return CONTAINERS.array[member_type(inner), length]
    return CONTAINERS.sequence[member_type(inner), length] if length else CONTAINERS.sequence[member_type(inner)]
