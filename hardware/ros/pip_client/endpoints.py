"""Publishers and subscriptions, and the warning when another end's quality of service does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hardware.ros.pip_client.callback_groups import CallbackGroup
from hardware.ros.pip_client.entities import Owner
from hardware.ros.pip_client.exceptions import RCLError
from hardware.ros.pip_client.messages import Message, decode, encode, type_hash, warm_up
from hardware.ros.pip_client.names import TOPIC
from hardware.ros.pip_client.qos import DDS_POLICY_IDS, QoSPolicyKind, QoSProfile, to_dds
from hardware.ros.pip_client.time import NS_PER_S, Duration
from hardware.ros.pip_client.transport import Reader, Writer


@dataclass(frozen=True)
class QoSIncompatibleInfo:
    """Ends that could not be matched.

    Attributes:
        total_count: So far.
        total_count_change: Since last told.
        last_policy_kind: Policy on which the last one failed.
    """

    total_count: int
    total_count_change: int
    last_policy_kind: QoSPolicyKind


class PublisherEventCallbacks:
    """What a publisher wants to be told.

    Args:
        incompatible_qos: Called with a `QoSIncompatibleInfo`; None logs a warning.
        use_default_callbacks: False keeps silent where no callback is given.
    """

    DEFAULT_TEXT = (
        "New subscription discovered on topic '{topic}', requesting incompatible QoS. "
        "No messages will be sent to it. Last incompatible policy: {policy}"
    )

    def __init__(
        self,
        *,
        incompatible_qos: Callable[[QoSIncompatibleInfo], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.incompatible_qos = incompatible_qos
        self.use_default_callbacks = use_default_callbacks


class SubscriptionEventCallbacks(PublisherEventCallbacks):
    """What a subscription wants to be told; arguments as `PublisherEventCallbacks`."""

    DEFAULT_TEXT = (
        "New publisher discovered on topic '{topic}', offering incompatible QoS. "
        "No messages will be received from it. Last incompatible policy: {policy}"
    )


class IncompatibleQoSEvent:
    """Wakes the executor when an end could not be matched.

    Args:
        endpoint: Writer or reader.
        topic: Name, for the warning.
        node: Owner.
        callbacks: Whom to tell.
        group: Callback group.
    """

    def __init__(
        self,
        endpoint: Writer | Reader,
        topic: str,
        node: Owner,
        callbacks: PublisherEventCallbacks,
        group: CallbackGroup,
    ) -> None:
        self._endpoint, self._topic, self._node, self._callbacks = endpoint, topic, node, callbacks
        self.callback_group = group
        self.condition_ref = endpoint.ref

    def take(self) -> list[tuple[QoSIncompatibleInfo]]:
        """What happened since last asked, if anything."""
        total, change, policy = self._endpoint.incompatible()
        kind = DDS_POLICY_IDS.get(policy, QoSPolicyKind.INVALID)
        return [(QoSIncompatibleInfo(total, change, kind),)] if change else []

    def callback(self, info: QoSIncompatibleInfo) -> None:
        """Tell the owner, or log."""
        if self._callbacks.incompatible_qos is not None:
            self._callbacks.incompatible_qos(info)
        elif self._callbacks.use_default_callbacks:
            text = self._callbacks.DEFAULT_TEXT
            self._node.get_logger().warning(text.format(topic=self._topic, policy=info.last_policy_kind.name))


class Publisher:
    """Sends messages of one type on one topic; made by `Node.create_publisher`."""

    def __init__(
        self,
        node: Owner,
        msg_type: type[Message],
        topic: str,
        qos_profile: QoSProfile,
        group: CallbackGroup,
        callbacks: PublisherEventCallbacks | None,
    ) -> None:
        self.node, self.msg_type, self.topic_name, self.qos_profile = node, msg_type, topic, qos_profile
        warm_up([msg_type])
        user_data = f"typehash={type_hash(msg_type.TYPE_NAME)};".encode()
        qos = to_dds(qos_profile, writer=True, user_data=user_data)
        self.writer = Writer(node.context.participant, TOPIC + topic, msg_type.TYPE_NAME, qos)
        events = callbacks or PublisherEventCallbacks()
        self.event_handlers = [IncompatibleQoSEvent(self.writer, topic, node, events, group)]
        self._open = True

    @property
    def topic(self) -> str:
        """Absolute name."""
        return self.topic_name

    def publish(self, msg: Message | bytes) -> None:
        """Send a message, or one that is encoded already.

        Raises:
            TypeError: The message is of another type.
            RCLError: The context was shut down or the publisher destroyed.
        """
        if isinstance(msg, bytes):
            data: bytes | bytearray = msg + bytes(-len(msg) % 4)
        elif isinstance(msg, self.msg_type):
            data = encode(msg)
        else:
            raise TypeError(f"Expected {self.msg_type.TYPE_NAME}, got {type(msg)} on {self.topic_name}")
        if not (self._open and self.node.context.ok()):
            raise RCLError(
                f"Failed to publish on {self.topic_name}: the publisher or its context is not valid any more"
            )
        if not self.writer.write(data):
            self.node.get_logger().warning(
                f"A message on {self.topic_name} was dropped: a reliable subscription is too slow",
                throttle_duration_sec=1.0,
            )

    def get_subscription_count(self) -> int:
        """Subscriptions that get the messages."""
        return self.writer.matched()

    def wait_for_all_acked(self, timeout: Duration | None = None) -> bool:
        """Whether every reliable subscription had everything in time."""
        timeout_ns = timeout.nanoseconds if timeout is not None and timeout.nanoseconds >= 0 else 3600 * NS_PER_S
        return self.writer.wait_for_acks(timeout_ns)

    def assert_liveliness(self) -> None:
        """Say that the publisher is alive, for liveliness by topic."""
        self.writer.assert_liveliness()

    def close(self) -> None:
        """Leave the topic; `Node.destroy_publisher` calls this."""
        if self._open:
            self._open = False
            self.writer.close()

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)


class Subscription:
    """Hands received messages to a callback; made by `Node.create_subscription`."""

    def __init__(
        self,
        node: Owner,
        msg_type: type[Message],
        topic: str,
        callback: Callable[[Any], Any],
        qos_profile: QoSProfile,
        group: CallbackGroup,
        callbacks: SubscriptionEventCallbacks | None,
        raw: bool,
    ) -> None:
        self.node, self.msg_type, self.topic_name, self.qos_profile = node, msg_type, topic, qos_profile
        self.callback, self.callback_group, self.raw = callback, group, raw
        warm_up([msg_type])
        user_data = f"typehash={type_hash(msg_type.TYPE_NAME)};".encode()
        qos = to_dds(qos_profile, writer=False, user_data=user_data)
        self.reader = Reader(node.context.participant, TOPIC + topic, msg_type.TYPE_NAME, qos)
        self.condition_ref = self.reader.condition_ref
        events = callbacks or SubscriptionEventCallbacks()
        self.event_handlers = [IncompatibleQoSEvent(self.reader, topic, node, events, group)]
        self._open = True

    @property
    def topic(self) -> str:
        """Absolute name."""
        return self.topic_name

    def take(self) -> list[tuple[Any]]:
        """The oldest message not yet handed over, if any; a malformed one is dropped with a warning."""
        for data in self.reader.take(1):
            if self.raw:
                return [(data,)]
            try:
                return [(decode(data, self.msg_type),)]
            except ValueError as error:
                self.node.get_logger().warning(
                    f"Malformed message on {self.topic_name} dropped: {error}", throttle_duration_sec=1.0
                )
        return []

    def close(self) -> None:
        """Leave the topic; `Node.destroy_subscription` calls this."""
        if self._open:
            self._open = False
            self.reader.close()

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)
