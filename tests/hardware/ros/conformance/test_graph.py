"""What a node sees of the others."""

from __future__ import annotations

import pytest

from hardware.ros.client import Node, message, srv
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros


def test_a_node_of_another_process_is_visible_and_goes_away(bench: Bench):
    program = bench.start("latch", "--ros-args", "-r", "__ns:=/far", "-r", "__node:=away")
    bench.until(lambda: ("away", "/far") in bench.node.get_node_names_and_namespaces())
    bench.until(lambda: bench.node.count_publishers("/far/latched") == 1)
    bench.until(lambda: bench.node.get_publishers_info_by_topic("/far/latched")[0].node_name == "away")
    program.terminate()
    program.wait()
    bench.until(lambda: "away" not in bench.node.get_node_names())
    assert bench.node.count_publishers("/far/latched") == 0


def test_a_killed_process_loses_its_nodes_in_time_for_others_to_notice(bench: Bench):
    program = bench.start("latch")
    bench.until(lambda: bench.node.count_publishers("/latched") == 1)
    program.kill()
    program.wait()
    bench.until(lambda: bench.node.count_publishers("/latched") == 0)
    assert "latch" not in bench.node.get_node_names()


def test_topics_and_services_are_listed_with_their_types(bench: Bench):
    bench.node.create_publisher(message("sensor_msgs/msg/JointState"), "joint_states", 1)
    bench.node.create_service(srv("std_srvs/srv/Trigger"), "home", lambda _, response: response)
    bench.until(
        lambda: ("/test/joint_states", ["sensor_msgs/msg/JointState"]) in bench.node.get_topic_names_and_types()
    )
    assert ("/test/home", ["std_srvs/srv/Trigger"]) in bench.node.get_service_names_and_types()
    assert not [name for name, _ in bench.node.get_topic_names_and_types() if "home" in name]


def test_publishers_and_subscriptions_are_counted(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    publishers = [bench.node.create_publisher(boolean, "flag", 1) for _ in range(2)]
    bench.collect(boolean, "flag", 1)
    bench.until(lambda: bench.node.count_publishers("flag") == 2)
    assert bench.node.count_subscribers("flag") == 1
    assert bench.node.count_publishers("/elsewhere") == 0
    bench.node.destroy_publisher(publishers[0])
    bench.until(lambda: bench.node.count_publishers("flag") == 1)


def test_two_nodes_of_one_process_are_told_apart(bench: Bench):
    other = Node("other", namespace="/test")
    try:
        other.create_publisher(message("std_msgs/msg/Bool"), "flag", 1)
        bench.until(lambda: bench.node.get_publishers_info_by_topic("flag"))
        assert bench.node.get_publishers_info_by_topic("flag")[0].node_name == "other"
        assert {"bench", "other"} <= set(bench.node.get_node_names())
    finally:
        other.destroy_node()


def test_a_type_of_the_same_topic_that_differs_is_listed(bench: Bench):
    # Of two processes: Fast DDS has one type for a topic in each participant.
    bench.node.create_publisher(message("std_msgs/msg/Bool"), "odd", 1)
    bench.start("latch", "--ros-args", "-r", "latched:=/test/odd")
    bench.until(lambda: len(bench.node.get_publishers_info_by_topic("odd")) == 2)
    assert ("/test/odd", ["std_msgs/msg/Bool", "std_msgs/msg/String"]) in bench.node.get_topic_names_and_types()
