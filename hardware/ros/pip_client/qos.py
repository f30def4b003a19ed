"""Quality of service: rclpy's profiles, their DDS form, and which pairs can match."""

from __future__ import annotations

import enum
from typing import Any

from cyclonedds.qos import Policy, Qos
from cyclonedds.util import duration

from hardware.ros.pip_client.time import NS_PER_S, Duration

MAX_BLOCKING_NS = 100_000_000
"""How long a reliable writer may wait for slow readers; the transport holds the interpreter meanwhile."""
INFINITE_NS = duration(infinite=True)


class InvalidQoSProfileException(Exception):  # rclpy's name
    """A profile that leaves out what it needs."""


class HistoryPolicy(enum.IntEnum):
    """How many messages are kept."""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(enum.IntEnum):
    """Whether lost messages are sent again."""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3


class DurabilityPolicy(enum.IntEnum):
    """Whether late subscribers get earlier messages."""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3


class LivelinessPolicy(enum.IntEnum):
    """Who says that a publisher is alive."""

    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4


class QoSPolicyKind(enum.IntEnum):
    """Which policy made two ends incompatible; rclpy's numbers."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16
    HISTORY = 32
    LIFESPAN = 64


DDS_POLICY_IDS = {
    2: QoSPolicyKind.DURABILITY,
    4: QoSPolicyKind.DEADLINE,
    8: QoSPolicyKind.LIVELINESS,
    11: QoSPolicyKind.RELIABILITY,
    13: QoSPolicyKind.HISTORY,
    21: QoSPolicyKind.LIFESPAN,
}


class QoSProfile:
    """How a topic's messages are delivered; rclpy's constructor, its attributes and its defaults."""

    def __init__(
        self,
        *,
        history: HistoryPolicy | None = None,
        depth: int | None = None,
        reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
        lifespan: Duration | None = None,
        deadline: Duration | None = None,
        liveliness: LivelinessPolicy = LivelinessPolicy.SYSTEM_DEFAULT,
        liveliness_lease_duration: Duration | None = None,
        avoid_ros_namespace_conventions: bool = False,
    ) -> None:
        if history is None:
            if depth is None:
                raise InvalidQoSProfileException("A QoSProfile needs history or depth.")
            history = HistoryPolicy.KEEP_LAST
        if history == HistoryPolicy.KEEP_LAST and depth is None:
            raise InvalidQoSProfileException("A QoSProfile with history KEEP_LAST needs depth.")
        self.history = HistoryPolicy(history)
        self.depth = depth or 0
        self.reliability = ReliabilityPolicy(reliability)
        self.durability = DurabilityPolicy(durability)
        self.lifespan = lifespan or Duration()
        self.deadline = deadline or Duration()
        self.liveliness = LivelinessPolicy(liveliness)
        self.liveliness_lease_duration = liveliness_lease_duration or Duration()
        self.avoid_ros_namespace_conventions = avoid_ros_namespace_conventions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QoSProfile) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"QoSProfile(history={self.history.name}, depth={self.depth}, {describe(self)})"


qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(
    history=HistoryPolicy.SYSTEM_DEFAULT,
    reliability=ReliabilityPolicy.SYSTEM_DEFAULT,
    durability=DurabilityPolicy.SYSTEM_DEFAULT,
)


def describe(profile: QoSProfile) -> str:
    """What two ends must agree on, in words."""
    return f"reliability={profile.reliability.name}, durability={profile.durability.name}"


def as_profile(qos_profile: QoSProfile | int) -> QoSProfile:
    """A depth stands for the default profile of that depth."""
    if isinstance(qos_profile, QoSProfile):
        return qos_profile
    if isinstance(qos_profile, bool) or not isinstance(qos_profile, int):
        raise TypeError(f"Expected QoSProfile or int, got {qos_profile!r}")
    if qos_profile < 0:
        raise ValueError(f"A QoS depth is at least 0, got {qos_profile}")
    return QoSProfile(depth=qos_profile)


def to_dds(profile: QoSProfile, *, writer: bool, user_data: bytes = b"", keep_instance: bool = False) -> Qos:
    """DDS policies of a profile.

    Args:
        profile: What the node asked for.
        writer: For a writer, else for a reader.
        user_data: Carries the type hash that Jazzy's peers look for.
        keep_instance: Do not dispose of the data with the writer; services and the graph need this.
    """
    policies: list[Any] = [Policy.DataRepresentation(use_cdrv0_representation=True)]
    keep_all = profile.history == HistoryPolicy.KEEP_ALL
    history = Policy.History.KeepAll if keep_all else Policy.History.KeepLast(max(1, profile.depth))
    policies.append(history)
    best_effort = profile.reliability == ReliabilityPolicy.BEST_EFFORT
    reader_default = profile.reliability == ReliabilityPolicy.SYSTEM_DEFAULT and not writer
    if best_effort or reader_default:
        policies.append(Policy.Reliability.BestEffort)
    else:
        policies.append(Policy.Reliability.Reliable(MAX_BLOCKING_NS))
    if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        policies.append(Policy.Durability.TransientLocal)
        if writer:
            policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    if profile.deadline.nanoseconds:
        policies.append(Policy.Deadline(profile.deadline.nanoseconds))
    if profile.lifespan.nanoseconds and writer:
        policies.append(Policy.Lifespan(profile.lifespan.nanoseconds))
    lease_ns = profile.liveliness_lease_duration.nanoseconds or INFINITE_NS
    if profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC:
        policies.append(Policy.Liveliness.ManualByTopic(lease_ns))
    elif profile.liveliness_lease_duration.nanoseconds:
        policies.append(Policy.Liveliness.Automatic(lease_ns))
    if user_data:
        policies.append(Policy.Userdata(user_data))
    if keep_instance and writer:
        policies.append(Policy.WriterDataLifecycle(autodispose=False))
    return Qos(*policies)


def from_dds(qos: Qos) -> QoSProfile:
    """The profile of a discovered endpoint; discovery does not carry its history."""

    def finite(policy: Any, attribute: str) -> Duration | None:
        value = getattr(policy, attribute, INFINITE_NS)
        return None if value == INFINITE_NS else Duration(nanoseconds=value)

    reliable = isinstance(qos[Policy.Reliability.Reliable], Policy.Reliability.Reliable)
    latched = qos[Policy.Durability.Volatile] in (
        Policy.Durability.TransientLocal,
        Policy.Durability.Transient,
        Policy.Durability.Persistent,
    )
    liveliness = qos[Policy.Liveliness.Automatic]
    manual = isinstance(liveliness, Policy.Liveliness.ManualByTopic)
    return QoSProfile(
        history=HistoryPolicy.UNKNOWN,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        deadline=finite(qos[Policy.Deadline], "deadline"),
        lifespan=finite(qos[Policy.Lifespan], "lifespan"),
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC if manual else LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=finite(liveliness, "lease_duration"),
    )


class QoSCompatibility(enum.IntEnum):
    """Whether two profiles can match."""

    OK = 0
    WARNING = 1
    ERROR = 2


STRONG_AND_WEAK = {
    "reliability": (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT),
    "durability": (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE),
    "liveliness": (LivelinessPolicy.MANUAL_BY_TOPIC, LivelinessPolicy.AUTOMATIC),
}
"""Whoever offers the strong kind serves all; whoever asks for the weak one is served by all."""
PROMISED_TIMES = ("deadline", "liveliness_lease_duration")


def qos_check_compatible(publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> tuple[QoSCompatibility, str]:
    """Whether a publisher's offer meets a subscription's request, and what is wrong or, as rclpy, uncertain."""
    reasons = [_judge_kind(name, publisher_qos, subscription_qos) for name in STRONG_AND_WEAK]
    reasons += [
        _judge_time(name, publisher_qos, subscription_qos) for name in ("deadline", "liveliness_lease_duration")
    ]
    text = "".join(reasons)
    if "ERROR" in text:
        return QoSCompatibility.ERROR, text
    return (QoSCompatibility.WARNING if text else QoSCompatibility.OK), text


def _judge_kind(name: str, publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> str:
    strong, weak = STRONG_AND_WEAK[name]
    offered, asked = getattr(publisher_qos, name), getattr(subscription_qos, name)
    if offered == strong or asked == weak:
        return ""
    severity = "ERROR" if (offered, asked) == (weak, strong) else "WARNING"
    return f"{severity}: {name} of the publisher is {spoken(offered)}, of the subscription {spoken(asked)};"


def _judge_time(name: str, publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> str:
    offered_ns, asked_ns = getattr(publisher_qos, name).nanoseconds, getattr(subscription_qos, name).nanoseconds
    if not asked_ns or 0 < offered_ns <= asked_ns:
        return ""
    offered = f"{offered_ns / NS_PER_S:g} s" if offered_ns else "not limited"
    return f"ERROR: {name} of the publisher is {offered}, of the subscription {asked_ns / NS_PER_S:g} s;"


def spoken(kind: enum.IntEnum) -> str:
    """A policy's kind in words."""
    return kind.name.lower().replace("_", " ")
