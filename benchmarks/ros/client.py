"""What our ROS client costs: JointState round trips and images between two processes.

    python -m benchmarks.ros.client [--rate-hz 500] [--seconds 10] [--images 300]

A round trip is JointState there and back through a second process, sent on a fixed grid. Images are 640x480 rgb8 at
30 Hz; their cost is CPU time of a whole process divided by its messages, as `process_time` has it.
"""

from __future__ import annotations

import argparse
import array
import subprocess
import sys
import time
from typing import Any

import numpy as np

from hardware.ros.client import (
    BACKEND,
    ExternalShutdownException,
    Node,
    QoSProfile,
    message,
    qos_profile_sensor_data,
    rclpy,
)

NS_PER_S = 1_000_000_000
JOINTS = 7
WIDTH, HEIGHT, IMAGE_HZ = 640, 480, 30.0
RELIABLE = QoSProfile(depth=10)


def echo() -> None:
    """Second process: sends joint states back, takes images and tells its CPU time per image."""
    rclpy.init(args=[])
    node = Node("echo")
    back = node.create_publisher(message("sensor_msgs/msg/JointState"), "back", RELIABLE)
    cost = node.create_publisher(message("std_msgs/msg/Float64MultiArray"), "cost", 10)
    node.create_subscription(message("sensor_msgs/msg/JointState"), "there", back.publish, RELIABLE)
    count, start_s, total = 0, 0.0, 0

    def take(image: Any) -> None:
        nonlocal count, start_s, total
        if count == 0:
            start_s = time.process_time()
        count += 1
        total += int(np.frombuffer(image.data, np.uint8)[0])
        spent_s = time.process_time() - start_s
        cost.publish(message("std_msgs/msg/Float64MultiArray")(data=[float(count), spent_s / max(1, count - 1)]))

    node.create_subscription(message("sensor_msgs/msg/Image"), "image", take, qos_profile_sensor_data)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def spin_until_ns(node: Node, deadline_ns: int) -> None:
    """Serve the node up to a time."""
    while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
        node.executor.spin_once(timeout_sec=left_ns / NS_PER_S)


def round_trips(node: Node, rate_hz: float, seconds: float) -> None:
    """Send on a grid and time what comes back."""
    joint_state = message("sensor_msgs/msg/JointState")
    took_us: list[float] = []

    def returned(msg: Any) -> None:
        sent_ns = msg.header.stamp.sec * NS_PER_S + msg.header.stamp.nanosec
        took_us.append((time.monotonic_ns() - sent_ns) / 1000)

    node.create_subscription(joint_state, "back", returned, RELIABLE)
    there = node.create_publisher(joint_state, "there", RELIABLE)
    while not (there.get_subscription_count() and node.count_publishers("back")):
        node.executor.spin_once(timeout_sec=0.05)
    msg = joint_state(name=[f"joint_{i}" for i in range(JOINTS)], position=[0.1] * JOINTS, velocity=[0.0] * JOINTS)
    period_ns = int(NS_PER_S / rate_hz)
    count = int(rate_hz * seconds)
    next_ns = time.monotonic_ns() + NS_PER_S // 2
    cpu_s = time.process_time()
    for _ in range(count):
        spin_until_ns(node, next_ns)
        now_ns = time.monotonic_ns()
        msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(now_ns, NS_PER_S)
        there.publish(msg)
        next_ns += period_ns
    spin_until_ns(node, time.monotonic_ns() + NS_PER_S)
    cpu_s = time.process_time() - cpu_s
    p50, p99 = np.percentile(took_us, [50, 99])
    print(
        f"JointState round trip at {rate_hz:g} Hz: p50 {p50:.0f} us, p99 {p99:.0f} us, max {max(took_us):.0f} us, "
        f"{count - len(took_us)} of {count} lost, {cpu_s / count * 1e6:.0f} us CPU per round trip here"
    )


def images(node: Node, count: int) -> None:
    """Send images and hear what they cost there."""
    image = message("sensor_msgs/msg/Image")
    costs: list[Any] = []
    node.create_subscription(message("std_msgs/msg/Float64MultiArray"), "cost", costs.append, 10)
    publisher = node.create_publisher(image, "image", qos_profile_sensor_data)
    while not (publisher.get_subscription_count() and node.count_publishers("cost")):
        node.executor.spin_once(timeout_sec=0.05)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    next_ns = time.monotonic_ns()
    spent_s = 0.0
    for _ in range(count):
        spin_until_ns(node, next_ns)
        before_s = time.process_time()
        msg = image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        msg.data = array.array("B", pixels.tobytes())
        publisher.publish(msg)
        spent_s += time.process_time() - before_s
        next_ns += int(NS_PER_S / IMAGE_HZ)
    spin_until_ns(node, time.monotonic_ns() + NS_PER_S)
    arrived, per_image_s = costs[-1].data
    print(
        f"Image {WIDTH}x{HEIGHT} at {IMAGE_HZ:g} Hz: {count - int(arrived)} of {count} lost, "
        f"CPU {spent_s / count * 1e3:.2f} ms to send, {per_image_s * 1e3:.2f} ms to receive"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate-hz", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--echo", action="store_true", help="the second process; started by the first")
    arguments = parser.parse_args()
    if arguments.echo:
        echo()
        return
    print(f"backend {BACKEND}")
    other = subprocess.Popen([sys.executable, __file__, "--echo"])
    rclpy.init(args=[])
    node = Node("benchmark")
    rclpy.get_global_executor().add_node(node)
    try:
        round_trips(node, arguments.rate_hz, arguments.seconds)
        images(node, arguments.images)
    finally:
        other.terminate()
        other.wait()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
