"""Publishes an image each time the next one is asked for.

Arguments: RELIABLE or BEST_EFFORT, width, height, number of images.
"""

from __future__ import annotations

import array
import sys
from typing import Any

from hardware.ros.client import ExternalShutdownException, Node, QoSProfile, ReliabilityPolicy, message, rclpy


def main(reliability: str, width: int, height: int, images: int) -> None:
    rclpy.init(args=[])
    node = Node("camera")
    image = message("sensor_msgs/msg/Image")
    profile = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability])
    publisher = node.create_publisher(image, "image", profile)

    def send(wanted: Any) -> None:
        if wanted.data >= images:
            return
        msg = image(height=height, width=width, encoding="rgb8", step=3 * width)
        msg.data = array.array("B", bytes([wanted.data % 251])) * (3 * width * height)
        msg.header.stamp.sec = wanted.data
        publisher.publish(msg)

    node.create_subscription(message("std_msgs/msg/Int32"), "wanted", send, 10)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


main(sys.argv[1], *map(int, sys.argv[2:5]))
