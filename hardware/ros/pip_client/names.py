"""Names of nodes, topics and services: what is allowed, how they expand, how they look on the wire."""

from __future__ import annotations

import re

from hardware.ros.pip_client.arguments import Arguments
from hardware.ros.pip_client.exceptions import InvalidNodeNameException, InvalidTopicNameException

TOPIC, REQUEST, REPLY = "rt", "rq", "rr"
"""Prefixes on the wire."""


def check_node_name(name: str) -> None:
    """Letters, digits and underscores, not starting with a digit."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise InvalidNodeNameException(f"Invalid node name {name!r}: use letters, digits and underscores")


def full_namespace(namespace: str | None) -> str:
    """With one slash in front and none behind."""
    return "/" + (namespace or "").strip("/")


def join(namespace: str, name: str) -> str:
    """A name inside a namespace."""
    return f"{namespace.rstrip('/')}/{name}"


def expand(name: str, namespace: str, node: str) -> str:
    """Absolute name; `~` is the node's own.

    Raises:
        InvalidTopicNameException: The name has forbidden characters.
    """
    if not re.fullmatch(r"(~/?|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*|~", name):
        raise InvalidTopicNameException(
            f"Invalid topic or service name {name!r}: wanted parts of letters, digits and underscores with / between"
        )
    if name.startswith("/"):
        return name
    if name.startswith("~"):
        own = join(namespace, node)
        return own if name == "~" else join(own, name[1:].lstrip("/"))
    return join(namespace, name)


def resolve(name: str, namespace: str, node: str, rules: list[Arguments], only_expand: bool = False) -> str:
    """Absolute name after remapping; the node's own rules come before the process's."""
    full = expand(name, namespace, node)
    if only_expand:
        return full
    for arguments in rules:
        for rule in arguments.remaps:
            if rule.node not in (None, node) or rule.source.startswith("__"):
                continue
            if expand(rule.source, namespace, node) == full:
                return expand(rule.target, namespace, node)
    return full
