"""Where `robot-rl finetune` gets its episodes: from simulations in parallel, or from a robot with a person beside it.

Simulated, a batch is a function of policy and seeds: a run that was killed does it again and finds it stored already.
With a person, every episode is stored as soon as it ends; what a kill takes away is only what would have been learned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import track

from data.episode_writer import EpisodeWriter
from data.schema import encode_episode
from data.store import DatasetStore
from policies.exploring_policy import ExploringPolicy
from robot_rl.clock import MonotonicClock
from robot_rl.collected import CollectedEpisode, MemorySink
from robot_rl.collector import EpisodeCollector, collected
from robot_rl.finetune_settings import FinetuneSettings
from robot_rl.operate import Session, offer_recovery
from robot_rl.rollout import Ending, ending_of
from robot_rl.run_dataset import SIMULTANEOUS_WRITER_S, rollout_uuid
from robot_rl.session import build_filter, build_operator, build_robot, judge_of, options_for
from robot_rl.types import EpisodeHeader, EpisodeResult, Operator, Robot, RobotRLError, RobotSpec, Step

NOBODY = "none"
"""Name of the operator who never acts."""


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
        RobotRLError: Nobody could say which episodes succeed, or a person cannot be in several processes.
    """
    robot = build_robot(settings.robot)
    operator = build_operator(correcting(settings), robot.spec)
    judged, person = judge_of(robot) is not None, bool(getattr(operator, "needs_real_time", False))
    if not judged and operator.name == NOBODY:
        raise RobotRLError(
            f"robot '{robot.spec.name}' cannot tell success from failure, and operator=none labels nothing: finetune "
            "with somebody beside the robot, operator=keyboard"
        )
    realtime = (person or not judged) if settings.realtime is None else settings.realtime
    if not realtime and (person or not judged):
        raise RobotRLError("realtime=false needs a simulated robot and an operator who is no person")
    if not realtime:
        return SimulatedBatches(settings, dataset, console, robot.spec)
    if settings.workers != 1:
        raise RobotRLError(f"workers is {settings.workers}, but in real time there is one robot: leave workers out")
    return RealTimeBatches(settings, dataset, console, robot, operator)


def correcting(settings: FinetuneSettings) -> dict[str, object]:
    """The operator's settings: beside a policy a person takes over and gives back instead of driving all the time."""
    operator = settings.operator
    return {**operator, "correcting": True} if "correcting" in operator else operator


class SimulatedBatches:
    """Episodes from simulations, over processes; one transaction per iteration."""

    def __init__(self, settings: FinetuneSettings, dataset: Path, console: Console, spec: RobotSpec) -> None:
        self._settings, self._dataset, self._console = settings, dataset, console
        self._spec = spec
        self._collector = EpisodeCollector(settings, settings.workers)

    @property
    def spec(self) -> RobotSpec:
        """See `Batches`."""
        return self._spec

    def __enter__(self) -> Self:
        self._collector.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collector.__exit__(kind, error, trace)

    def collect(self, policy: ExploringPolicy, iteration: int) -> Batch:
        """See `Batches`; the seeds are the iteration's own."""
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
        """See `Batches`; nobody is there."""


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


@dataclass
class _Recording:
    """An `EpisodeSink` that stores episodes and keeps them with their chains."""

    writer: EpisodeWriter
    policy: ExploringPolicy
    episodes: list[CollectedEpisode] = field(default_factory=list)
    memory: MemorySink = field(default_factory=MemorySink)

    def begin(self, spec: RobotSpec, header: EpisodeHeader) -> None:
        self.writer.begin(spec, header)
        self.memory.begin(spec, header)

    def append(self, step: Step) -> None:
        self.writer.append(step)
        self.memory.append(step)

    def end(self, result: EpisodeResult) -> None:
        self.writer.end(result)
        self.memory.end(result)
        self.episodes.append(collected(self.memory, self.policy))

    def discard(self) -> None:
        self.writer.discard()
        self.memory.discard()


class RealTimeBatches:
    """Episodes at the robot's own rate, one at a time, with an operator who may take over, label and stop."""

    def __init__(
        self, settings: FinetuneSettings, dataset: Path, console: Console, robot: Robot, operator: Operator
    ) -> None:
        self._settings, self._dataset, self._console = settings, dataset, console
        self._robot, self._operator = robot, operator
        # One filter for the whole session: a latched fault is for a person to clear.
        self._filter = build_filter(robot.spec, settings.limits)
        self._entered = ExitStack()

    @property
    def spec(self) -> RobotSpec:
        """See `Batches`."""
        return self._robot.spec

    def __enter__(self) -> Self:
        offer_recovery(str(self._dataset), self._settings.recover, self._console)
        with ExitStack() as stack:
            stack.enter_context(self._robot)
            stack.enter_context(self._operator)
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def collect(self, policy: ExploringPolicy, iteration: int) -> Batch:
        """See `Batches`; the seeds go on after the episodes that are stored, so that no noise is drawn twice.

        Raises:
            RobotRLError: A fault ended an episode, which only a person may clear.
        """
        settings, begun = self._settings, time.perf_counter()
        wanted = settings.online.episodes_per_iteration
        with DatasetStore.open(str(self._dataset)) as store:
            first = settings.seed + int(store.newest_id) + 1
        # Leaving the writer waits for its commits, so that the snapshot below holds every episode.
        with EpisodeWriter(str(self._dataset), self.spec, settings.codecs) as writer:
            sink = _Recording(writer, policy)
            session = Session(
                robot=self._robot,
                policy=policy,
                operator=self._operator,
                clock=MonotonicClock(),
                command_filter=self._filter,
                sink=sink,
                options=options_for(policy, settings.task, settings.rollout),
                task=settings.task,
                console=self._console,
            )
            session.run(first, wanted)
        with DatasetStore.open(str(self._dataset)) as store:
            stopped = ending_of(session.results[-1]) is Ending.STOP
            return Batch(sink.episodes, store.snapshot, time.perf_counter() - begun, complete=not stopped)

    def say(self, message: str) -> None:
        """See `Batches`."""
        note = getattr(self._operator, "note", None)
        if note is not None:
            note(message)
