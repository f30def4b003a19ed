"""What happens in robot time, and what is kept of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_rl.core.specs import AnyArray, FloatArray, RobotSpec


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
