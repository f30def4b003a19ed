"""A simulated arm of six joints and a gripper that moves in real time, whether anyone looks or not.

It does what position controllers of real arms do: each joint closes the gap to its commanded angle like a first-order
lag, never faster than its speed limit. Its state is a function of time in closed form, so that looking at it, or not,
changes nothing. Dimensions are those of a small arm with the customary shoulder, elbow and spherical-ish wrist.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S, ActionKind, ArraySpec, FloatArray, RobotSpec

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
GRIPPER = "gripper"
NAMES = (*JOINTS, GRIPPER)
HOME_RAD = (0.0, -1.2, 1.6, -1.97, -1.57, 0.0)
LOW = (*(-3.1,) * len(JOINTS), 0.0)
HIGH = (*(3.1,) * len(JOINTS), 1.0)
UNITS = ",".join([*("rad",) * len(JOINTS), "1"])
GRIPPER_SPEED = 2.0
"""Full openings per second."""
START_SPREAD_RAD = 0.05
"""Half the range from which a seed draws each joint's start."""
MARGIN = 0.02
"""What rounding and timing may add to a change of its streams."""
Array = npt.NDArray[np.float64]


class Link(NamedTuple):
    """Denavit-Hartenberg parameters of one joint [m, rad]."""

    a_m: float
    alpha_rad: float
    d_m: float


LINKS = (
    Link(0.0, math.pi / 2, 0.15),
    Link(-0.35, 0.0, 0.0),
    Link(-0.30, 0.0, 0.0),
    Link(0.0, math.pi / 2, 0.11),
    Link(0.0, -math.pi / 2, 0.09),
    Link(0.0, 0.0, 0.08),
)


class MachineTime:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Time since an arbitrary moment [ns]."""
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Returns at the deadline, or at once if it has passed."""
        time.sleep(max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S)


class JointArm:
    """A robot that shows `joint_position` (7,) and `tool_pose` (7,); an action is 6 joint angles and the gripper.

    The gripper is open above 0.5 and closed below.

    Args:
        control_hz: Rate at which actions are meant to come.
        lag_s: Time constant of a joint [s].
        max_speed: Fastest joint [rad/s].
        clock: The arm's own time; the machine's if None.

    Raises:
        RobotRLError: A rate, lag or speed is not positive.
    """

    def __init__(
        self, control_hz: float = 20.0, lag_s: float = 0.05, max_speed: float = 3.0, clock: Clock | None = None
    ) -> None:
        for name, value in {"control_hz": control_hz, "lag_s": lag_s, "max_speed": max_speed}.items():
            if not 0.0 < value < math.inf:
                raise RobotRLError(f"robot.{name} is {value}, wanted a positive number")
        self.spec = _spec(control_hz, max_speed)
        self._clock = clock or MachineTime()
        self._lag_s = lag_s
        self._speed = np.array([*(max_speed,) * len(JOINTS), GRIPPER_SPEED])
        self._anchor = self._target = np.array([*HOME_RAD, 1.0])
        self._anchor_ns = self._clock.now_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reset(self, seed: int) -> None:
        """Puts the arm near its home, at rest, with the gripper open; the same for the same seed."""
        start = np.array([*HOME_RAD, 1.0])
        start[: len(JOINTS)] += np.random.default_rng(seed).uniform(-START_SPREAD_RAD, START_SPREAD_RAD, len(JOINTS))
        self._hold_at(start)

    def observe(self, tick_ns: int) -> Observation:
        """Joints and tool as they are now, hence of age 0."""
        position = self.position()
        values = {
            "joint_position": position.astype(np.float32),
            "tool_pose": tool_pose(position[: len(JOINTS)]).astype(np.float32),
        }
        return Observation(tick_ns, values, dict.fromkeys(values, 0))

    def apply(self, action: FloatArray) -> FloatArray:
        """Sets the commanded angles and gripper, kept within their bounds.

        Raises:
            RobotRLError: The action is unusable.
        """
        requested = np.asarray(action, dtype=np.float32)
        problem = self.spec.action.problem_with(requested)
        if problem:
            raise RobotRLError(f"the simulated arm cannot execute the action: {problem}")
        low, high = self.spec.action.bounds()
        applied = np.clip(requested, low, high).astype(np.float32)
        applied[-1] = 1.0 if applied[-1] > 0.5 else 0.0
        now_ns = self._clock.now_ns()
        self._anchor, self._anchor_ns = self._at(now_ns), now_ns
        self._target = applied.astype(np.float64)
        return applied

    def stop(self) -> None:
        """Every joint stays where it is."""
        self._hold_at(self.position())

    def position(self) -> Array:
        """Joint angles [rad] and gripper opening [1] at this moment. Shape (7,)."""
        return self._at(self._clock.now_ns())

    def _hold_at(self, position: Array) -> None:
        self._anchor = self._target = position
        self._anchor_ns = self._clock.now_ns()

    def _at(self, now_ns: int) -> Array:
        elapsed_s = max(0, now_ns - self._anchor_ns) / NS_PER_S
        return approached(self._anchor, self._target, elapsed_s, self._lag_s, self._speed)


def approached(start: Array, target: Array, elapsed_s: float, lag_s: float, speed: Array) -> Array:
    """Where a first-order lag with a speed limit has come to.

    It runs at the limit until the gap is `speed * lag_s`, and closes the rest exponentially.

    Args:
        start: Positions at the beginning. Shape (A,).
        target: Commanded positions. Shape (A,).
        elapsed_s: Time since the beginning [s].
        lag_s: Time constant [s].
        speed: Largest speeds [unit/s]. Shape (A,).
    """
    gap = np.abs(target - start)
    soft = speed * lag_s
    fast_s = np.maximum(0.0, gap - soft) / speed
    running = gap - speed * elapsed_s
    closing = np.minimum(gap, soft) * np.exp(-np.maximum(0.0, elapsed_s - fast_s) / lag_s)
    left = np.where(elapsed_s < fast_s, running, closing)
    return target - np.copysign(left, target - start)


def tool_pose(joints_rad: Array) -> Array:
    """Tool in the base frame: position [m] and unit quaternion (x y z qx qy qz qw), w not negative. Shape (7,)."""
    tool_in_base = np.eye(4)
    for angle_rad, link in zip(joints_rad, LINKS, strict=True):
        tool_in_base = tool_in_base @ _link_in_last(float(angle_rad), link)
    return np.concatenate([tool_in_base[:3, 3], _quaternion(tool_in_base[:3, :3])])


def _link_in_last(angle_rad: float, link: Link) -> Array:
    """Homogeneous transform of one joint. Shape (4, 4)."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    ca, sa = math.cos(link.alpha_rad), math.sin(link.alpha_rad)
    return np.array(
        [
            [c, -s * ca, s * sa, link.a_m * c],
            [s, c * ca, -c * sa, link.a_m * s],
            [0.0, sa, ca, link.d_m],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def _quaternion(rotation: Array) -> Array:
    """Unit quaternion (x y z w) of a rotation matrix, w not negative: the eigenvector of Bar-Itzhack (2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    matrix = np.array(
        [
            [xx - yy - zz, xy + yx, xz + zx, zy - yz],
            [xy + yx, yy - xx - zz, yz + zy, xz - zx],
            [xz + zx, yz + zy, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    values, vectors = np.linalg.eigh(matrix)
    quaternion: Array = vectors[:, int(np.argmax(values))]
    return quaternion * math.copysign(1.0, quaternion[3])


def _spec(control_hz: float, max_speed: float) -> RobotSpec:
    # Every joint turns the tool, and moves it no faster than if the whole arm were stretched out from it.
    turn, reach_m = max_speed * len(JOINTS), sum(abs(link.a_m) + abs(link.d_m) for link in LINKS)
    return RobotSpec(
        name="joint_arm",
        observations={
            "joint_position": ArraySpec(
                (len(NAMES),),
                "float32",
                UNITS,
                names=NAMES,
                max_speed=(*(max_speed,) * len(JOINTS), GRIPPER_SPEED),
                margin=MARGIN,
            ),
            "tool_pose": ArraySpec(
                (7,),
                "float32",
                "m,m,m,1,1,1,1",
                names=("x", "y", "z", "qx", "qy", "qz", "qw"),
                max_speed=(turn * reach_m, turn),
                margin=(MARGIN, MARGIN),
            ),
        },
        action=ArraySpec((len(NAMES),), "float32", UNITS, low=LOW, high=HIGH, names=NAMES),
        action_kinds=(*(ActionKind.POSITION,) * len(JOINTS), ActionKind.BINARY),
        control_hz=control_hz,
    )
