"""Episodes as reinforcement learning takes them: what happened, and by which denoising chains the policy decided.

Legend: `K` denoising steps, `H` chunk length, `A` action dimension, `T` ticks in an episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Source, Step, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, RobotSpec


@dataclass(frozen=True)
class SampledChunk:
    """One chunk that a policy gave.

    It governs the rows from its tick on, until the next decision's tick or until the operator takes over.

    Attributes:
        tick: Index of the tick whose observation was the newest one seen.
        states: The chain from the initial noise to the chunk, normalised units, float32. Shape (K + 1, H, A).
    """

    tick: int
    states: npt.NDArray[np.float32]


@dataclass(frozen=True)
class CollectedEpisode:
    """An episode with the chains behind its actions, ascending by tick."""

    episode: Episode
    decisions: tuple[SampledChunk, ...]


class StepsMissing(RobotRLError):
    """An episode was asked for that was not recorded to its end."""


def decisions_of(episode: Episode, chains: Iterable[tuple[int, npt.NDArray[np.float32]]]) -> tuple[SampledChunk, ...]:
    """The chains that came to drive, by the ticks they were made for.

    A chain is left out if its tick was not recorded, if the operator drove at it, or if a newer one replaced it there.
    In real time a chunk arrives after the tick it was made for; the ticks in between still run on the chunk before.

    Args:
        episode: What happened.
        chains: Stamp of the newest observation seen [ns] and states (K + 1, H, A), in the order they were made.
    """
    stamps = {int(stamp_ns): tick for tick, stamp_ns in enumerate(episode.stamps_ns)}
    by_tick: dict[int, SampledChunk] = {}
    for stamp_ns, states in chains:
        tick = stamps.get(stamp_ns)
        if tick is not None and episode.source[tick] == Source.POLICY:
            by_tick[tick] = SampledChunk(tick, states)
    return tuple(by_tick[tick] for tick in sorted(by_tick))


def takeovers(episode: Episode) -> int:
    """How often control passed from the policy to the operator."""
    by_operator = episode.source == Source.OPERATOR
    return int((by_operator[1:] & ~by_operator[:-1]).sum()) + int(by_operator[:1].sum())


class MemorySink:
    """An `EpisodeSink` that keeps the last episode in memory, in columns; a frame seen by several ticks once."""

    def __init__(self) -> None:
        self._episode: Episode | None = None
        self._running: _Columns | None = None

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """See `EpisodeSink`."""
        self._episode, self._running = None, _Columns(spec, header)

    def append(self, step: Step) -> None:
        """See `EpisodeSink`; values are copied, so the robot may use its buffers again."""
        if self._running is None:
            raise StepsMissing("a step was appended before an episode began: call begin first")
        self._running.append(step)

    def end(self, result: EpisodeResult) -> None:
        """See `EpisodeSink`."""
        if self._running is None:
            raise StepsMissing("an episode ended that never began: call begin first")
        self._episode, self._running = self._running.episode(result), None

    def discard(self) -> None:
        """See `EpisodeSink`."""
        self._episode = self._running = None

    def take(self) -> Episode:
        """The last episode, which is then forgotten.

        Raises:
            StepsMissing: None has ended since the last call, or it was thrown away.
        """
        if self._episode is None:
            raise StepsMissing("no episode to take: none has ended since the last one, or it was thrown away")
        episode, self._episode = self._episode, None
        return episode


class _Columns:
    """A running episode."""

    def __init__(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        self._spec, self._header = spec, header
        self._steps: list[tuple[int, AnyArray, AnyArray, int, float, int]] = []
        self._frames: dict[str, list[tuple[int, AnyArray]]] = {name: [] for name in spec.observations}
        self._index: dict[str, list[int]] = {name: [] for name in spec.observations}

    def append(self, step: Step) -> None:
        seen = step.observation
        for name, frames in self._frames.items():
            stamp_ns = seen.stamp_ns - seen.age_ns[name]
            if not frames or frames[-1][0] != stamp_ns:
                frames.append((stamp_ns, seen.values[name].copy()))
            self._index[name].append(len(frames) - 1)
        self._steps.append(
            (
                seen.stamp_ns,
                step.requested.copy(),
                step.applied.copy(),
                int(step.source),
                step.reward,
                step.filter_reasons,
            )
        )

    def episode(self, result: EpisodeResult) -> Episode:
        action = self._spec.action
        columns: list[tuple[object, ...]] = [*zip(*self._steps, strict=True)] or [()] * 6
        stamps, requested, applied, source, reward, reasons = columns
        return Episode(
            spec=self._spec,
            header=self._header,
            result=result,
            stamps_ns=np.array(stamps, np.int64),
            streams=self._streams(),
            frame_index={name: np.array(index, np.int64) for name, index in self._index.items()},
            requested=np.array(requested, action.dtype).reshape(-1, *action.shape),
            applied=np.array(applied, action.dtype).reshape(-1, *action.shape),
            source=np.array(source, np.uint8),
            reward=np.array(reward, np.float32),
            filter_reasons=np.array(reasons, np.uint32),
        )

    def _streams(self) -> Mapping[str, Stream]:
        return {
            name: Stream(
                np.array([stamp_ns for stamp_ns, _ in frames], np.int64),
                np.array([values for _, values in frames], self._spec.observations[name].dtype).reshape(
                    -1, *self._spec.observations[name].shape
                ),
            )
            for name, frames in self._frames.items()
        }
