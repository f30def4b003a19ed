"""Specs, values and protocols that every part of robot-rl speaks.

This module imports nothing of ours and nothing heavier than numpy, so that a camera node, a trainer and a
deployed policy can all share it.

Legend: `T` ticks in an episode, `N` frames of one stream, `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
AnyArray = npt.NDArray[Any]

NS_PER_S = 1_000_000_000

POINT_UNITS = {"m xyz": 3, "m xyz, rgb": 6}
"""Unit of a point cloud's stream to the columns it has; colours lie between 0 and 1."""
POSE_UNIT = "m,m,m,1,1,1,1"
"""Unit of a pose: x, y, z and the unit quaternion qx, qy, qz, qw."""


class RobotRLError(Exception):
    """A mistake or fault that the user can act on; the command line shows it without a traceback."""


class HelpRequested(Exception):
    """Not an error: the user asked for a command's settings, and this carries the text to show."""


class SpecMismatch(RobotRLError):
    """Two ends that must agree on a `RobotSpec` do not."""


class StaleSensor(RobotRLError):
    """A stream has no sample fresh enough to act on."""


class ActionKind(enum.StrEnum):
    """What one action dimension means, hence what holding still means."""

    POSITION = "position"
    """An absolute target; holding repeats the last applied value."""
    RATE = "rate"
    """A displacement per tick; holding is zero."""
    BINARY = "binary"
    """A two-state channel such as a gripper; holding repeats the last value and it is never averaged."""


class Source(enum.IntEnum):
    """Who asked for an action."""

    POLICY = 0
    OPERATOR = 1


class Outcome(enum.StrEnum):
    """How an episode is labelled."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"


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


SPEED_BOUND = ("max_speed", "margin")
"""What an `ArraySpec` says of its samples' changes; not part of a comparison."""


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


@dataclass(frozen=True)
class Observation:
    """What a robot saw at one tick.

    Attributes:
        stamp_ns: The tick, robot clock [ns].
        values: Stream name to array, as the spec says.
        age_ns: Stream name to tick minus capture time, never negative [ns].
    """

    stamp_ns: int
    values: Mapping[str, AnyArray]
    age_ns: Mapping[str, int]


@dataclass(frozen=True)
class ActionChunk:
    """Actions in robot units, row `i` meant for `start_ns + i * tick_ns`. `values` has shape (H, A)."""

    values: FloatArray
    start_ns: int


@dataclass(frozen=True)
class Step:
    """One tick as it happened.

    Attributes:
        observation: What was seen.
        requested: What the policy or operator asked for. Shape (A,).
        applied: What was really executed. Shape (A,).
        source: Who asked.
        reward: The judge's, for the state this step led to; 0 without a judge.
        filter_reasons: Bit set of the command filter's reasons for changing the request; 0 if unchanged.
    """

    observation: Observation
    requested: FloatArray
    applied: FloatArray
    source: Source
    reward: float
    filter_reasons: int = 0


@dataclass(frozen=True)
class EpisodeHeader:
    """What is known when an episode begins."""

    task: str
    operator: str
    policy: str
    """Hash of the policy that acted, empty when only an operator did."""
    seed: int
    started_at: str
    """UTC, ISO 8601."""
    software_version: str


@dataclass(frozen=True)
class EpisodeResult:
    """What is known when an episode ends.

    Attributes:
        outcome: Label of the whole episode.
        terminated: The task itself ended (success or failure); a value function must not bootstrap.
        truncated: Cut off from outside (time limit, operator, fault); a value function bootstraps.
        reason: Why it ended, for people.
        ticks: Number of steps.
        reward_sum: Sum of rewards.
        reward_max: Largest reward, 0 for no steps.
        cadence: The run's timing report, JSON.
    """

    outcome: Outcome
    terminated: bool
    truncated: bool
    reason: str
    ticks: int
    reward_sum: float = 0.0
    reward_max: float = 0.0
    cadence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """Every distinct frame of one stream in one episode: `stamps_ns` (N,) ascending, `values` (N, *shape)."""

    stamps_ns: npt.NDArray[np.int64]
    values: AnyArray


@dataclass(frozen=True)
class Episode:
    """A whole episode in columns. A frame seen by several ticks is held once.

    Attributes:
        spec: The robot's at the time.
        header: See `EpisodeHeader`.
        result: See `EpisodeResult`.
        stamps_ns: Tick times. Shape (T,).
        streams: Stream name to its frames.
        frame_index: Stream name to the frame each tick saw. Shape (T,).
        requested: Shape (T, A).
        applied: Shape (T, A).
        source: `Source` values. Shape (T,).
        reward: Shape (T,).
        filter_reasons: Shape (T,).
    """

    spec: RobotSpec
    header: EpisodeHeader
    result: EpisodeResult
    stamps_ns: npt.NDArray[np.int64]
    streams: Mapping[str, Stream]
    frame_index: Mapping[str, npt.NDArray[np.int64]]
    requested: FloatArray
    applied: FloatArray
    source: npt.NDArray[np.uint8]
    reward: npt.NDArray[np.float32]
    filter_reasons: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        """Number of ticks."""
        return len(self.stamps_ns)

    def per_tick(self, name: str) -> AnyArray:
        """A stream's value at every tick. Shape (T, *shape)."""
        values: AnyArray = self.streams[name].values[self.frame_index[name]]
        return values

    def age_ns(self, name: str) -> npt.NDArray[np.int64]:
        """How old a stream's value was at every tick [ns]. Shape (T,)."""
        return self.stamps_ns - self.streams[name].stamps_ns[self.frame_index[name]]

    def observation(self, tick: int) -> Observation:
        """What was seen at a tick, equal to what the robot returned then."""
        frames = {name: int(index[tick]) for name, index in self.frame_index.items()}
        stamp_ns = int(self.stamps_ns[tick])
        return Observation(
            stamp_ns,
            {name: self.streams[name].values[frame] for name, frame in frames.items()},
            {name: stamp_ns - int(self.streams[name].stamps_ns[frame]) for name, frame in frames.items()},
        )


class OperatorEvent(enum.StrEnum):
    """What an operator can ask for besides moving."""

    NONE = "none"
    END = "end"
    """End this episode and keep it."""
    REDO = "redo"
    """Throw this episode away and do it again."""
    STOP = "stop"
    """End the session; the episode is kept as aborted."""
    PAUSE = "pause"
    """Hold still, or go on."""


@dataclass(frozen=True)
class OperatorCommand:
    """One poll of an operator.

    Attributes:
        action: Takes over from the policy for this tick; None leaves the policy in control. Shape (A,).
        event: See `OperatorEvent`.
        outcome: The operator's label; with `END` it becomes the episode's.
    """

    action: FloatArray | None = None
    event: OperatorEvent = OperatorEvent.NONE
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Judgement:
    """A judge's view of the state an action led to: `done` with `success` is success, without it failure."""

    reward: float
    success: bool
    done: bool


class Robot(Protocol):
    """An arm with its cameras. A context manager: entering connects, leaving stops and disconnects.

    One whose time stands still between commands declares it (`SimulatedTime`); every other is run in real time.
    `hardware/contract.py` is the executable form of this contract.
    """

    spec: RobotSpec

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reset(self, seed: int) -> None:
        """Brings the robot to the start of an episode; a simulated one is the same for the same seed."""

    def observe(self, tick_ns: int) -> Observation:
        """The newest sample of every stream not after the tick.

        Raises:
            StaleSensor: A stream has none, or only one older than its limit.
        """

    def apply(self, action: FloatArray) -> FloatArray:
        """Sends an action and returns what was really executed. Shapes (A,)."""

    def stop(self) -> None:
        """Brings the robot to rest; safe to call at any time and more than once.

        It may be called from another thread while `reset` runs, and makes `reset` return soon.
        """


@runtime_checkable
class KeepsTarget(Protocol):
    """What a robot also is whose actions are displacements that it adds up to a target of its own."""

    def ahead(self) -> FloatArray:
        """How far the target is ahead of what is measured, action units; NaN where it keeps none. Shape (A,)."""


@runtime_checkable
class SimulatedTime(Protocol):
    """What a robot declares whose time stands still between two commands; see `stands_still`."""

    @property
    def simulated_time(self) -> bool:
        """Whether nothing moves, ages or happens until the next `apply`, however long that takes."""


def stands_still(robot: object) -> bool:
    """Whether a robot's time stands still between commands, so that it may be run as fast as it computes.

    Only a robot that declares it: everything else moves on by itself and is run in real time.

    Raises:
        RobotRLError: The declaration is neither True nor False, for example a method that lacks `@property`.
    """
    if not isinstance(robot, SimulatedTime):
        return False
    return _declared("simulated_time", robot, robot.simulated_time)


@runtime_checkable
class Watched(Protocol):
    """What a robot declares whose own side compares what it was told with what it shows, as an arm node does."""

    @property
    def watched(self) -> bool:
        """Whether it does."""


def is_watched(robot: object) -> bool:
    """Whether somebody between here and the robot notices that it does not follow.

    Raises:
        RobotRLError: The declaration is neither True nor False.
    """
    return isinstance(robot, Watched) and _declared("watched", robot, robot.watched)


def _declared(name: str, whom: object, value: object) -> bool:
    """A declaration that is taken for what it says, never for whether it is empty."""
    if not isinstance(value, bool):
        raise RobotRLError(
            f"{name} of {type(whom).__name__} is {value!r}, wanted True or False: an attribute or a property"
        )
    return value


class Policy(Protocol):
    """Maps recent observations to a chunk of actions."""

    spec: RobotSpec
    observation_count: int
    """How many of the newest observations `act` reads."""
    fingerprint: str
    """Hash of the weights, recorded with every episode."""

    def reset(self, seed: int) -> None:
        """Forgets the last episode and seeds the sampling noise."""

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk whose row 0 is for the newest observation's tick.

        Args:
            history: Oldest first, at least one; a policy repeats the oldest while there are too few.
        """


class Operator(Protocol):
    """A person, a device or a script that drives, corrects and labels. A context manager, as `Robot` is.

    One that takes over may have a method `see_applied(applied)`, shape (A,), called after every command: it starts
    from what the robot was last told, not from what it shows, so that a gripper that no stream shows stays closed.
    """

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reset(self, seed: int) -> None:
        """Called before each episode."""

    def poll(self, observation: Observation) -> OperatorCommand:
        """Called once per tick; must return at once."""


@runtime_checkable
class InPerson(Protocol):
    """What an operator declares through whom a person acts; see `is_person`."""

    @property
    def in_person(self) -> bool:
        """Whether a person has to see and move at the robot's own rate."""


def is_person(operator: object) -> bool:
    """Whether a person acts through an operator, for whom episodes must run in real time; a script declares nothing.

    Raises:
        RobotRLError: The declaration is neither True nor False.
    """
    return isinstance(operator, InPerson) and _declared("in_person", operator, operator.in_person)


class Judge(Protocol):
    """Says how well the task goes: a simulator, a reward classifier; a person labels through the operator instead."""

    def judge(self) -> Judgement:
        """Judges the state after the last applied action."""


class Clock(Protocol):
    """Time as an argument. Nanoseconds that never go back."""

    def now_ns(self) -> int:
        """Current time [ns]."""

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Returns at the deadline, or at once if it has passed."""


class EpisodeSink(Protocol):
    """Where a running episode goes: an episode writer, a list in memory."""

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Starts an episode."""

    def append(self, step: Step) -> None:
        """Takes one step; must not block for longer than a fraction of a tick."""

    def end(self, result: EpisodeResult) -> None:
        """Hands the episode over to be kept; returns at once."""

    def discard(self) -> None:
        """Throws the running episode away."""
