"""The section `robot.command` of a yaml: which adapter it asks for, checked against the robot's action and streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.ros.command_adapters import (
    CartesianPose,
    CommandAdapter,
    JointForward,
    JointTrajectory,
    Messages,
    Outlet,
    Row,
    ServoTwist,
)
from hardware.ros.decode import quoted
from hardware.ros.robot_config import RobotConfig
from hardware.ros.yaml_section import RobotYamlError, Topic, refuse_twice
from robot_rl.core import section
from robot_rl.core.section import Positive
from robot_rl.core.specs import ActionKind, FloatArray

_SETTINGS: Mapping[str, set[str]] = {
    "joint_forward": {"topic", "joints"},
    "joint_trajectory": {"topic", "joints", "horizon_s"},
    "cartesian_pose": {"topic", "pose_stream", "frame_id", "leash_m", "leash_rad"},
    "servo_twist": {"topic", "frame_id"},
}
_TYPES = {
    "joint_forward": "std_msgs/msg/Float64MultiArray",
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "cartesian_pose": "geometry_msgs/msg/PoseStamped",
    "servo_twist": "geometry_msgs/msg/TwistStamped",
}


@dataclass(frozen=True)
class CommandSettings:
    """A yaml's `robot.command`; which of them an adapter takes, `_SETTINGS` says.

    Attributes:
        topic: Where the driver or controller listens.
        joints: In the order of the controller; None is the order of the action.
        horizon_s: When a trajectory's point is to be reached [s].
        pose_stream: Stream that shows the tool's pose, `kind: pose`.
        frame_id: Base frame.
        leash_m: How far the target pose may be ahead of the tool [m].
        leash_rad: How far it may be turned ahead of it [rad].
    """

    topic: Topic
    joints: tuple[str, ...] | None = None
    horizon_s: Positive = 0.0
    pose_stream: str = ""
    frame_id: str = ""
    leash_m: Positive = 0.0
    leash_rad: Positive = 0.0


def make_adapter(config: RobotConfig, messages: Messages) -> CommandAdapter:
    """The adapter that a robot's `command` asks for.

    Raises:
        RobotYamlError: Names the setting, or the joint that the arm does not have.
    """
    kind, where = config.adapter, "robot.command"
    written = {key: value for key, value in config.command.items() if key != "adapter"}
    of = f" with adapter '{kind}'"
    section.refuse_unknown(written, sorted(_SETTINGS[kind]), where + of, RobotYamlError)
    needed = sorted(_SETTINGS[kind] - {"joints", "frame_id"})
    section.require(written, needed, where, RobotYamlError, f"; adapter '{kind}' needs it")
    settings = section.read(CommandSettings, written, where, RobotYamlError)
    outlet = Outlet(config.topic(settings.topic), _TYPES[kind])
    if kind == "joint_forward":
        return JointForward(outlet, _joints(config, settings), messages)
    if kind == "joint_trajectory":
        return JointTrajectory(outlet, _joints(config, settings), messages, settings.horizon_s)
    names = _displacements(config)
    if kind == "servo_twist":
        return ServoTwist(outlet, names, messages, settings.frame_id, config.spec.control_hz)
    poses = [each.name for each in config.streams.values() if each.kind == "pose"]
    if settings.pose_stream not in poses:
        raise RobotYamlError(
            f"{where}.pose_stream is '{settings.pose_stream}', wanted a stream of kind 'pose'; there is {quoted(poses)}"
        )
    leash = settings.leash_m, settings.leash_rad
    return CartesianPose(outlet, names, messages, settings.pose_stream, settings.frame_id, *leash)


def arm_names(config: RobotConfig) -> tuple[str, ...]:
    """Action dimensions of the arm itself, without a gripper that is commanded apart from it."""
    return tuple(name for name in config.spec.action.names if name != config.gripper.get("action"))


def picked(names: tuple[str, ...], wanted: tuple[str, ...], values: FloatArray) -> Row:
    """Values of some action dimensions, in the order wanted."""
    return np.array([values[names.index(name)] for name in wanted], dtype=np.float64)


def _joints(config: RobotConfig, settings: CommandSettings) -> tuple[str, ...]:
    """The controller's joints: each an action that is a position, each shown by a stream."""
    where = "robot.command.joints"
    joints = arm_names(config) if settings.joints is None else settings.joints
    refuse_twice(joints, where)
    shown = config.shown_joints()
    unknown = [joint for joint in joints if joint not in shown]
    if unknown:
        raise RobotYamlError(
            f"{where}: the arm has no joint {quoted(unknown)}; its streams show {quoted(shown)} (an action dimension "
            "of a joint adapter is called as the joint)"
        )
    if sorted(joints) != sorted(arm_names(config)):
        raise RobotYamlError(f"{where} is {quoted(joints)}, but robot.action.names has {quoted(arm_names(config))}")
    _require_kind(config, joints, ActionKind.POSITION)
    return joints


def _displacements(config: RobotConfig) -> tuple[str, ...]:
    names = arm_names(config)
    if len(names) != 6:
        raise RobotYamlError(
            f"robot.action has {quoted(names)} besides the gripper; adapter '{config.adapter}' takes 6: displacements "
            "along x, y, z [m] and rotations about them [rad] per tick"
        )
    _require_kind(config, names, ActionKind.RATE)
    return names


def _require_kind(config: RobotConfig, names: tuple[str, ...], kind: ActionKind) -> None:
    kinds = dict(zip(config.spec.action.names, config.spec.action_kinds, strict=True))
    for name in names:
        if kinds[name] is not kind:
            raise RobotYamlError(
                f"robot.action.kinds of '{name}' is {kinds[name]}, but adapter '{config.adapter}' takes {kind}"
            )
