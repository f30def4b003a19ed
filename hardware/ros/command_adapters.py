"""How rows of actions become messages that a vendor's driver or controller obeys.

An adapter only makes messages; it knows neither node nor network, so each is tested without them. Joint adapters take
absolute positions of named joints; Cartesian ones take displacements per row, which is what holding still means to
somebody who lets go of a SpaceMouse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hardware.ros.decode import seconds_and_nanoseconds
from hardware.ros.rotation import rotation_between, turned
from hardware.safety.dimensions import LimitError
from hardware.safety.limits import CommandLimits
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S, AnyArray

Row = npt.NDArray[np.float64]
Messages = Callable[[str], Any]
"""Message class of a type name, `hardware.ros.client.message`."""


class Outlet(NamedTuple):
    """A topic that commands go out on, by its full name."""

    topic: str
    type_name: str


class CommandAdapter(Protocol):
    """Makes messages of rows."""

    @property
    def outlet(self) -> Outlet:
        """Where its messages go."""

    @property
    def names(self) -> tuple[str, ...]:
        """Action dimensions that it takes, in its order."""

    def start(self, values: Mapping[str, AnyArray]) -> None:
        """Anchors at what the streams show; called before the first row after every reset or stop."""

    def command(self, row: Row, values: Mapping[str, AnyArray], now_ns: int) -> tuple[Any, Row]:
        """The message for a row, and what it makes the arm do.

        Args:
            row: In the order of `names`.
            values: The newest of every stream.
            now_ns: Robot clock [ns].
        """

    def rest(self, now_ns: int) -> Any | None:
        """The message that brings the arm to rest; None where it rests as soon as rows cease."""

    def ahead(self, values: Mapping[str, AnyArray]) -> Row:
        """How far a target that it adds up is ahead of what the streams show, in the order of `names`; NaN for none."""

    def keep_within(self, limits: CommandLimits) -> None:
        """Takes the limits that rows keep, for what it adds up itself.

        Raises:
            LimitError: They leave open where the tool may go.
        """


@dataclass(frozen=True)
class JointPositions:
    """What both of ros2_control's joint controllers have in common: a position is the target itself.

    Attributes:
        outlet: Where the controller listens.
        names: Its joints.
        messages: Message classes.
    """

    outlet: Outlet
    names: tuple[str, ...]
    messages: Messages

    def start(self, values: Mapping[str, AnyArray]) -> None:
        """Absolute positions need no anchor."""

    def rest(self, now_ns: int) -> Any | None:
        """The controller holds the last position."""
        return None

    def ahead(self, values: Mapping[str, AnyArray]) -> Row:
        """Nothing is added up."""
        return np.full(len(self.names), np.nan)

    def keep_within(self, limits: CommandLimits) -> None:
        """Positions keep their limits by themselves."""


@dataclass(frozen=True)
class JointForward(JointPositions):
    """ros2_control's forward_command_controller: a Float64MultiArray with one number per joint.

    There are no names in it: the order of `joints` must be that of the controller's parameter `joints`.
    """

    def command(self, row: Row, values: Mapping[str, AnyArray], now_ns: int) -> tuple[Any, Row]:
        """The row as it is."""
        return self.messages(self.outlet.type_name)(data=row.tolist()), row


@dataclass(frozen=True)
class JointTrajectory(JointPositions):
    """ros2_control's joint_trajectory_controller over its topic: a trajectory of one point, replaced by every row.

    Attributes:
        horizon_s: When the point is to be reached; a little longer than the time between rows, so that the arm does not
            come to rest between two of them.
    """

    horizon_s: float

    def command(self, row: Row, values: Mapping[str, AnyArray], now_ns: int) -> tuple[Any, Row]:
        """A point at the row; its stamp stays zero, which to the controller means at once."""
        return trajectory_of_one_point(self.messages, self.outlet.type_name, self.names, row, self.horizon_s), row


class CartesianPose:
    """An impedance controller's target pose: displacements are added up onto the pose commanded last.

    Every row counts once, so rows must come at the robot's `control_hz`: as the driver of an arm node that is the
    node's `stream_hz`.

    The target stays in the box of the limits, wherever the tool is. And it stays on a leash: an arm that is held back,
    by a table for instance, must not store up motion. Both are last guards. Before them the command waits for an arm
    that is behind (`limits.following`), within its acceleration, so the leash should be longer than `following.fault`.
    A step that leads away counts less and less beyond half of the leash: at a speed `v` the target comes to rest with
    about `2 v^2 / leash`.

    Args:
        outlet: PoseStamped.
        names: Displacements along and rotations about x, y, z of the base frame [m, rad].
        messages: Message classes.
        pose_stream: Stream that shows the tool's pose, `kind: pose`.
        frame_id: Base frame.
        leash_m: How far the target may be ahead of the tool [m].
        leash_rad: How far it may be turned ahead of it [rad].
    """

    def __init__(
        self,
        outlet: Outlet,
        names: tuple[str, ...],
        messages: Messages,
        pose_stream: str,
        frame_id: str,
        leash_m: float,
        leash_rad: float,
    ) -> None:
        self.outlet = outlet
        self.names = names
        self._messages = messages
        self._pose_stream = pose_stream
        self._frame_id = frame_id
        self._leash_m = leash_m
        self._leash_rad = leash_rad
        self._low, self._high = np.full(3, -np.inf), np.full(3, np.inf)
        self._target: Row | None = None

    def start(self, values: Mapping[str, AnyArray]) -> None:
        """Anchors at the measured pose."""
        self._target = self._measured(values)

    def command(self, row: Row, values: Mapping[str, AnyArray], now_ns: int) -> tuple[Any, Row]:
        """The target pose with the row added, as far as box and leash let it."""
        if self._target is None:
            raise RobotRLError("the Cartesian target was never anchored: reset the robot before moving it")
        before, measured = self._target, self._measured(values)
        wanted = row[:3] * _share(before[:3] - measured[:3], row[:3], self._leash_m)
        # A target that is outside already, because the arm was pushed there, may only come nearer.
        place = np.clip(before[:3] + wanted, np.minimum(self._low, before[:3]), np.maximum(self._high, before[:3]))
        turn = row[3:] * _share(rotation_between(measured[3:], before[3:]), row[3:], self._leash_rad)
        self._target = np.concatenate([place, turned(before[3:], turn)])
        return self._pose_message(now_ns), np.concatenate([place - before[:3], turn])

    def rest(self, now_ns: int) -> Any | None:
        """The controller holds the last pose, which is within the leash."""
        return None

    def ahead(self, values: Mapping[str, AnyArray]) -> Row:
        """From the measured pose to the target [m, rad]."""
        if self._target is None:
            return np.full(len(self.names), np.nan)
        measured = self._measured(values)
        return np.concatenate([self._target[:3] - measured[:3], rotation_between(measured[3:], self._target[3:])])

    def keep_within(self, limits: CommandLimits) -> None:
        """Takes the tool's box; the leashes must be longer than what the limits let an arm lag.

        Raises:
            LimitError: The box has a wall missing, or a leash is too short.
        """
        _require_leashes(limits, self.names, (self._leash_m, self._leash_rad))
        walls = _box(limits, self.names[:3], self._pose_stream)
        self._low, self._high = (np.array(each) for each in zip(*walls, strict=True))

    def _measured(self, values: Mapping[str, AnyArray]) -> Row:
        return values[self._pose_stream].astype(np.float64)

    def _pose_message(self, now_ns: int) -> Any:
        assert self._target is not None
        x, y, z, qx, qy, qz, qw = self._target.tolist()
        pose = self._messages("geometry_msgs/msg/Pose")(
            position=self._messages("geometry_msgs/msg/Point")(x=x, y=y, z=z),
            orientation=self._messages("geometry_msgs/msg/Quaternion")(x=qx, y=qy, z=qz, w=qw),
        )
        return self._messages(self.outlet.type_name)(header=_header(self._messages, now_ns, self._frame_id), pose=pose)


@dataclass(frozen=True)
class ServoTwist:
    """MoveIt Servo's `delta_twist_cmds` in its speed units: a displacement per row becomes a velocity.

    Attributes:
        frame_id: Frame of the twist.
        rate_hz: Ticks per second of the displacements; the robot's `control_hz`.
    """

    outlet: Outlet
    names: tuple[str, ...]
    messages: Messages
    frame_id: str
    rate_hz: float

    def start(self, values: Mapping[str, AnyArray]) -> None:
        """Velocities need no anchor."""

    def command(self, row: Row, values: Mapping[str, AnyArray], now_ns: int) -> tuple[Any, Row]:
        """The velocity at which a tick makes the row's displacement."""
        return self._twist(row * self.rate_hz, now_ns), row

    def rest(self, now_ns: int) -> Any | None:
        """A twist of zero: Servo would otherwise go on until it finds the last one too old."""
        return self._twist(np.zeros(6), now_ns)

    def ahead(self, values: Mapping[str, AnyArray]) -> Row:
        """Servo is told velocities and keeps no target."""
        return np.full(len(self.names), np.nan)

    def keep_within(self, limits: CommandLimits) -> None:
        """Refuses limits without a box for the tool: the filter keeps it, nothing is added up here.

        Raises:
            LimitError: A wall is missing.
        """
        _box(limits, self.names[:3], None)

    def _twist(self, velocity: Row, now_ns: int) -> Any:
        vector = self.messages("geometry_msgs/msg/Vector3")
        vx, vy, vz, wx, wy, wz = velocity.tolist()
        twist = self.messages("geometry_msgs/msg/Twist")(
            linear=vector(x=vx, y=vy, z=vz), angular=vector(x=wx, y=wy, z=wz)
        )
        return self.messages(self.outlet.type_name)(header=_header(self.messages, now_ns, self.frame_id), twist=twist)


def trajectory_of_one_point(
    messages: Messages, type_name: str, names: tuple[str, ...], row: Row, after_s: float
) -> Any:
    """A JointTrajectory that is to be somewhere in a while."""
    after = messages("builtin_interfaces/msg/Duration")(**seconds_and_nanoseconds(round(after_s * NS_PER_S)))
    point = messages("trajectory_msgs/msg/JointTrajectoryPoint")(positions=row.tolist(), time_from_start=after)
    return messages(type_name)(joint_names=list(names), points=[point])


def _share(gap: Row, step: Row, leash: float) -> float:
    """How much of a step is made: all of one that leads nearer, less and less of one that leads away on the leash."""
    reach, after = float(np.linalg.norm(gap)), float(np.linalg.norm(gap + step))
    if after <= max(reach, leash / 2):
        return 1.0
    share = min(1.0, max(0.0, leash - reach) / (leash / 2))
    return share if float(np.linalg.norm(gap + share * step)) <= max(reach, leash) else 0.0


def _require_leashes(limits: CommandLimits, names: Sequence[str], leashes: tuple[float, float]) -> None:
    """Refuses a leash on which an arm that merely lags would hang.

    Args:
        limits: Of the robot.
        names: Action dimensions of the displacements and rotations.
        leashes: Of the place [m] and of the rotation [rad].

    Raises:
        LimitError: Names leash and wait.
    """
    if limits.following is None:
        return
    for index, name in enumerate(names):
        key, leash = ("leash_m", leashes[0]) if index < 3 else ("leash_rad", leashes[1])
        wait = limits.following.wait[limits.spec.action.names.index(name)]
        if leash <= wait:
            raise LimitError(
                f"robot.command.{key} is {leash:g}, within limits.following.wait of '{name}', {wait:g}: the leash is a "
                "last guard, wanted longer than following.fault"
            )


def _box(limits: CommandLimits, names: Sequence[str], pose_stream: str | None) -> list[tuple[float, float]]:
    """Lowest and highest place along x, y, z [m], for a driver whose displacements may add up to anywhere.

    Args:
        limits: Of the robot.
        names: Action dimensions of the displacements along x, y, z.
        pose_stream: The stream that must measure them; None for any.

    Raises:
        LimitError: A wall or its measurement is missing, or it is of something else than the tool's place.
    """
    walls = []
    for place, name in enumerate(names):
        where = f"limits.measured.{name}"
        axis = limits.measured.get(limits.spec.action.names.index(name))
        if axis is None or axis.low is None or axis.high is None:
            raise LimitError(
                f"{where} is missing: nothing would keep the tool in its box along {name}; write stream, index (of the "
                "tool's pose), low and high"
                if axis is None
                else f"{where} has no low and high: write the walls of the box [m]"
            )
        if pose_stream is not None and (axis.stream, axis.index, axis.scale) != (pose_stream, place, 1.0):
            raise LimitError(
                f"{where} is element {axis.index} of '{axis.stream}' times {axis.scale:g}, wanted element {place} of "
                f"'{pose_stream}', whose target is kept in the same box"
            )
        walls.append((axis.low, axis.high))
    return walls


def _header(messages: Messages, stamp_ns: int, frame_id: str) -> Any:
    stamp = messages("builtin_interfaces/msg/Time")(**seconds_and_nanoseconds(stamp_ns))
    return messages("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)
