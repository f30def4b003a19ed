"""Leaves node, publisher, executor and context as they are."""

from __future__ import annotations

from hardware.ros.client import MultiThreadedExecutor, Node, message, rclpy

rclpy.init()
NODE = Node("careless")
PUBLISHER = NODE.create_publisher(message("std_msgs/msg/Bool"), "flag", 10)
SUBSCRIPTION = NODE.create_subscription(message("std_msgs/msg/Bool"), "flag", lambda _: None, 10)
EXECUTOR = MultiThreadedExecutor()
EXECUTOR.add_node(NODE)
PUBLISHER.publish(message("std_msgs/msg/Bool")())
EXECUTOR.spin_once(timeout_sec=1.0)
