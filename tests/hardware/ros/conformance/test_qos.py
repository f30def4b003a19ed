"""Quality of service: which pairs match, and that a pair which cannot says so."""

from __future__ import annotations

import itertools
import re

import pytest

from hardware.ros.client import (
    DurabilityPolicy,
    Duration,
    LivelinessPolicy,
    PublisherEventCallbacks,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
    message,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
LATCHED, VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
PROFILES = [
    QoSProfile(depth=5, reliability=reliability, durability=durability)
    for reliability, durability in itertools.product((RELIABLE, BEST_EFFORT), (LATCHED, VOLATILE))
]


def name(profile: QoSProfile) -> str:
    return f"{profile.reliability.name}-{profile.durability.name}".lower()


def compatible(offered: QoSProfile, asked: QoSProfile) -> bool:
    reliable = offered.reliability == RELIABLE or asked.reliability == BEST_EFFORT
    return reliable and (offered.durability == LATCHED or asked.durability == VOLATILE)


@pytest.mark.parametrize("offered", PROFILES, ids=name)
def test_exactly_the_compatible_pairs_match(bench: Bench, offered: QoSProfile):
    boolean = message("std_msgs/msg/Bool")
    told: list[object] = []
    events = SubscriptionEventCallbacks(incompatible_qos=told.append)
    lists = [bench.collect(boolean, "pair", asked, event_callbacks=events) for asked in PROFILES]
    expected = [compatible(offered, asked) for asked in PROFILES]
    publisher = bench.node.create_publisher(
        boolean, "pair", offered, event_callbacks=PublisherEventCallbacks(use_default_callbacks=False)
    )
    bench.connected(publisher, sum(expected))
    publisher.publish(boolean(data=True))
    bench.until(lambda: [bool(got) for got in lists] == expected and len(told) == expected.count(False))
    assert publisher.get_subscription_count() == sum(expected)


@pytest.mark.parametrize("offered", PROFILES, ids=name)
@pytest.mark.parametrize("asked", PROFILES, ids=name)
def test_the_check_agrees_with_what_matches(offered: QoSProfile, asked: QoSProfile):
    verdict, reason = qos_check_compatible(offered, asked)
    assert (verdict != QoSCompatibility.ERROR) == compatible(offered, asked)
    assert ("ERROR" in reason) == (not compatible(offered, asked))
    assert bool(reason) == (verdict != QoSCompatibility.OK)


@pytest.mark.parametrize(
    ("offered", "asked", "verdict"),
    [
        (LivelinessPolicy.SYSTEM_DEFAULT, LivelinessPolicy.SYSTEM_DEFAULT, QoSCompatibility.WARNING),
        (LivelinessPolicy.AUTOMATIC, LivelinessPolicy.SYSTEM_DEFAULT, QoSCompatibility.WARNING),
        (LivelinessPolicy.SYSTEM_DEFAULT, LivelinessPolicy.MANUAL_BY_TOPIC, QoSCompatibility.WARNING),
        (LivelinessPolicy.SYSTEM_DEFAULT, LivelinessPolicy.AUTOMATIC, QoSCompatibility.OK),
        (LivelinessPolicy.AUTOMATIC, LivelinessPolicy.AUTOMATIC, QoSCompatibility.OK),
        (LivelinessPolicy.AUTOMATIC, LivelinessPolicy.MANUAL_BY_TOPIC, QoSCompatibility.ERROR),
        (LivelinessPolicy.MANUAL_BY_TOPIC, LivelinessPolicy.MANUAL_BY_TOPIC, QoSCompatibility.OK),
    ],
)
def test_what_is_left_to_the_system_is_uncertain(
    offered: LivelinessPolicy, asked: LivelinessPolicy, verdict: QoSCompatibility
):
    found, reason = qos_check_compatible(QoSProfile(depth=1, liveliness=offered), QoSProfile(depth=1, liveliness=asked))
    assert found == verdict
    assert bool(reason) == (verdict != QoSCompatibility.OK)


@pytest.mark.parametrize("what", ["deadline", "liveliness_lease_duration"])
@pytest.mark.parametrize(("offered_s", "asked_s", "fits"), [(0, 5, False), (10, 5, False), (5, 10, True), (5, 0, True)])
def test_a_publisher_must_promise_at_least_the_time_that_is_asked_for(
    what: str, offered_s: int, asked_s: int, fits: bool
):
    offered, asked = (
        QoSProfile(depth=1, liveliness=LivelinessPolicy.AUTOMATIC, **{what: Duration(seconds=seconds)})
        for seconds in (offered_s, asked_s)
    )
    assert (qos_check_compatible(offered, asked)[0] == QoSCompatibility.OK) == fits


def test_both_ends_of_an_impossible_pair_are_told_which_policy_failed(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    publisher_told: list[object] = []
    subscription_told: list[object] = []
    bench.node.create_publisher(
        boolean,
        "pair",
        qos_profile_sensor_data,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=publisher_told.append),
    )
    events = SubscriptionEventCallbacks(incompatible_qos=subscription_told.append)
    bench.collect(boolean, "pair", QoSProfile(depth=1), event_callbacks=events)
    bench.until(lambda: publisher_told and subscription_told)
    for told in (publisher_told[0], subscription_told[0]):
        assert told.total_count == 1
        assert told.total_count_change == 1
        assert "RELIABILITY" in str(getattr(told.last_policy_kind, "name", told.last_policy_kind)).upper()


def test_an_impossible_pair_is_warned_of_by_default(bench: Bench, capfd: pytest.CaptureFixture[str]):
    boolean = message("std_msgs/msg/Bool")
    bench.node.create_publisher(boolean, "pair", qos_profile_sensor_data)
    bench.collect(boolean, "pair", QoSProfile(depth=1))
    written = ""

    def warned() -> bool:
        nonlocal written
        written += capfd.readouterr().err
        return "offering incompatible QoS" in written and "requesting incompatible QoS" in written

    bench.until(warned)
    assert re.search(r"topic '(/test/)?pair'", written), written  # rclpy names it as the node did
    assert "RELIABILITY" in written


def test_an_integer_is_a_depth_and_reliable(bench: Bench):
    publisher = bench.node.create_publisher(message("std_msgs/msg/Bool"), "depth", 7)
    bench.until(lambda: bench.node.get_publishers_info_by_topic("depth"))
    profile = bench.node.get_publishers_info_by_topic("depth")[0].qos_profile
    assert (profile.reliability, profile.durability) == (RELIABLE, VOLATILE)
    publisher.destroy()


def test_the_graph_tells_the_quality_of_each_end(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    bench.node.create_publisher(boolean, "quality", QoSProfile(depth=1, durability=LATCHED))
    bench.collect(boolean, "quality", qos_profile_sensor_data)
    bench.until(lambda: bench.node.get_subscriptions_info_by_topic("quality"))
    bench.until(lambda: bench.node.get_publishers_info_by_topic("quality")[0].node_name == "bench")
    (publisher,) = bench.node.get_publishers_info_by_topic("quality")
    (subscription,) = bench.node.get_subscriptions_info_by_topic("quality")
    assert (publisher.qos_profile.reliability, publisher.qos_profile.durability) == (RELIABLE, LATCHED)
    assert (subscription.qos_profile.reliability, subscription.qos_profile.durability) == (BEST_EFFORT, VOLATILE)
    assert (publisher.node_name, publisher.node_namespace) == ("bench", "/test")
    assert publisher.topic_type == subscription.topic_type == "std_msgs/msg/Bool"


def test_a_profile_needs_a_depth_or_a_history():
    with pytest.raises(Exception, match=r"(?i)history|depth"):
        QoSProfile(reliability=RELIABLE)
