"""What the ROS 2 launch files share: the nodes that `robot-rl up` starts, with the same parameters.

Needs `launch` and `launch_ros`, which come with ROS 2 and with nothing else; imported only by `launch/*.launch.py`.
"""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardware.ros.network import join
from robot_rl.commands.up.node_plan import ARM_NODE, CAMERA_NODE, NodePlan, plan_nodes, read_document
from robot_rl.core.errors import RobotRLError

RESPAWN_DELAY_S = 2.0
STOP_S = "5"
"""From SIGINT to SIGTERM, and again to SIGKILL; launch wants text."""
ARGUMENTS = {
    "robot": "yaml of configs/robot/ros, for example my_arm; your own from ./configs or ROBOT_RL_CONFIGS",
    "config": "instead of `robot`: the resolved JSON that `robot-rl up robot=... check=true` wrote",
    "overrides": "settings of the robot as on robot-rl's command line, for example 'arm.stream_hz=250'",
}


def robot_launch(robot: str = "", executables: Sequence[str] = (ARM_NODE, CAMERA_NODE)) -> Any:
    """The launch description of a robot's nodes.

    Args:
        robot: Default of the argument `robot`.
        executables: Which of a robot's nodes to start.
    """
    launch, actions = importlib.import_module("launch"), importlib.import_module("launch.actions")
    defaults = {"robot": robot, "config": "", "overrides": ""}
    arguments = [
        actions.DeclareLaunchArgument(name, default_value=defaults[name], description=text)
        for name, text in ARGUMENTS.items()
    ]
    return launch.LaunchDescription([*arguments, actions.OpaqueFunction(function=_nodes, args=[tuple(executables)])])


def _nodes(context: Any, executables: tuple[str, ...]) -> list[Any]:
    """The nodes once the arguments are known."""
    configuration = importlib.import_module("launch.substitutions").LaunchConfiguration
    robot, config, overrides = (configuration(name).perform(context) for name in ARGUMENTS)
    path = Path(config).absolute() if config else _resolved(robot, overrides)
    document = read_document(path)
    join(document["robot"].get("interface"))
    plan = [each for each in plan_nodes(document, path) if each.executable in executables]
    if not plan:
        raise RobotRLError(f"{path} has none of {' and '.join(executables)} to start")
    return [_action(each) for each in plan]


def _resolved(robot: str, overrides: str) -> Path:
    """Checks a robot's yaml and writes it resolved; returns the file."""
    if not robot:
        raise RobotRLError("wanted which robot: robot:=my_arm, or config:=/path/to/robot.json")
    from robot_rl.commands.up.main import UpSettings, resolve
    from robot_rl.config.settings import load

    name = robot if "/" in robot else f"ros/{robot}"
    directory = Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser() / "robot_rl"
    settings = load(UpSettings, "up", [f"robot={name}", f"directory={directory}", *shlex.split(overrides)])
    return resolve(settings).absolute()


def _action(node: NodePlan) -> Any:
    """A camera comes back by itself; the end of what can move an arm ends the launch, for a person to look at."""
    actions, ros_actions = importlib.import_module("launch.actions"), importlib.import_module("launch_ros.actions")
    settings: dict[str, Any] = {
        "package": "robot_rl",
        "executable": node.executable,
        "name": node.node_name,
        "parameters": [node.parameters],
        "output": "screen",
        "emulate_tty": True,
        "sigterm_timeout": STOP_S,
        "sigkill_timeout": STOP_S,
    }
    if node.can_move:
        reason = f"{node.executable} ended. It can move an arm and is not restarted: look at the arm first"
        return ros_actions.Node(**settings, on_exit=[actions.Shutdown(reason=reason)])
    return ros_actions.Node(**settings, respawn=True, respawn_delay=RESPAWN_DELAY_S)
