"""Bytes over CycloneDDS: participants, writers, readers and waiting for them.

`ddspy_write` and `ddspy_take` are the binding's private entry points for bytes that are encoded already; the
version is pinned for them. They hold the interpreter's lock, so nothing here uses listeners: a listener would need
that lock in a DDS thread for which the writer may be waiting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import Any

from cyclonedds._clayer import ddspy_take, ddspy_write  # type: ignore[import-not-found]
from cyclonedds.core import DDSException, DDSStatus, Entity, GuardCondition, ReadCondition, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from hardware.ros.pip_client.idl_types import idl_type
from hardware.ros.pip_client.profile import URI, configuration, security_problem
from robot_rl.core.errors import RobotRLError

ANY_STATE = 127
UNREAD = 2 | 12 | 112
"""Sample, view and instance states of a reader's condition."""
TIMED_OUT = DDSException.DDS_RETCODE_TIMEOUT
WRITER_CALLS = Entity._dll_handle


def close(entity: Entity) -> None:
    """Delete a DDS entity now, whoever still refers to it."""
    entity.__del__()
    with contextlib.suppress(AttributeError):
        del entity._ref


class SharedDomain:
    """The DDS configuration, applied to a domain once per process for as long as it has participants."""

    _lock = threading.Lock()
    _domains: dict[int, tuple[Domain | None, int]] = {}  # noqa: RUF012

    @classmethod
    def hold(cls, domain_id: int) -> None:
        """Apply it.

        Raises:
            RobotRLError: CycloneDDS does not start with it, which only a user's CYCLONEDDS_URI can be the reason of.
        """
        with cls._lock:
            domain, users = cls._domains.get(domain_id, (None, 0))
            domain = domain or make_domain(domain_id)
            cls._domains[domain_id] = domain, users + 1

    @classmethod
    def release(cls, domain_id: int) -> None:
        """The last participant takes the domain with it."""
        with cls._lock:
            if domain_id not in cls._domains:
                return
            domain, users = cls._domains.pop(domain_id)
            if users > 1:
                cls._domains[domain_id] = domain, users - 1
            elif domain is not None:
                close(domain)


def make_domain(domain_id: int) -> Domain | None:
    """A domain with the DDS configuration of this process; None where other code in it has made that domain already.

    Raises:
        RobotRLError: CycloneDDS does not start with it.
    """
    try:
        return Domain(domain_id, configuration())
    except DDSException as error:
        if error.code == DDSException.DDS_RETCODE_PRECONDITION_NOT_MET:
            return None
        raise RobotRLError(
            f"CycloneDDS does not start in domain {domain_id}, its reason is above; CYCLONEDDS_URI is "
            f"{os.environ.get(URI)!r}; robot-rl doctor looks at it, unset it for our own profile"
        ) from error


class Participant:
    """One process's (strictly: one context's) membership in a domain.

    Args:
        domain_id: DDS domain.

    Raises:
        RobotRLError: CycloneDDS does not start, or security is enforced that it does not have.
    """

    def __init__(self, domain_id: int) -> None:
        unprotected = security_problem()
        if unprotected and os.environ.get("ROS_SECURITY_STRATEGY") == "Enforce":
            raise RobotRLError(f"ROS_SECURITY_STRATEGY is Enforce: {unprotected}")
        self.domain_id = domain_id
        SharedDomain.hold(domain_id)
        self.entity = DomainParticipant(domain_id)
        self.guid: bytes = self.entity.guid.bytes

    def close(self) -> None:
        """Leave the domain; everything made from this participant ends."""
        close(self.entity)
        SharedDomain.release(self.domain_id)


class Writer:
    """Sends bytes on one topic.

    Args:
        participant: Owner.
        topic: Name on the wire, prefix included.
        type_name: ROS type, for example `std_msgs/msg/Bool`.
        qos: DDS policies.
    """

    def __init__(self, participant: Participant, topic: str, type_name: str, qos: Qos) -> None:
        self._topic = Topic(participant.entity, topic, idl_type(type_name))
        self.entity = DataWriter(participant.entity, self._topic, qos=qos)
        self.entity.set_status_mask(DDSStatus.OfferedIncompatibleQos)
        self.ref: int = self.entity._ref
        self.guid: bytes = self.entity.guid.bytes
        self.instance_handle: int = self.entity.get_instance_handle() & 0xFFFF_FFFF_FFFF_FFFF

    def write(self, data: bytes | bytearray) -> bool:
        """Send encoded bytes; False where slow reliable readers left no room in time.

        Raises:
            DDSException: The writer is closed or the transport failed.
        """
        code = ddspy_write(self.ref, data)
        if code < 0 and code != TIMED_OUT:
            raise DDSException(code, "while writing")
        return bool(code >= 0)

    def matched(self) -> int:
        """Readers that this writer reaches."""
        return len(self.entity.get_matched_subscriptions())

    def matched_guids(self) -> list[bytes]:
        """DDS ids of the readers that this writer reaches; the first two bytes are their vendor's number."""
        found = map(self.entity.get_matched_subscription_data, self.entity.get_matched_subscriptions())
        return [end.key.bytes for end in found if end is not None]

    def incompatible(self) -> tuple[int, int, int]:
        """Readers that asked for more than is offered: total, change since last asked, last DDS policy id."""
        status: Any = self.entity.get_offered_incompatible_qos_status()  # type: ignore[no-untyped-call]
        return status.total_count, status.total_count_change, status.last_policy_id

    def wait_for_acks(self, timeout_ns: int) -> bool:
        """Whether every reliable reader has everything within a time [ns]."""
        return bool(self.entity.wait_for_acks(timeout_ns))

    def assert_liveliness(self) -> None:
        """Say that the writer is alive."""
        WRITER_CALLS.dds_assert_liveliness(self.ref)

    def close(self) -> None:
        """Leave the topic."""
        close(self.entity)
        close(self._topic)


class Reader:
    """Receives bytes on one topic; arguments as `Writer`."""

    def __init__(self, participant: Participant, topic: str, type_name: str, qos: Qos) -> None:
        self._topic = Topic(participant.entity, topic, idl_type(type_name))
        self.entity = DataReader(participant.entity, self._topic, qos=qos)
        self.entity.set_status_mask(DDSStatus.RequestedIncompatibleQos)
        self._condition = ReadCondition(self.entity, UNREAD)
        self.ref: int = self.entity._ref
        self.condition_ref: int = self._condition._ref
        self.guid: bytes = self.entity.guid.bytes

    def take(self, count: int = 1) -> list[bytes]:
        """Up to `count` received samples, oldest first; notices without data (a writer left) are dropped."""
        return [data for data, _ in self.take_with_writers(count)]

    def take_with_writers(self, count: int = 1) -> list[tuple[bytes, int]]:
        """As `take`, each with the handle of its writer, which `guid_of` knows."""
        taken = ddspy_take(self.ref, ANY_STATE, count)
        if isinstance(taken, int):
            return []
        return [(data, info.publication_handle) for data, info in taken if info.valid_data]

    def guid_of(self, writer: int) -> bytes | None:
        """DDS id of a writer by its handle; None where it has left."""
        try:
            end = self.entity.get_matched_publication_data(writer)
        except DDSException:
            return None
        return None if end is None else bytes(end.key.bytes)

    def matched_guids(self) -> list[bytes]:
        """DDS ids of the writers that reach this reader; the first two bytes are their vendor's number."""
        return [guid for guid in map(self.guid_of, self.entity.get_matched_publications()) if guid is not None]

    def matched(self) -> int:
        """Writers that reach this reader."""
        return len(self.entity.get_matched_publications())

    def incompatible(self) -> tuple[int, int, int]:
        """Writers that offer less than is asked: total, change since last asked, last DDS policy id."""
        status: Any = self.entity.get_requested_incompatible_qos_status()  # type: ignore[no-untyped-call]
        return status.total_count, status.total_count_change, status.last_policy_id

    def close(self) -> None:
        """Leave the topic."""
        close(self._condition)
        close(self.entity)
        close(self._topic)


class Waiter:
    """Blocks until one of many handles triggers; the interpreter's lock is free meanwhile.

    Args:
        participant: Owner.
    """

    def __init__(self, participant: Participant) -> None:
        self._waitset = WaitSet(participant.entity)
        self._guard = GuardCondition(participant.entity)
        self._guard_ref: int = self._guard._ref
        self._ref: int = self._waitset._ref
        self._attached: set[int] = set()
        self._attach(self._guard_ref)

    def _attach(self, ref: int) -> None:
        if WaitSet._waitset_attach(self._waitset, self._ref, ref, ctypes.c_void_p(ref)) >= 0:
            self._attached.add(ref)

    def wait(self, refs: set[int], timeout_ns: int) -> list[int]:
        """Handles that triggered, none after a timeout or a wake-up.

        Args:
            refs: Read conditions and entities to wait for.
            timeout_ns: Longest wait [ns]; 0 only looks.
        """
        wanted = refs | {self._guard_ref}
        for ref in self._attached - wanted:
            WaitSet._waitset_detach(self._waitset, self._ref, ref)  # fails harmlessly where it was deleted meanwhile
            self._attached.discard(ref)
        for ref in wanted - self._attached:
            self._attach(ref)
        slots = (ctypes.c_void_p * len(wanted))()
        count = WaitSet._waitset_wait(self._waitset, self._ref, slots, len(wanted), timeout_ns)
        triggered = [int(slots[i] or 0) for i in range(max(0, min(count, len(wanted))))]
        if self._guard_ref in triggered:
            self._guard.set(False)
        return [ref for ref in triggered if ref != self._guard_ref]

    def wake(self) -> None:
        """End the present wait, or the next one if none is under way."""
        with contextlib.suppress(DDSException, AttributeError):  # the participant may be closing
            self._guard.set(True)

    def close(self) -> None:
        """End the waiter."""
        self._waitset.attached.clear()
        close(self._waitset)
        close(self._guard)
