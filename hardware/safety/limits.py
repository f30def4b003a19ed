"""The limits of a robot's commands, all of them written down: a limit that is absent is an error, never infinity."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from hardware.safety.braking import LONGEST_STOP_TICKS, Axis
from hardware.safety.dimensions import LimitError, dimension_index, dimension_name, per_dimension
from hardware.safety.following_limits import FollowingLimits
from robot_rl.core import section
from robot_rl.core.episode import Observation
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.section import NotNegative, Wanted
from robot_rl.core.specs import ActionKind, FloatArray, RobotSpec

LIMIT_TOLERANCE = 1e-9
"""Step, velocity, acceleration and jerk limits are kept to within this fraction of themselves (and one unit in the last
place of the action's dtype), so that a request exactly at a limit is not refused over a rounding of the tick period.
The box has no tolerance. A fast robot needs a fine dtype: at 500 Hz the rounding of a float32 of 0.2 m alone looks like
a jerk of 7 m/s^3; use float64 there."""

BOX = ("low", "high")
MOTION = ("max_step", "max_velocity", "max_acceleration", "max_jerk")
TIMES = ("ramp_after_s", "fault_after_s")
OPTIONAL = ("measured", "start", "following")
KEYS = (*BOX, *MOTION, "max_age_s", *TIMES, *OPTIONAL)
Age = Annotated[float, Wanted("seconds >= 0", lambda value: value >= 0.0)]
EACH = " from action dimension to what it is about"


@dataclass(frozen=True)
class MeasuredAxis:
    """Where the robot shows the position that one action dimension moves.

    For a POSITION dimension it is the pose at which the filter starts. For a RATE dimension with `low` and `high` it is
    the tool position that is kept inside that box.

    Attributes:
        stream: Name of a state stream.
        index: Element of it, in C order.
        scale: State units per action unit, for example 0.01 from cm to m; may be negative, never 0.
        low: Lowest allowed position, state units; None only together with `high`.
        high: Highest allowed position, state units.
        lag_s: How long a command takes to show in the stream, beyond the sample's age [s].
    """

    stream: str
    index: int
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    lag_s: NotNegative = 0.0

    def read(self, observation: Observation) -> float | None:
        """The measured position in state units; None if the observation does not hold it or it is not finite."""
        values = observation.values.get(self.stream)
        if values is None:
            return None
        position = float(values.flat[self.index])
        return position if math.isfinite(position) else None


class CompiledAxis(NamedTuple):
    """One action dimension as the filter uses it: limits per tick, box representable in the action's dtype."""

    kind: ActionKind
    low: float
    high: float
    max_step: float
    max_velocity_step: float
    motion: Axis
    box: MeasuredAxis | None


@dataclass(frozen=True)
class CommandLimits:
    """Every limit of one robot's commands, one value per action dimension, in action units and seconds.

    A RATE dimension commands a displacement per tick: `low`, `high` and `max_step` bound that displacement, its
    velocity is the displacement over the tick period. A POSITION dimension commands a place: `low` and `high` are the
    workspace box, a step is the difference between two successive commands. A BINARY dimension has only `low` and
    `high`; its other limits may be infinite. The tick period is the nominal one, `1 / spec.control_hz`: a late tick
    earns no larger step.

    Attributes:
        spec: The robot's.
        low: Shape (A,).
        high: Shape (A,).
        max_step: Largest displacement in one tick. Shape (A,).
        max_velocity: [action unit / s], shape (A,).
        max_acceleration: [action unit / s^2], shape (A,).
        max_jerk: [action unit / s^3], shape (A,).
        max_age_s: Stream name to the oldest sample that may still be acted on [s]; every stream of the spec.
        ramp_after_s: A stale stream, or having nothing to execute, for this long: stop, and come to rest first [s].
        fault_after_s: A stream older than this: latched fault, cleared only by `clear_fault` [s].
        measured: Action dimension to where its position is measured.
        start: Action dimension to the command it starts from where nothing measures it, for example a gripper.
        following: How far the arm may be behind; needed wherever time goes on by itself, see `require_following`.

    Raises:
        LimitError: A limit is missing, contradictory, or not finite; names the field and the dimension.
    """

    spec: RobotSpec
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_step: tuple[float, ...]
    max_velocity: tuple[float, ...]
    max_acceleration: tuple[float, ...]
    max_jerk: tuple[float, ...]
    max_age_s: Mapping[str, float]
    ramp_after_s: float
    fault_after_s: float
    measured: Mapping[int, MeasuredAxis]
    start: Mapping[int, float]
    following: FollowingLimits | None = None

    def __post_init__(self) -> None:
        """Rejects limits that are missing or contradict each other or the spec."""
        for name in (*BOX, *MOTION):
            self._check_field(name)
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            where = dimension_name(self.spec, index)
            if low > high:
                raise LimitError(f"limits.low of {where} is {low}, above limits.high {high}")
            if self.spec.action_kinds[index] is ActionKind.RATE and not low <= 0.0 <= high:
                raise LimitError(f"limits.low..high of {where} is {low}..{high}; a rate must be able to be 0 (holding)")
        self._check_times()
        self._check_measured()
        for index, axis in enumerate(self.axes):
            if axis.motion.reach == math.inf:
                where = dimension_name(self.spec, index)
                raise LimitError(
                    f"limits of {where} let it take over {LONGEST_STOP_TICKS:,} ticks to stop: "
                    "raise max_acceleration or max_jerk, or lower max_velocity"
                )

    def _check_field(self, name: str) -> None:
        values = getattr(self, name)
        count = self.spec.action.shape[0]
        if values is None or len(values) != count:
            got = "nothing" if values is None else f"{len(values)} values"
            raise LimitError(f"limits.{name} has {got}, wanted {count}, one per action dimension")
        for index, value in enumerate(values):
            where = dimension_name(self.spec, index)
            if value is None:
                raise LimitError(f"limits.{name} of {where} is missing; write a number (0 is a real limit)")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise LimitError(f"limits.{name} of {where} is {value!r}, wanted a number")
            endless = name in MOTION and self.spec.action_kinds[index] is ActionKind.BINARY and value == math.inf
            if not math.isfinite(value) and not endless:
                raise LimitError(f"limits.{name} of {where} is {value}; only a binary dimension's motion may be .inf")
            if name in MOTION and value < 0.0:
                raise LimitError(f"limits.{name} of {where} is {value}, wanted >= 0")

    def _check_times(self) -> None:
        for stream in self.spec.observations:
            if self.max_age_s.get(stream) is None:
                raise LimitError(f"limits.max_age_s of stream '{stream}' is missing; write seconds")
        times = {f"max_age_s of stream '{name}'": age for name, age in self.max_age_s.items()}
        times |= {name: getattr(self, name) for name in TIMES}
        for name, seconds in times.items():
            if seconds is None:
                raise LimitError(f"limits.{name} is missing; write seconds")
            section.value_of(Age, seconds, f"limits.{name}", LimitError)
        if self.fault_after_s < self.ramp_after_s:
            raise LimitError(
                f"limits.fault_after_s is {self.fault_after_s}, before ramp_after_s {self.ramp_after_s}: stop first"
            )

    def _check_measured(self) -> None:
        for index, axis in self.measured.items():
            where = f"limits.measured of {dimension_name(self.spec, index)}"
            stream = self.spec.observations.get(axis.stream)
            if stream is None:
                raise LimitError(f"{where}: no stream '{axis.stream}'; there is {', '.join(self.spec.observations)}")
            if not 0 <= axis.index < stream.size:
                raise LimitError(f"{where}: index {axis.index} is outside '{axis.stream}' of {stream.size} elements")
            if axis.scale == 0.0 or not math.isfinite(axis.scale):
                raise LimitError(f"{where}: scale is {axis.scale}, wanted state units per action unit")
            if (axis.low is None) != (axis.high is None):
                raise LimitError(f"{where}: low is {axis.low} and high is {axis.high}; give both or neither")
            if axis.low is None or axis.high is None:
                continue
            if self.spec.action_kinds[index] is not ActionKind.RATE:
                raise LimitError(f"{where}: a box on the measured position is for rates; use limits.low and high")
            if not (math.isfinite(axis.low) and math.isfinite(axis.high) and axis.low <= axis.high):
                raise LimitError(f"{where}: low..high is {axis.low}..{axis.high}, wanted finite and ascending")

    @classmethod
    def for_spec(cls, spec: RobotSpec, mapping: Mapping[str, Any]) -> CommandLimits:
        """Limits as written in a robot's yaml, checked against its spec.

        Args:
            spec: The robot's.
            mapping: Keys are the attributes. Per-dimension values are a list of A numbers or a mapping from dimension
                name (`spec.action.names`); `measured` and `start` are mappings from dimension name or index and may be
                absent. Ages of streams that this robot does not have (a camera that is off) are ignored.

        Raises:
            LimitError: A key is unknown or missing, or a value makes no sense.
        """
        written = section.mapping(mapping, "limits", LimitError)
        section.refuse_unknown(written, KEYS, "limits", LimitError)
        needed, hint = KEYS[: -len(OPTIONAL)], f" for robot '{spec.name}'; every limit must be written down"
        section.require(written, needed, "limits", LimitError, hint)
        ages = section.mapping(written["max_age_s"], "limits.max_age_s", LimitError, " from stream to seconds")
        measured, start = (
            {} if written.get(key) is None else section.mapping(written[key], f"limits.{key}", LimitError, EACH)
            for key in ("measured", "start")
        )
        following = written.get("following")
        return cls(
            spec=spec,
            **{name: per_dimension(spec, name, written[name]) for name in (*BOX, *MOTION)},
            max_age_s={name: age for name, age in ages.items() if name in spec.observations},
            ramp_after_s=written["ramp_after_s"],
            fault_after_s=written["fault_after_s"],
            measured={
                dimension_index(spec, f"measured.{key}", key): section.read(
                    MeasuredAxis, value, f"limits.measured.{key}", LimitError
                )
                for key, value in measured.items()
            },
            start={
                dimension_index(spec, f"start.{key}", key): section.value_of(
                    float, value, f"limits.start.{key}", LimitError
                )
                for key, value in start.items()
            },
            following=None if following is None else FollowingLimits.parse(spec, following),
        )

    def require_following(self, hz: float) -> None:
        """Refuses limits with which nobody would notice that an arm does not follow its commands.

        Args:
            hz: Rate of the commands [Hz].

        Raises:
            LimitError: `following` is missing, does not fit the velocity limit, or cannot be measured.
        """
        name = self.spec.name
        if self.following is None:
            raise LimitError(
                f"limits.following is missing for robot '{name}', which moves in real time; write lag_s, wait and fault"
            )
        for index, kind in enumerate(self.spec.action_kinds):
            if kind is ActionKind.BINARY or index in self.start:
                continue
            where = dimension_name(self.spec, index)
            if kind is ActionKind.POSITION and index not in self.measured:
                raise LimitError(f"limits.measured of {where} is missing: nothing would show whether the arm follows")
            axis = self.axes[index]
            speed = min(axis.max_step, axis.max_velocity_step) * self.spec.control_hz
            self.following.require_wait(index, where, speed, hz)

    def require(self, spec: RobotSpec) -> None:
        """Refuses a spec other than the one these limits were checked against.

        Raises:
            SpecMismatch: They differ in the action or its rate.
        """
        mine = self.spec
        if spec is not mine and (spec.action, spec.action_kinds, spec.control_hz) != (
            mine.action,
            mine.action_kinds,
            mine.control_hz,
        ):
            raise SpecMismatch(f"limits are for the actions of '{mine.name}', not of '{spec.name}'; use its own limits")

    @functools.cached_property
    def axes(self) -> tuple[CompiledAxis, ...]:
        """Every dimension's limits per tick. Length A."""
        return tuple(self._compile(index) for index in range(self.spec.action.shape[0]))

    @functools.cached_property
    def ages_ns(self) -> tuple[tuple[str, int, bool], ...]:
        """Stream, oldest age [ns], whether it is a camera."""
        cameras = set(self.spec.images)
        return tuple((name, round(age * 1e9), name in cameras) for name, age in self.max_age_s.items())

    @functools.cached_property
    def boxes(self) -> tuple[MeasuredAxis, ...]:
        """Measured positions that are kept in a box."""
        return tuple(axis.box for axis in self.axes if axis.box is not None)

    def _compile(self, index: int) -> CompiledAxis:
        kind, hz = self.spec.action_kinds[index], self.spec.control_hz
        low, high = _inward(self.low[index], self.high[index], np.dtype(self.spec.action.dtype))
        wider = 1.0 + LIMIT_TOLERANCE
        # Divided one period at a time: 49 / 49 is exactly 1, 49 * (1 / 49) is not.
        step, by_velocity = self.max_step[index] * wider, self.max_velocity[index] / hz * wider
        fastest = min(step, by_velocity)
        rate = kind is ActionKind.RATE
        if kind is ActionKind.BINARY:
            return CompiledAxis(kind, low, high, step, by_velocity, Axis.of(0.0, 0.0, 0.0, 0.0), None)
        motion = Axis.of(
            max(low, -fastest) if rate else -fastest,
            min(high, fastest) if rate else fastest,
            self.max_acceleration[index] / hz / hz * wider,
            self.max_jerk[index] / hz / hz / hz * wider,
        )
        measured = self.measured.get(index)
        box = measured if rate and measured is not None and measured.low is not None else None
        return CompiledAxis(kind, low, high, step, by_velocity, motion, box)

    def start_pose(self, observation: Observation) -> FloatArray:
        """The command that keeps a robot where it is seen to be, for `FilterState.at`. Shape (A,).

        RATE dimensions are 0; POSITION and BINARY dimensions are measured, or as `start` says.

        Raises:
            LimitError: Nothing says where a POSITION or BINARY dimension starts.
        """
        pose = np.zeros(len(self.axes))
        for index, axis in enumerate(self.axes):
            if axis.kind is ActionKind.RATE:
                continue
            measured = self.measured.get(index)
            position = measured.read(observation) if measured is not None else None
            if measured is not None and position is not None:
                pose[index] = position / measured.scale
            elif measured is None and index in self.start:
                pose[index] = self.start[index]
            else:
                where = dimension_name(self.spec, index)
                reason = "nothing measures it" if measured is None else f"'{measured.stream}' does not show it"
                raise LimitError(
                    f"{where} starts nowhere: {reason}; write limits.measured (stream, index, scale) or limits.start"
                )
        return pose


@runtime_checkable
class KeepsWithin(Protocol):
    """What a robot also is that adds actions up by itself, so that the limits of single actions do not bound it."""

    def keep_within(self, limits: CommandLimits) -> None:
        """Takes the limits of its actions before any is sent.

        Raises:
            LimitError: They leave open where it may go.
        """


def _inward(low: float, high: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The box's widest bounds that the action's dtype can represent: casting a command can never leave the box."""
    inner_low, inner_high = dtype.type(low), dtype.type(high)
    if float(inner_low) < low:
        inner_low = np.nextafter(inner_low, dtype.type(np.inf))
    if float(inner_high) > high:
        inner_high = np.nextafter(inner_high, dtype.type(-np.inf))
    return float(inner_low), float(inner_high)
