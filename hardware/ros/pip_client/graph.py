"""Who is in the domain: nodes by name, topics by type, endpoints with their quality of service.

Endpoints come from DDS discovery. Node names are not part of it; every ROS participant publishes its own on
`ros_discovery_info`, and so do we, or `ros2 node list` would not show us.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)

from hardware.ros.pip_client.messages import decode, encode, message_class, type_hash, warm_up
from hardware.ros.pip_client.qos import (
    DurabilityPolicy,
    QoSProfile,
    from_dds,
    to_dds,
)
from hardware.ros.pip_client.transport import Participant, Reader, Writer, close

INFO_TOPIC = "ros_discovery_info"
INFO_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
ALIVE = 16
MOST_ENDPOINTS = 100_000
INFO_BATCH = 100
MOST_UNREAD = 1000
"""Announcements kept until an executor looks. Keeping all would let a flood of them fill the memory."""


class NodeEntities(NamedTuple):
    """One node as its participant announces it.

    Attributes:
        namespace: With a slash in front.
        name: Without namespace.
        readers: DDS ids of its readers.
        writers: DDS ids of its writers.
    """

    namespace: str
    name: str
    readers: tuple[bytes, ...]
    writers: tuple[bytes, ...]


@dataclass(frozen=True)
class TopicEndpointInfo:
    """One publisher or subscription of a topic; attributes as in rclpy.

    Attributes:
        node_name: Who owns it; `_NODE_NAME_UNKNOWN_` where its participant announces none.
        node_namespace: Where the owner is.
        topic_type: ROS type.
        endpoint_gid: DDS id.
        qos_profile: What it offers or asks for.
    """

    node_name: str
    node_namespace: str
    topic_type: str
    endpoint_gid: tuple[int, ...]
    qos_profile: QoSProfile


class Graph:
    """Announces our nodes and knows the others.

    Args:
        participant: Membership in the domain.
    """

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._lock = threading.Lock()
        self._others: dict[bytes, list[NodeEntities]] = {}
        self._own: list[NodeEntities] = []
        self._info_class = message_class(INFO_TYPE)
        fresh_gid: Any = message_class("rmw_dds_common/msg/Gid")()
        self._gid_bytes = len(fresh_gid.data)
        warm_up([self._info_class])
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        everything = QoSProfile(depth=MOST_UNREAD, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        hashed = f"typehash={type_hash(INFO_TYPE)};".encode()
        offer = to_dds(latched, writer=True, user_data=hashed, keep_instance=True)
        self._writer = Writer(participant, INFO_TOPIC, INFO_TYPE, offer)
        self._reader = Reader(participant, INFO_TOPIC, INFO_TYPE, to_dds(everything, writer=False, user_data=hashed))
        self.condition_ref = self._reader.condition_ref

    def announce(self, nodes: Iterable[NodeEntities]) -> None:
        """Publish which nodes and endpoints are ours."""
        with self._lock:
            self._own = list(nodes)
            message = self._info_class(
                gid=self._gid(self._participant.guid),
                node_entities_info_seq=[self._node_message(node) for node in self._own],
            )
            self._writer.write(encode(message))

    def _gid(self, guid: bytes) -> Any:
        padded = guid.ljust(self._gid_bytes, b"\0")
        return message_class("rmw_dds_common/msg/Gid")(data=list(padded))

    def _node_message(self, node: NodeEntities) -> Any:
        return message_class("rmw_dds_common/msg/NodeEntitiesInfo")(
            node_namespace=node.namespace,
            node_name=node.name,
            reader_gid_seq=[self._gid(guid) for guid in node.readers],
            writer_gid_seq=[self._gid(guid) for guid in node.writers],
        )

    def update(self) -> None:
        """Take in what other participants announced; executors call this, so that nothing piles up."""
        while batch := self._reader.take(INFO_BATCH):
            for data in batch:
                self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        try:
            message: Any = decode(data, self._info_class)
        except ValueError:
            return  # a peer with the other size of ids, or one that sends nonsense: it stays nameless
        nodes = [
            NodeEntities(
                node.node_namespace,
                node.node_name,
                tuple(bytes(gid.data)[:16] for gid in node.reader_gid_seq),
                tuple(bytes(gid.data)[:16] for gid in node.writer_gid_seq),
            )
            for node in message.node_entities_info_seq
        ]
        with self._lock:
            self._others[bytes(message.gid.data)[:16]] = nodes

    def nodes(self) -> list[NodeEntities]:
        """Every node, ours included, whose participant is still there."""
        self.update()
        alive = {sample.key.bytes for sample in self._discovered(BuiltinTopicDcpsParticipant)}
        with self._lock:
            self._others = {guid: nodes for guid, nodes in self._others.items() if guid in alive}
            others = [node for guid, nodes in self._others.items() if guid != self._participant.guid for node in nodes]
            return self._own + others

    def _discovered(self, topic: Any) -> list[Any]:
        reader = BuiltinDataReader(self._participant.entity, topic)
        try:
            samples = reader.read(MOST_ENDPOINTS)
        finally:
            condition: Any = reader._next_condition
            close(condition)
            close(reader)
        return [sample for sample in samples if sample.sample_info.instance_state == ALIVE]

    def writers(self) -> list[Any]:
        """Every writer in the domain, as DDS describes it."""
        return self._discovered(BuiltinTopicDcpsPublication)

    def readers(self) -> list[Any]:
        """Every reader in the domain, as DDS describes it."""
        return self._discovered(BuiltinTopicDcpsSubscription)

    def endpoints(self, topic: str, *, writers: bool) -> list[TopicEndpointInfo]:
        """Publishers or subscriptions of one topic, given by its name on the wire."""
        owners = {guid: node for node in self.nodes() for guid in (node.writers if writers else node.readers)}
        unknown = NodeEntities("_NODE_NAMESPACE_UNKNOWN_", "_NODE_NAME_UNKNOWN_", (), ())
        found = []
        for sample in self.writers() if writers else self.readers():
            if sample.topic_name == topic:
                guid = sample.key.bytes
                owner = owners.get(guid, unknown)
                kind = ros_type(sample.type_name)
                found.append(TopicEndpointInfo(owner.name, owner.namespace, kind, tuple(guid), from_dds(sample.qos)))
        return found

    def types_by_name(self, prefix: str) -> list[tuple[str, list[str]]]:
        """Names below one of the wire's prefixes with their ROS types, sorted."""
        found: dict[str, set[str]] = {}
        for sample in [*self.writers(), *self.readers()]:
            if sample.topic_name.startswith(f"{prefix}/"):
                found.setdefault(sample.topic_name[len(prefix) :], set()).add(ros_type(sample.type_name))
        return sorted((name, sorted(types)) for name, types in found.items())

    def close(self) -> None:
        """Stop announcing."""
        self._writer.close()
        self._reader.close()


def ros_type(type_name: str) -> str:
    """`std_msgs::msg::dds_::Bool_` is `std_msgs/msg/Bool`; other types keep their name."""
    match = re.fullmatch(r"(\w+)::(\w+)::dds_::(\w+)_", type_name)
    return "/".join(match.groups()) if match else type_name
