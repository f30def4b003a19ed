"""Which nodes a robot's yaml asks for. `robot-rl up` and the launch files start the same ones with the same parameters.

No Hydra here: on a robot's computer a launch file may be given the resolved JSON instead of the yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robot_rl.core.errors import RobotRLError

ARM_NODE = "arm_node"
CAMERA_NODE = "camera_node"


class NodePlan(NamedTuple):
    """One node of a robot.

    Attributes:
        name: For people: `arm` or `camera wrist`.
        executable: `arm_node` or `camera_node`, a module of `hardware.ros` and an executable of the ROS package.
        node_name: Its name in the ROS graph.
        parameters: ROS parameters.
        can_move: Whether it can move an arm.
    """

    name: str
    executable: str
    node_name: str
    parameters: dict[str, str]
    can_move: bool

    @property
    def ros_arguments(self) -> tuple[str, ...]:
        """The command line after the executable."""
        parameters = (part for key, value in self.parameters.items() for part in ("-p", f"{key}:={value}"))
        return ("--ros-args", "-r", f"__node:={self.node_name}", *parameters)


def plan_nodes(document: Mapping[str, Any], config: Path) -> list[NodePlan]:
    """The nodes of a resolved robot, the arm first.

    Args:
        document: What `config` holds.
        config: The JSON file that every node is given.

    Raises:
        RobotRLError: There is neither an arm nor a camera to run.
    """
    path = str(config.absolute())
    arm = [NodePlan("arm", ARM_NODE, ARM_NODE, {"config": path}, True)] if document.get("arm") else []
    cameras = [
        NodePlan(f"camera {name}", CAMERA_NODE, f"{CAMERA_NODE}_{name}", {"config": path, "camera": name}, False)
        for name in document.get("cameras") or {}
    ]
    if not arm and not cameras:
        raise RobotRLError(
            "this robot's yaml has neither `arm` nor `cameras`, so there is no node to start: either its driver runs "
            "already and collect talks to it directly, or it needs none, as a simulation in process"
        )
    return arm + cameras


def read_document(path: Path) -> dict[str, Any]:
    """A resolved robot as `robot-rl up` wrote it.

    Raises:
        RobotRLError: It is not there, or is something else.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RobotRLError(f"cannot read {path}: {error}; robot-rl up robot=ros/... check=true writes it") from error
    if not isinstance(document, dict) or "robot" not in document:
        raise RobotRLError(f"{path} is no resolved robot; robot-rl up robot=ros/... check=true writes one")
    return document
