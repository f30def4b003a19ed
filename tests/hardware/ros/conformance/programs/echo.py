"""Sends every number on `/question` back on `/answer` until it is stopped."""

from __future__ import annotations

from hardware.ros.client import ExternalShutdownException, Node, message, rclpy


def main() -> None:
    rclpy.init()
    node = Node("echo")
    try:
        number = message("std_msgs/msg/Int32")
        publisher = node.create_publisher(number, "answer", 10)
        node.create_subscription(number, "question", publisher.publish, 10)
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


main()
