"""Episodes as reinforcement learning takes them: what happened, and by which denoising chains the policy decided.

Legend: `K` denoising steps, `H` chunk length, `A` action dimension, `T` ticks in an episode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Source, Step
from robot_rl.core.episode_builder import EpisodeBuilder
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec


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
    """An `EpisodeSink` that keeps the last episode in memory."""

    def __init__(self) -> None:
        self._episode: Episode | None = None
        self._running: tuple[EpisodeHeader, EpisodeBuilder] | None = None

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        """Starts an episode; one that runs already is forgotten, and so is one that nobody took."""
        self._episode, self._running = None, (header, EpisodeBuilder(spec))

    def append(self, step: Step) -> None:
        """Takes one step; values are copied, so the robot may use its buffers again."""
        if self._running is None:
            raise StepsMissing("a step was appended before an episode began: call begin first")
        self._running[1].append(step)

    def end(self, result: EpisodeResult) -> None:
        """Completes the episode, for `take`."""
        if self._running is None:
            raise StepsMissing("an episode ended that never began: call begin first")
        header, builder = self._running
        self._episode, self._running = builder.episode(header, result), None

    def discard(self) -> None:
        """Throws the episode away, running or ended."""
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
