"""A stranger on the cable, who names the robot's computer as a peer and stops its arm until ended."""

from __future__ import annotations

import os
import time

PEER = os.environ["PEER"]
PORTS = "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>"
os.environ["CYCLONEDDS_URI"] = (
    f'<CycloneDDS><Domain><Discovery>{PORTS}<Peers><Peer address="{PEER}"/></Peers></Discovery></Domain></CycloneDDS>'
)


def main() -> None:
    """Stops it, ten times a second."""
    from hardware.ros.client import Node, message, rclpy

    rclpy.init(args=[])
    node = Node("stranger")
    stop = node.create_publisher(message("std_msgs/msg/Bool"), "/stop", 10)
    while True:
        stop.publish(message("std_msgs/msg/Bool")(data=True))
        time.sleep(0.1)


if __name__ == "__main__":
    main()
