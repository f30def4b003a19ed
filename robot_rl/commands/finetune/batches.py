"""Where `robot-rl finetune` gets its episodes: from simulations in parallel, or from a robot with a person beside it.

Simulated, a batch is a function of policy and seeds: a run that was killed does it again and finds it stored already.
With a person, an episode and its chains are stored as soon as it ends: a run that was stopped or killed goes on with
them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import track

from data.archive.schema import encode_episode
from data.archive.store import DatasetStore
from policies.exploring_policy import ExploringPolicy
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.core.specs import RobotSpec
from robot_rl.learning.collected import CollectedEpisode
from robot_rl.run.chains import KeptChains
from robot_rl.run.dataset import SIMULTANEOUS_WRITER_S, rollout_uuid
from robot_rl.sessions.live import LiveCollector, Scene, labelled, scene_for
from robot_rl.sessions.parallel import EpisodeCollector

CHAINS = "chains"


@dataclass(frozen=True)
class Batch:
    """One iteration's episodes.

    Attributes:
        episodes: In the order in which they ran.
        snapshot: Of the run's dataset with all of them in it.
        seconds: Wall time [s].
        complete: False if a person stopped the session before there were enough.
    """

    episodes: list[CollectedEpisode]
    snapshot: str
    seconds: float
    complete: bool = True


class Batches(Protocol):
    """A source of episodes. A context manager."""

    @property
    def spec(self) -> RobotSpec:
        """The robot's."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def collect(self, policy: ExploringPolicy, iteration: int) -> Batch:
        """An iteration's episodes, which are in the run's dataset when it returns."""

    def say(self, message: str) -> None:
        """Tells whoever is at the controls what the last update changed."""


def batches_for(settings: FinetuneSettings, dataset: Path, console: Console) -> Batches:
    """The source that the settings ask for.

    Raises:
        RobotRLError: See `scene_for`.
    """
    scene = scene_for(settings, settings.realtime, settings.workers)
    if scene.realtime:
        return RealTimeBatches(settings, dataset, console, scene)
    return SimulatedBatches(settings, dataset, console, scene.robot.spec)


class SimulatedBatches:
    """Episodes from simulations, over processes; one transaction per iteration."""

    def __init__(self, settings: FinetuneSettings, dataset: Path, console: Console, spec: RobotSpec) -> None:
        self._settings, self._dataset, self._console = settings, dataset, console
        self._spec = spec
        self._collector = EpisodeCollector(settings, settings.workers)

    @property
    def spec(self) -> RobotSpec:
        """The simulated robot's."""
        return self._spec

    def __enter__(self) -> Self:
        self._collector.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collector.__exit__(kind, error, trace)

    def collect(self, policy: ExploringPolicy, iteration: int) -> Batch:
        """Seeds are the iteration's own, so that an attempt after a kill meets the same episodes."""
        begun, count = time.perf_counter(), self._settings.online.episodes_per_iteration
        first = self._settings.seed + iteration * count
        running = self._collector.collect(policy, range(first, first + count))
        episodes = list(
            track(
                running,
                "collecting",
                count,
                console=self._console,
                transient=True,
                disable=not self._console.is_terminal,
            )
        )
        snapshot = append_missing(self._dataset, policy.fingerprint, episodes)
        return Batch(episodes, snapshot, time.perf_counter() - begun)

    def say(self, message: str) -> None:
        """Nobody is at the controls of a simulation."""


def append_missing(dataset: Path, fingerprint: str, episodes: Sequence[CollectedEpisode]) -> str:
    """Stores episodes in one transaction, but for those that an attempt before this one has stored.

    Args:
        dataset: The run's own.
        fingerprint: Of the policy that acted.
        episodes: One without a tick is left out.

    Returns:
        The snapshot that holds them.
    """
    with DatasetStore.open(str(dataset), writable=True, wait_s=SIMULTANEOUS_WRITER_S) as store:
        newest = store.episode_ids()[-len(episodes) :] if episodes else []
        present = {store.info(each).uuid for each in newest}
        named = [(rollout_uuid(fingerprint, each.episode.header.seed), each.episode) for each in episodes]
        missing = [
            encode_episode(episode, store.codecs, name) for name, episode in named if name not in present and episode
        ]
        return store.append_encoded(*missing) if missing else store.snapshot


class RealTimeBatches:
    """Episodes at the robot's own rate, one at a time, with an operator who may take over, label and stop."""

    def __init__(self, settings: FinetuneSettings, dataset: Path, console: Console, scene: Scene) -> None:
        self._settings, self._dataset, self._console = settings, dataset, console
        self._live = LiveCollector(settings, scene, dataset, settings.recover, settings.codecs, console)
        self._chains = KeptChains(dataset.parent / CHAINS)

    @property
    def spec(self) -> RobotSpec:
        """The spec of the robot that is connected."""
        return self._live.spec

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def collect(self, policy: ExploringPolicy, iteration: int) -> Batch:
        """Seeds go on after the episodes that are stored, so that no noise is drawn twice.

        Raises:
            RobotRLError: A fault ended an episode, which only a person may clear.
        """
        begun, wanted = time.perf_counter(), self._settings.online.episodes_per_iteration
        self._chains.forget_before(iteration)
        known = self._chains.episodes(iteration, self._dataset, policy.fingerprint)
        if known:
            self._console.print(f"iteration {iteration + 1} goes on with {len(labelled(known))} of {wanted} episodes")
        found = self._live.collect(
            policy, self._settings.seed, wanted, known, lambda episode: self._chains.keep(iteration, episode)
        )
        if not found.stopped:
            self._console.print("learning; the robot waits")
        episodes = [*known, *found.episodes]
        return Batch(episodes, found.snapshot, time.perf_counter() - begun, complete=not found.stopped)

    def say(self, message: str) -> None:
        """Shown to the operator from the next episode on."""
        self._live.say(message)
