"""What must be there on the network before a robot is moved, and words for what is not."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hardware.ros.decode import quoted
from hardware.ros.pip_client.profile import ANY, LOOPBACK, URI, address_of_environment, uri_problems

LISTED = 12
"""Topics named in an error; a robot's graph may have hundreds."""


class Wanted(NamedTuple):
    """A topic that somebody else must publish or listen to.

    Attributes:
        what: Who needs it, for the error: `robot.streams.image_wrist`.
        topic: Full name.
        type_name: Of its messages.
        reliable: We ask for, or offer, reliable delivery.
        latched: We ask for, or offer, what was published before.
        most: Publishers that there may be besides ourselves.
    """

    what: str
    topic: str
    type_name: str
    reliable: bool = False
    latched: bool = False
    most: int = 1


def missing_publishers(node: Any, wanted: Wanted) -> str | None:
    """Why a subscription will get nothing or too much, in words; None if all is well."""
    infos = _others(node, node.get_publishers_info_by_topic(wanted.topic))
    if not infos:
        return f"{wanted.what}: nobody publishes {wanted.topic} ({wanted.type_name}); {_there_is(node, wanted)}"
    problem = _type_problem(wanted, infos, "publishes")
    if problem:
        return problem
    for info in infos:
        offered = info.qos_profile
        if wanted.reliable and not _is_reliable(offered):
            return _qos_problem(wanted, info, "publishes best effort, but reliable delivery is needed")
        if wanted.latched and not _is_latched(offered):
            return _qos_problem(wanted, info, "publishes volatile, but what it said before is needed (transient local)")
    if len(infos) > wanted.most:
        return (
            f"{wanted.what}: {len(infos)} nodes publish {wanted.topic}: {quoted(map(_name, infos))}; two robots on one "
            "topic? Give each a namespace (or write publishers: N, if they are parts of one robot)"
        )
    return None


def missing_subscribers(node: Any, wanted: Wanted) -> str | None:
    """Why commands would reach nobody, or the arm would be told by two; None if all is well."""
    infos = _others(node, node.get_subscriptions_info_by_topic(wanted.topic))
    if not infos:
        return f"{wanted.what}: nobody listens to {wanted.topic} ({wanted.type_name}); {_there_is(node, wanted)}"
    problem = _type_problem(wanted, infos, "listens to")
    if problem:
        return problem
    for info in infos:
        if _is_latched(info.qos_profile) and not wanted.latched:
            return _qos_problem(wanted, info, "asks for what was said before (transient local), commands are volatile")
    rivals = _others(node, node.get_publishers_info_by_topic(wanted.topic))
    if wanted.most and len(rivals) >= wanted.most:
        return (
            f"{wanted.what}: {quoted(map(_name, rivals))} already sends commands on {wanted.topic}; two robots or two "
            "sessions on one topic: end the other, or give each robot a namespace"
        )
    return None


def why_silent(subscription: Any, *, is_image: bool) -> str:
    """Why nothing arrives of a topic that is published with the right type and quality of service, in words.

    Args:
        subscription: Ours; with our own client it knows how many publishers DDS has connected to it.
        is_image: Whether its messages are larger than a packet.
    """
    reader = getattr(subscription, "reader", None)
    if reader is not None and not reader.matched():
        mine = "; ".join(uri_problems(os.environ.get(URI, "")))
        return (
            "published, but DDS does not connect it to us"
            f"{': ' + mine if mine else ', though name of the type and quality of service fit'}; is the message "
            "package another version there (ros2 topic info -v shows type hashes), or only one side secured?"
        )
    if is_image:
        return (
            "published and connected, but no image has arrived whole: robot-rl doctor looks at this computer's "
            "buffers, docs/ros.md names what a sender on Fast DDS needs; compressed images need neither"
        )
    return (
        "published and connected, but nothing has arrived: does its publisher send? Over which interface is "
        f"robot.interface's ({where(os.environ)} here), and a firewall must let UDP pass"
    )


def where(environment: Mapping[str, str]) -> str:
    """Over what this process talks, in a few words."""
    if environment.get(URI):
        return f"as {URI} says"
    address = address_of_environment(environment)
    return {LOOPBACK: "this computer only", ANY: "any network"}.get(address, address)


def _others(node: Any, infos: Sequence[Any]) -> list[Any]:
    """Endpoints of other nodes."""
    mine = node.get_name(), node.get_namespace()
    return [info for info in infos if (info.node_name, info.node_namespace) != mine]


def _type_problem(wanted: Wanted, infos: Sequence[Any], does: str) -> str | None:
    for info in infos:
        if info.topic_type != wanted.type_name:
            return f"{wanted.what}: {_name(info)} {does} {wanted.topic} as {info.topic_type}, wanted {wanted.type_name}"
    return None


def _qos_problem(wanted: Wanted, info: Any, why: str) -> str:
    return f"{wanted.what}: quality of service on {wanted.topic} cannot match: {_name(info)} {why}"


def _is_reliable(profile: Any) -> bool:
    return str(profile.reliability.name) != "BEST_EFFORT"


def _is_latched(profile: Any) -> bool:
    return str(profile.durability.name) == "TRANSIENT_LOCAL"


def _name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _there_is(node: Any, wanted: Wanted) -> str:
    """The nearest names first, then others of the same type, then the rest."""
    types = {name: each for name, each in node.get_topic_names_and_types() if name != wanted.topic}
    if not types:
        return (
            "no other topic is there at all: is the driver running, in the same ROS_DOMAIN_ID and on the same network? "
            f"We look on: {where(os.environ)}; robot.interface in the robot's yaml names another"
        )
    near = difflib.get_close_matches(wanted.topic, types, n=3)
    alike = [name for name in sorted(types) if wanted.type_name in types[name]]
    listed = list(dict.fromkeys([*near, *alike, *sorted(types)]))
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return "there is " + ", ".join(f"{name} ({', '.join(types[name])})" for name in listed[:LISTED]) + more
