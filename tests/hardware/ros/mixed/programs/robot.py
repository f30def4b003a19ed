"""A robot's node: counts the stops that it hears, and what left the computer meanwhile.

    python robot.py interface seconds

An empty interface names none. Says one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hardware.ros.network import join

COUNTERS = Path("/proc/net/dev")


def sent_packets() -> int:
    """Packets that left by anything but loopback."""
    lines = [line.split(":") for line in COUNTERS.read_text().splitlines()[2:]]
    return sum(int(counts.split()[9]) for name, counts in lines if name.strip() != "lo")


def main() -> None:
    """Runs it."""
    interface, seconds = sys.argv[1], float(sys.argv[2])
    before = sent_packets()
    join(interface or None)
    from hardware.ros.client import Node, message, rclpy

    rclpy.init(args=[])
    node = Node("robot")
    stops: list[bool] = []
    node.create_subscription(message("std_msgs/msg/Bool"), "/stop", lambda got: stops.append(got.data), 10)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        rclpy.spin_once(node, timeout_sec=0.1)
    left = sent_packets() - before
    node.destroy_node()
    rclpy.shutdown()
    sys.stdout.write(json.dumps({"stops": len(stops), "left": left}) + "\n")


if __name__ == "__main__":
    main()
