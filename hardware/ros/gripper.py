"""A gripper that is commanded apart from the arm's joints: over a topic, or as a GripperCommand action.

Three ways, by what the gripper's driver offers:

- It is one of the joints of the arm's own controller (SO-101): nothing here, it is one more action of that adapter.
- Its controller listens on a topic: `float64`, `float64_array` (ros2_control's forward_command_controller) or
  `joint_trajectory` (joint_trajectory_controller).
- It is an action server only (Franka's and xArm's grippers, ros2_control's GripperActionController): `action`. Actions
  need rclpy, so the node that talks to the gripper must run where ROS 2 is installed. That is where arm_node runs
  anyway; without ROS there, load a forward_command_controller for the gripper's joint instead and use `float64_array`.
"""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from hardware.ros.command_adapters import Messages, Outlet, trajectory_of_one_point
from hardware.ros.robot_config import RobotConfig
from hardware.ros.yaml_section import RobotYamlError, Topic
from robot_rl.core import section
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import NotNegative, one_of

_TOPIC_TYPES = {
    "float64": "std_msgs/msg/Float64",
    "float64_array": "std_msgs/msg/Float64MultiArray",
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
}
Kind = Annotated[str, one_of((*_TOPIC_TYPES, "action"), f"{', '.join(_TOPIC_TYPES)} or action")]
_NEEDS = {"joint_trajectory": ("horizon_s", "joint"), "action": ("max_effort",)}
"""By kind, besides what every gripper needs."""
SAME_POSITION = 1e-4
"""Share of the gripper's travel by which a request must differ before an action goal is sent anew."""


@dataclass(frozen=True)
class GripperConfig:
    """A yaml's `robot.gripper`.

    Attributes:
        kind: `float64`, `float64_array`, `joint_trajectory` or `action`.
        action: Name of its action dimension.
        topic: Full name of the commands' topic, or of the action server.
        open: Position at the action's low end [m or rad, as its driver has it].
        closed: Position at the action's high end.
        low: Lowest value of its action dimension.
        high: Highest.
        joint: Of kind `joint_trajectory`.
        horizon_s: Of kind `joint_trajectory`: when the point is to be reached [s].
        max_effort: Of kind `action` [N or Nm].
    """

    kind: Kind
    action: str
    topic: Topic
    open: NotNegative
    closed: NotNegative
    low: float
    high: float
    joint: str = ""
    horizon_s: NotNegative = 0.0
    max_effort: NotNegative = 0.0

    @classmethod
    def parse(cls, config: RobotConfig) -> GripperConfig | None:
        """The gripper of a robot; None if it has none apart from its joints.

        Raises:
            RobotYamlError: Names the key.
        """
        keys, where = config.gripper, "robot.gripper"
        if not keys:
            return None
        kind = section.value_of(Kind, keys.get("kind"), f"{where}.kind", RobotYamlError)
        needs = sorted(("action", "topic", "open", "closed", *_NEEDS.get(kind, ())))
        section.require(keys, needs, where, RobotYamlError, f"; kind '{kind}' needs it")
        gripper = section.read(cls, keys, where, RobotYamlError, low=0.0, high=1.0)
        spec = config.spec.action
        if gripper.action not in spec.names:
            raise RobotYamlError(f"{where}.action is '{gripper.action}'; robot.action has {', '.join(spec.names)}")
        low, high = (float(bound[spec.names.index(gripper.action)]) for bound in spec.bounds())
        if not np.isfinite(high - low) or low == high:
            raise RobotYamlError(f"robot.action.low and high of '{gripper.action}' are needed: {where} maps them")
        return dataclasses.replace(gripper, topic=config.topic(gripper.topic), low=low, high=high)

    @property
    def outlet(self) -> Outlet | None:
        """Where its messages go; None for an action."""
        return None if self.kind == "action" else Outlet(self.topic, _TOPIC_TYPES[self.kind])

    def position(self, value: float) -> float:
        """The driver's position of an action's value."""
        return self.open + (value - self.low) / (self.high - self.low) * (self.closed - self.open)

    def message(self, value: float, messages: Messages) -> Any:
        """The message for an action's value, of a gripper that listens on a topic."""
        position = self.position(value)
        if self.kind == "float64":
            return messages(_TOPIC_TYPES[self.kind])(data=position)
        if self.kind == "float64_array":
            return messages(_TOPIC_TYPES[self.kind])(data=[position])
        return trajectory_of_one_point(
            messages, _TOPIC_TYPES[self.kind], (self.joint,), np.array([position]), self.horizon_s
        )


class ActionGripper:
    """A gripper behind a GripperCommand action server; a goal is sent only when it changes.

    Args:
        config: Of kind `action`.
        client: An rclpy `ActionClient` of `control_msgs/action/GripperCommand`.
        goal_class: That action's `Goal`.
    """

    def __init__(self, config: GripperConfig, client: Any, goal_class: Any) -> None:
        self._config = config
        self._client = client
        self._goal_class = goal_class
        self._sent: float | None = None

    @classmethod
    def on(cls, node: Any, config: GripperConfig, backend: str | None) -> ActionGripper:
        """The gripper of a node on real rclpy.

        Raises:
            RobotRLError: This is not real rclpy, or control_msgs is not installed; says what to do.
        """
        remedy = (
            "run arm_node where ROS 2 is installed (apt install ros-$ROS_DISTRO-control-msgs), or load a "
            "forward_command_controller for the gripper's joint and use robot.gripper.kind=float64_array"
        )
        if backend != "rclpy":
            raise RobotRLError(f"gripper {config.topic} is an action server, and actions need rclpy: {remedy}")
        try:
            # By name: neither exists where the pip client runs, and checkers would look for them.
            action_client = importlib.import_module("rclpy.action").ActionClient
            gripper_command = importlib.import_module("control_msgs.action").GripperCommand
        except ImportError as error:
            raise RobotRLError(f"gripper {config.topic} is an action server: {error}; {remedy}") from error
        return cls(config, action_client(node, gripper_command, config.topic), gripper_command.Goal)

    def require_server(self, timeout_s: float) -> None:
        """Waits for the server.

        Raises:
            RobotRLError: It is not there.
        """
        if not self._client.wait_for_server(timeout_sec=timeout_s):
            raise RobotRLError(
                f"no action server {self._config.topic} within {timeout_s:g} s: start the gripper's driver"
            )

    def send(self, value: float) -> None:
        """Asks for an action's value; returns at once."""
        position = self._config.position(value)
        travel = abs(self._config.closed - self._config.open)
        if self._sent is not None and abs(position - self._sent) <= SAME_POSITION * travel:
            return
        goal = self._goal_class()
        goal.command.position, goal.command.max_effort = position, self._config.max_effort
        self._client.send_goal_async(goal)
        self._sent = position
