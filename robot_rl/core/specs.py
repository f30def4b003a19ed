"""What a robot gives and takes: names, shapes, units and bounds."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import SpecMismatch

FloatArray = npt.NDArray[np.floating[Any]]


AnyArray = npt.NDArray[Any]


NS_PER_S = 1_000_000_000

POINT_UNITS = {"m xyz": 3, "m xyz, rgb": 6}
"""Unit of a point cloud's stream to the columns it has; colours lie between 0 and 1."""
POSE_UNIT = "m,m,m,1,1,1,1"
"""Unit of a pose: x, y, z and the unit quaternion qx, qy, qz, qw."""
SPEED_BOUND = ("max_speed", "margin")
"""What an `ArraySpec` says of its samples' changes; not part of a comparison."""


class ActionKind(enum.StrEnum):
    """What one action dimension means, hence what holding still means."""

    POSITION = "position"
    """An absolute target; holding repeats the last applied value."""
    RATE = "rate"
    """A displacement per tick; holding is zero."""
    BINARY = "binary"
    """A two-state channel such as a gripper; holding repeats the last value and it is never averaged."""


@dataclass(frozen=True)
class ArraySpec:
    """Shape, type, unit and range of one stream or of the action.

    Attributes:
        shape: Without batch or time. An image is (height, width, 3).
        dtype: numpy name, for example `float32` or `uint8`.
        unit: For people and for comparison: `m`, `rad`, `rgb`, `px`, `cm/tick`; several as `m,m,m,1`; a point cloud
            has one of `POINT_UNITS`.
        low: Smallest legal value, one number or one per element in C order; None is unbounded.
        high: Largest legal value, likewise.
        names: One per element where elements have names (joints, axes); else empty.
        max_speed: What the body can physically do, per second, one number or one per element; of a pose two, [m/s] and
            [rad/s]. Says which samples cannot be true and not what the stream is, so two specs may differ in it.
        margin: By how much two samples may differ beyond that, likewise: noise, rounding, inexact stamps.
    """

    shape: tuple[int, ...]
    dtype: str
    unit: str
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    max_speed: float | tuple[float, ...] | None = field(default=None, compare=False)
    margin: float | tuple[float, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Rejects a bound of speed that bounds nothing."""
        if (self.max_speed is None) != (self.margin is None):
            raise SpecMismatch(f"max_speed is {self.max_speed} and margin {self.margin}, wanted both or neither")
        for name, bound in (("max_speed", self.max_speed), ("margin", self.margin)):
            if bound is not None:
                self._check_bound(name, bound)

    def _check_bound(self, name: str, bound: float | tuple[float, ...]) -> None:
        numbers = bound if isinstance(bound, tuple) else (bound,)
        if not all(_is_positive(each) for each in numbers):
            raise SpecMismatch(f"{name} is {bound}, wanted finite numbers above 0")
        wanted = 2 if self.is_pose else self.size
        if self.is_pose and not isinstance(bound, tuple):
            raise SpecMismatch(f"{name} is {bound}, wanted two numbers for a pose: its place's and its rotation's")
        if isinstance(bound, tuple) and len(bound) != wanted:
            raise SpecMismatch(f"{name} has {len(bound)} numbers, wanted {wanted}" + (" for a pose" * self.is_pose))

    @property
    def is_image(self) -> bool:
        """Whether the stream is a camera's: uint8 of shape (height, width, 3)."""
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[-1] == 3

    @property
    def is_point_cloud(self) -> bool:
        """Whether the stream is points in the robot's base frame: float32 (P, 3) in `m xyz`, or coloured, (P, 6)."""
        return self.dtype == "float32" and len(self.shape) == 2 and POINT_UNITS.get(self.unit) == self.shape[1]

    @property
    def is_pose(self) -> bool:
        """Whether the stream is a body's pose: (7,) in `POSE_UNIT`."""
        return self.shape == (7,) and self.unit == POSE_UNIT

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def unit_of(self, index: int) -> str:
        """The unit of one element, in C order."""
        units = self.unit.split(",")
        return units[index] if len(units) == self.size else self.unit

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest legal values, each of this spec's shape; unbounded is infinite."""
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return self._filled(low), self._filled(high)

    def _filled(self, bound: float | tuple[float, ...]) -> FloatArray:
        values = np.asarray(bound, dtype=np.float64)
        if values.ndim == 0:
            return np.full(self.shape, values)
        return values.reshape(self.shape)

    def problem_with(self, value: AnyArray) -> str | None:
        """What is wrong with a value that should match, or None."""
        if value.shape != self.shape:
            return f"shape is {value.shape}, wanted {self.shape}"
        if value.dtype != np.dtype(self.dtype):
            return f"dtype is {value.dtype}, wanted {self.dtype}"
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            return "holds NaN or infinity"
        return None

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write; `from_json` reads it back equal.

        A spec without a bound of speed is written as it was before there were any, so that its hashes stay.
        """
        document = dataclasses.asdict(self)
        return {key: value for key, value in document.items() if key not in SPEED_BOUND or value is not None}

    def without_speed_bound(self) -> ArraySpec:
        """The same stream, with nothing said of how fast it may change."""
        return dataclasses.replace(self, max_speed=None, margin=None)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ArraySpec:
        """The spec that `to_json` wrote."""
        frozen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        return cls(**frozen)


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0.0  # type: ignore[arg-type, operator]


@dataclass(frozen=True)
class RobotSpec:
    """What a robot shows and what it obeys; stored in every dataset, checkpoint and bundle.

    Attributes:
        name: The embodiment, the same for one robot in process and through ROS.
        observations: Stream name to spec, in a fixed order.
        action: Shape (A,).
        action_kinds: One per action dimension.
        control_hz: Ticks per second at which actions are meant to be applied.
    """

    name: str
    observations: Mapping[str, ArraySpec]
    action: ArraySpec
    action_kinds: tuple[ActionKind, ...]
    control_hz: float

    def __post_init__(self) -> None:
        """Rejects a spec that contradicts itself."""
        if len(self.action.shape) != 1:
            raise SpecMismatch(f"action shape is {self.action.shape}, wanted one dimension (A,)")
        if len(self.action_kinds) != self.action.shape[0]:
            raise SpecMismatch(
                f"{len(self.action_kinds)} action kinds for {self.action.shape[0]} action dimensions: name one each"
            )
        if not self.control_hz > 0:
            raise SpecMismatch(f"control_hz is {self.control_hz}, wanted a positive rate")

    @property
    def tick_ns(self) -> int:
        """Duration of a control tick [ns]."""
        return round(NS_PER_S / self.control_hz)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the camera streams."""
        return tuple(name for name, spec in self.observations.items() if spec.is_image)

    @property
    def point_clouds(self) -> tuple[str, ...]:
        """Names of the point cloud streams."""
        return tuple(name for name, spec in self.observations.items() if spec.is_point_cloud)

    def kind_mask(self, kind: ActionKind) -> npt.NDArray[np.bool_]:
        """Which action dimensions are of a kind. Shape (A,)."""
        return np.array([each is kind for each in self.action_kinds], dtype=bool)

    def hold(self, last_applied: FloatArray) -> FloatArray:
        """The action that keeps the robot where it is. Shapes (A,)."""
        return np.where(self.kind_mask(ActionKind.RATE), 0.0, last_applied).astype(self.action.dtype)

    def select(self, streams: Sequence[str]) -> RobotSpec:
        """The same robot seen through some of its streams, in the order given.

        Raises:
            SpecMismatch: A stream that this robot does not have.
        """
        for name in streams:
            if name not in self.observations:
                raise SpecMismatch(f"no stream '{name}' on robot '{self.name}'; it has {', '.join(self.observations)}")
        return dataclasses.replace(self, observations={name: self.observations[name] for name in streams})

    def without_speed_bounds(self) -> RobotSpec:
        """The same robot as one of before bounds of speed: what comparisons and fingerprints are made of."""
        return dataclasses.replace(
            self,
            observations={name: spec.without_speed_bound() for name, spec in self.observations.items()},
            action=self.action.without_speed_bound(),
        )

    def unmet_by(self, offered: RobotSpec) -> list[str]:
        """Every way in which `offered` (a robot) fails what this spec (a policy's or dataset's) needs; [] if none.

        The robot may have more streams; those named here must agree in shape, dtype and unit, and the action must
        agree in everything.
        """
        problems = [
            f"{key}: wanted {mine!r}, robot has {theirs!r}"
            for key, mine, theirs in (
                ("name", self.name, offered.name),
                ("control_hz", self.control_hz, offered.control_hz),
                ("action", self.action, offered.action),
                ("action_kinds", [*map(str, self.action_kinds)], [*map(str, offered.action_kinds)]),
            )
            if mine != theirs
        ]
        for name, wanted in self.observations.items():
            has = offered.observations.get(name)
            if has is None:
                problems.append(f"observations.{name}: missing; robot has {', '.join(offered.observations)}")
                continue
            for key in ("shape", "dtype", "unit"):
                if getattr(wanted, key) != getattr(has, key):
                    mine, theirs = getattr(wanted, key), getattr(has, key)
                    problems.append(f"observations.{name}.{key}: wanted {mine!r}, robot has {theirs!r}")
        return problems

    def require(self, offered: RobotSpec, what: str) -> None:
        """Refuses `offered` unless it meets this spec.

        Raises:
            SpecMismatch: Names every differing field; `what` says whose spec this is.
        """
        problems = self.unmet_by(offered)
        if problems:
            raise SpecMismatch(f"{what} does not fit robot '{offered.name}':\n  " + "\n  ".join(problems))

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write; `from_json` reads it back equal."""
        return {
            "name": self.name,
            "observations": {name: spec.to_json() for name, spec in self.observations.items()},
            "action": self.action.to_json(),
            "action_kinds": [str(kind) for kind in self.action_kinds],
            "control_hz": self.control_hz,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RobotSpec:
        """The spec that `to_json` wrote."""
        return cls(
            name=document["name"],
            observations={name: ArraySpec.from_json(spec) for name, spec in document["observations"].items()},
            action=ArraySpec.from_json(document["action"]),
            action_kinds=tuple(ActionKind(kind) for kind in document["action_kinds"]),
            control_hz=document["control_hz"],
        )
