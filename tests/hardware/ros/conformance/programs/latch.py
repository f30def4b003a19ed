"""Publishes two messages on a latched topic and stays until it is stopped."""

from __future__ import annotations

import sys

from hardware.ros.client import DurabilityPolicy, ExternalShutdownException, Node, QoSProfile, message, rclpy


def main() -> None:
    rclpy.init()
    node = Node("latch")
    try:
        profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = node.create_publisher(message("std_msgs/msg/String"), "latched", profile)
        for text in ("first", "last"):
            publisher.publish(message("std_msgs/msg/String")(data=text))
        sys.stdout.write("published\n")
        sys.stdout.flush()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


main()
