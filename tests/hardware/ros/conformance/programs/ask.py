"""Sends 20 numbers on `/question`, each after the answer to the one before; says how many were answered."""

from __future__ import annotations

import sys
import time

from hardware.ros.client import Node, message, rclpy

GIVE_UP_S = 20.0


def main() -> None:
    rclpy.init()
    node = Node("ask")
    number = message("std_msgs/msg/Int32")
    answers: list[int] = []
    publisher = node.create_publisher(number, "question", 10)
    subscription = node.create_subscription(number, "answer", lambda msg: answers.append(msg.data), 10)
    end_s = time.monotonic() + GIVE_UP_S

    def until(condition: object) -> None:
        while not condition() and time.monotonic() < end_s:
            rclpy.spin_once(node, timeout_sec=0.05)

    until(lambda: publisher.get_subscription_count() and node.count_publishers(subscription.topic_name))
    until(lambda: "echo" in node.get_node_names())
    for question in range(20):
        publisher.publish(number(data=question))
        until(lambda asked=question: asked in answers)
    sys.stdout.write(f"answered {len(set(answers))}\n")
    node.destroy_node()
    rclpy.shutdown()


main()
