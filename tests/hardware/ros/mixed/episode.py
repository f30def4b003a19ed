"""A session at an arm node: an episode, a stop from another hand, a clear, and a second episode.

    python episode.py robot.json

Says what happened as one line of JSON. Runs with our client and with rclpy.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hardware.node_config import build
from hardware.ros import arm_topics
from hardware.ros.background_node import BackgroundNode
from hardware.ros.client import message
from robot_rl.core.errors import RobotRLError

TICKS = 30
STEP_RAD = 0.02
GIVE_UP_S = 20.0


def drive(robot: Any, ticks: int) -> float:
    """Turns the first joint for some ticks at the robot's rate; how far it went [rad]."""
    start = robot.observe(time.monotonic_ns()).values["joint_position"]
    row = np.array(start)
    began_s = time.monotonic()
    for tick in range(ticks):
        robot.observe(time.monotonic_ns())
        row[0] += STEP_RAD
        robot.apply(row)
        time.sleep(max(0.0, began_s + (tick + 1) / robot.spec.control_hz - time.monotonic()))
    return float(robot.observe(time.monotonic_ns()).values["joint_position"][0] - start[0])


def until_refused(robot: Any) -> str:
    """Goes on holding until the arm node refuses; its words."""
    until_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < until_s:
        try:
            drive(robot, 1)
        except RobotRLError as refused:
            return str(refused)
    return ""


def until_allowed(robot: Any, seed: int) -> None:
    """Begins an episode as soon as the arm node lets it."""
    until_s = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return robot.reset(seed)
        except RobotRLError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def main() -> None:
    """Runs it."""
    settings = json.loads(Path(sys.argv[1]).read_text())["robot"]
    namespace = settings["namespace"]
    with BackgroundNode("hand") as hand, build(settings) as robot:
        stop = hand.node.create_publisher(arm_topics.STOP.message(), f"{namespace}/stop", arm_topics.STOP.qos())
        clear = hand.node.create_publisher(arm_topics.CLEAR.message(), f"{namespace}/clear", arm_topics.CLEAR.qos())
        robot.reset(0)
        said: dict[str, Any] = {"moved_rad": drive(robot, TICKS)}
        stop.publish(message("std_msgs/msg/Bool")(data=True))
        said["refused"] = until_refused(robot)
        stop.publish(message("std_msgs/msg/Bool")(data=False))
        clear.publish(message("std_msgs/msg/String")(data="a person"))
        until_allowed(robot, 1)
        said["moved_again_rad"] = drive(robot, TICKS)
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
