"""Services and clients, as rmw_cyclonedds has them: two topics, and a header that pairs replies with requests.

Works between Cyclone peers only: Fast DDS pairs them by what goes beside the payload, which CycloneDDS does not give.
Such a peer is never ready, is sent nothing (it would print errors) and is not answered; a warning says why. What a
robot must obey is therefore never a service alone.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from hardware.ros.pip_client.callback_groups import CallbackGroup
from hardware.ros.pip_client.entities import Owner
from hardware.ros.pip_client.exceptions import RCLError
from hardware.ros.pip_client.messages import HEADER_BYTES, Message, decode, encode, warm_up
from hardware.ros.pip_client.names import REPLY, REQUEST
from hardware.ros.pip_client.qos import QoSProfile, to_dds
from hardware.ros.pip_client.task import Future
from hardware.ros.pip_client.transport import Reader, Writer

PAIRING = struct.Struct("<Qq")
"""Client's id and sequence number."""
POLL_S = 0.02
FAST_DDS = b"\x01\x0f"
"""A DDS id begins with its vendor's number."""
NO_SERVICES = (
    "is on Fast DDS (rmw_fastrtps), which pairs answers with requests otherwise than our client and rmw_cyclonedds: "
    "none will ever be answered. Next: use a topic, or start that node with RMW_IMPLEMENTATION=rmw_cyclonedds_cpp"
)


def pack(pairing: tuple[int, int], message: Message) -> bytes:
    """A request or reply with its pairing header; 16 bytes, so the alignment of what follows stays."""
    data = encode(message)
    return bytes(data[:HEADER_BYTES]) + PAIRING.pack(*pairing) + bytes(data[HEADER_BYTES:])


def unpack(data: bytes, cls: type[Message]) -> tuple[tuple[int, int], Any]:
    """Pairing header and message.

    Raises:
        ValueError: The bytes are not of this type.
    """
    body = HEADER_BYTES + PAIRING.size
    if len(data) < body:
        raise ValueError(f"{len(data)} bytes are too few for a {cls.TYPE_NAME}")
    client, sequence = PAIRING.unpack_from(data, HEADER_BYTES)
    return (client, sequence), decode(data[:HEADER_BYTES] + data[body:], cls)


def on_fast_dds(guid: bytes | None) -> bool:
    """Whether a DDS id is of a Fast DDS participant."""
    return guid is not None and guid[: len(FAST_DDS)] == FAST_DDS


class ServiceEnds:
    """Writer and reader of a service's or a client's side."""

    def __init__(self, node: Owner, srv_type: Any, name: str, qos_profile: QoSProfile, *, serves: bool) -> None:
        self.node, self.srv_type, self.srv_name, self.qos_profile = node, srv_type, name, qos_profile
        warm_up([srv_type.Request, srv_type.Response])
        request = (f"{REQUEST}{name}Request", srv_type.Request.TYPE_NAME)
        reply = (f"{REPLY}{name}Reply", srv_type.Response.TYPE_NAME)
        received, sent = (request, reply) if serves else (reply, request)
        participant = node.context.participant
        self.writer = Writer(participant, *sent, to_dds(qos_profile, writer=True, keep_instance=True))
        self.reader = Reader(participant, *received, to_dds(qos_profile, writer=False))
        self.condition_ref = self.reader.condition_ref
        self.received_type = srv_type.Request if serves else srv_type.Response
        self._open = True
        self._warned = False

    def take_one(self) -> tuple[tuple[int, int], Any] | None:
        """The oldest request or reply not yet handled, if any."""
        for data, writer in self.reader.take_with_writers(1):
            if on_fast_dds(self.reader.guid_of(writer)):
                self.warn_of_fast_dds()
                continue
            try:
                return unpack(data, self.received_type)
            except ValueError as error:
                self.node.get_logger().warning(
                    f"Malformed message on service {self.srv_name} dropped: {error}", throttle_duration_sec=1.0
                )
        return None

    def send(self, pairing: tuple[int, int], message: Message) -> None:
        """Send a request or reply.

        Raises:
            RCLError: The context was shut down, or the other side takes nothing.
        """
        if not (self._open and self.node.context.ok()) or not self.writer.write(pack(pairing, message)):
            raise RCLError(f"Failed to send on service {self.srv_name}: not valid any more, or the peer is too slow")

    def warn_of_fast_dds(self) -> None:
        """Say once why this will never work."""
        if not self._warned:
            self._warned = True
            self.node.get_logger().warning(f"The other side of service {self.srv_name} {NO_SERVICES}")

    def close(self) -> None:
        """Leave both topics."""
        if self._open:
            self._open = False
            self.writer.close()
            self.reader.close()


class Service(ServiceEnds):
    """Answers requests; made by `Node.create_service`."""

    def __init__(
        self,
        node: Owner,
        srv_type: Any,
        name: str,
        callback: Callable[[Any, Any], Any],
        qos_profile: QoSProfile,
        group: CallbackGroup,
    ) -> None:
        super().__init__(node, srv_type, name, qos_profile, serves=True)
        self._answer, self.callback_group = callback, group

    def take(self) -> list[tuple[tuple[int, int], Any]]:
        """The oldest request, if any."""
        taken = self.take_one()
        return [taken] if taken else []

    def callback(self, pairing: tuple[int, int], request: Any) -> Any:
        """Answer a request; a coroutine where the owner's callback is one."""
        response = self._answer(request, self.srv_type.Response())
        if hasattr(response, "__await__"):
            return self._answer_later(pairing, response)
        self.send(pairing, self._checked(response))
        return None

    async def _answer_later(self, pairing: tuple[int, int], response: Any) -> None:
        self.send(pairing, self._checked(await response))

    def _checked(self, response: Any) -> Any:
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"Service {self.srv_name}: the callback returned {type(response)}, not its response")
        return response

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)


class Client(ServiceEnds):
    """Asks a service; made by `Node.create_client`."""

    def __init__(self, node: Owner, srv_type: Any, name: str, qos_profile: QoSProfile, group: CallbackGroup) -> None:
        super().__init__(node, srv_type, name, qos_profile, serves=False)
        self.callback_group = group
        self._lock = threading.Lock()
        self._sequence = 0
        self._pending: dict[int, Future] = {}

    def call_async(self, request: Any) -> Future:
        """Send a request; the future gets the response while the node is spun."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"Service {self.srv_name}: expected its Request, got {type(request)}")
        future = Future()
        with self._lock:
            self._sequence += 1
            sequence = self._sequence
            self._pending[sequence] = future
        future.add_done_callback(lambda _: self._forget(sequence))
        readers = self.writer.matched_guids()
        if readers and all(map(on_fast_dds, readers)):
            self.warn_of_fast_dds()
        else:
            self.send((self.writer.instance_handle, sequence), request)
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """Send a request and block for the response; only from outside the executor that spins the node."""
        answered = threading.Event()
        future = self.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(timeout_sec):
            self.remove_pending_request(future)
            raise TimeoutError(f"Service {self.srv_name} did not answer in {timeout_sec} s")
        return future.result()

    def _forget(self, sequence: int) -> None:
        self._pending.pop(sequence, None)

    def remove_pending_request(self, future: Future) -> None:
        """Forget a request; its future never completes."""
        for sequence, pending in list(self._pending.items()):
            if pending is future:
                self._pending.pop(sequence, None)

    def take(self) -> list[tuple[Future, Any]]:
        """The oldest response to a request of ours, if any; others' responses are passed over."""
        taken = self.take_one()
        if taken is None or taken[0][0] != self.writer.instance_handle:
            return []
        future = self._pending.get(taken[0][1])
        return [(future, taken[1])] if future is not None else []

    def callback(self, future: Future, response: Any) -> None:
        """Complete a request."""
        future.set_result(response)

    def service_is_ready(self) -> bool:
        """Whether a service reads our requests, its replies reach us, and it could pair them."""
        ends = [self.writer.matched_guids(), self.reader.matched_guids()]
        ready = all(any(not on_fast_dds(guid) for guid in guids) for guids in ends)
        if not ready and all(ends):
            self.warn_of_fast_dds()
        return ready

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Whether the service became ready in time."""
        end_s = None if timeout_sec is None else time.monotonic() + timeout_sec
        while not self.service_is_ready():
            if not self.node.context.ok() or (end_s is not None and time.monotonic() >= end_s):
                return False
            self.node.context.ended.wait(POLL_S)
        return True

    def destroy(self) -> None:
        """End it."""
        self.node.forget(self)
