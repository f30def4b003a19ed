"""Topics: delivery, order, depth, latching, names, and what publishing refuses."""

from __future__ import annotations

import pytest

from hardware.ros.client import (
    DurabilityPolicy,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    message,
    qos_profile_sensor_data,
    qos_profile_system_default,
    rclpy,
)
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_reliable_messages_arrive_once_and_in_order(bench: Bench):
    integer = message("std_msgs/msg/Int32")
    got = bench.collect(integer, "count", 200)
    publisher = bench.node.create_publisher(integer, "count", 200)
    bench.connected(publisher)
    for number in range(200):
        publisher.publish(integer(data=number))
    bench.until(lambda: len(got) >= 200)
    assert [msg.data for msg in got] == list(range(200))


def test_a_depth_of_one_keeps_the_newest(bench: Bench):
    integer = message("std_msgs/msg/Int32")
    got = bench.collect(integer, "newest", 1)
    publisher = bench.node.create_publisher(integer, "newest", 10)
    bench.connected(publisher)
    for number in range(5):
        publisher.publish(integer(data=number))
    bench.until(lambda: got and got[-1].data == 4)
    assert len(got) <= 2


def test_a_latched_message_reaches_a_late_subscription(bench: Bench):
    text = message("std_msgs/msg/String")
    publisher = bench.node.create_publisher(text, "mode", LATCHED)
    for mode in ("inactive", "active"):
        publisher.publish(text(data=mode))
    got = bench.collect(text, "mode", LATCHED)
    bench.until(lambda: got)
    assert [msg.data for msg in got] == ["active"]


def test_a_latched_message_of_another_process_reaches_a_late_subscription(bench: Bench):
    program = bench.start("latch")
    assert program.stdout is not None
    assert program.stdout.readline().strip() == "published"
    got = bench.collect(message("std_msgs/msg/String"), "/latched", LATCHED)
    bench.until(lambda: got)
    assert [msg.data for msg in got] == ["last"]


def test_a_volatile_subscription_gets_nothing_from_before(bench: Bench):
    text = message("std_msgs/msg/String")
    publisher = bench.node.create_publisher(text, "news", LATCHED)
    publisher.publish(text(data="old"))
    got = bench.collect(text, "news", 10)
    bench.connected(publisher)
    publisher.publish(text(data="new"))
    bench.until(lambda: got)
    assert [msg.data for msg in got] == ["new"]


@pytest.mark.parametrize("qos", [qos_profile_sensor_data, qos_profile_system_default], ids=["sensor", "system"])
def test_the_preset_profiles_match_themselves(bench: Bench, qos: QoSProfile):
    boolean = message("std_msgs/msg/Bool")
    got = bench.collect(boolean, "preset", qos)
    publisher = bench.node.create_publisher(boolean, "preset", qos)
    bench.connected(publisher)
    publisher.publish(boolean(data=True))
    bench.until(lambda: got)


def test_one_message_reaches_every_subscription(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    lists = [bench.collect(boolean, "all", 10) for _ in range(3)]
    publisher = bench.node.create_publisher(boolean, "all", QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    bench.connected(publisher, 3)
    publisher.publish(boolean(data=True))
    bench.until(lambda: all(lists))


def test_names_expand_as_in_ros(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    node = Node("arm", namespace="left")
    try:
        names = [node.create_publisher(boolean, name, 1).topic_name for name in ("joints", "/joints", "~/joints")]
        assert names == ["/left/joints", "/joints", "/left/arm/joints"]
        assert node.get_fully_qualified_name() == "/left/arm"
    finally:
        node.destroy_node()


@pytest.mark.parametrize("name", ["two words", "1st", "a//b", "end/", ""])
def test_an_impossible_topic_name_is_refused(bench: Bench, name: str):
    with pytest.raises(Exception, match=r"(?i)name|topic"):
        bench.node.create_publisher(message("std_msgs/msg/Bool"), name, 1)


def test_publishing_another_type_is_refused(bench: Bench):
    publisher = bench.node.create_publisher(message("std_msgs/msg/Bool"), "flag", 1)
    with pytest.raises(TypeError):
        publisher.publish(message("std_msgs/msg/String")())


def test_publishing_after_shutdown_is_refused(bench: Bench):
    publisher = bench.node.create_publisher(message("std_msgs/msg/Bool"), "flag", 1)
    rclpy.shutdown()
    with pytest.raises(Exception, match=r"(?i)context|invalid|valid|destruction was requested"):
        publisher.publish(message("std_msgs/msg/Bool")())


def test_raw_subscriptions_get_the_encoded_bytes_and_can_send_them_on(bench: Bench):
    text = message("std_msgs/msg/String")
    raw = bench.collect(text, "raw", 10, raw=True)
    decoded = bench.collect(text, "again", 10)
    publisher = bench.node.create_publisher(text, "raw", 10)
    relay = bench.node.create_publisher(text, "again", 10)
    bench.connected(publisher)
    bench.connected(relay)
    publisher.publish(text(data="bytes"))
    bench.until(lambda: raw)
    relay.publish(bytes(raw[0]))
    bench.until(lambda: decoded)
    assert decoded[0].data == "bytes"


def test_a_destroyed_subscription_gets_nothing_more(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    got: list[object] = []
    subscription = bench.node.create_subscription(boolean, "flag", got.append, 10)
    publisher = bench.node.create_publisher(boolean, "flag", 10)
    bench.connected(publisher)
    bench.node.destroy_subscription(subscription)
    bench.until(lambda: publisher.get_subscription_count() == 0)
    publisher.publish(boolean())
    bench.executor.spin_once(timeout_sec=0.1)
    assert not got
