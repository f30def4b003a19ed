"""Episodes of a learning policy at the robot's own rate, one by one, with somebody who may take over, label and stop.

`finetune` and `improve` learn from them alike. Every episode is stored the moment it ends, so that stopping, Ctrl-C and
a kill cost no more than the one that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console

from data.archive.store import DatasetStore
from data.recorder.writer import EpisodeWriter
from policies.exploring_policy import ExploringPolicy
from robot_rl.core.clock import HostClock
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Outcome, Step
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Notable, Operator, Robot, drives_always
from robot_rl.core.specs import RobotSpec
from robot_rl.learning.collected import CollectedEpisode, MemorySink, takeovers
from robot_rl.runtime.ending import Ending, ending_of
from robot_rl.runtime.meeting import Meeting
from robot_rl.sessions.parallel import collected
from robot_rl.sessions.session import Session, correcting, offer_recovery
from robot_rl.sessions.setup import (
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    judge_of,
    options_for,
    runs_in_real_time,
)

NOBODY = "none"
"""Name of the operator who never acts."""

Seen = Callable[[CollectedEpisode], None]


class Scene(NamedTuple):
    """Who meets whom, not connected yet.

    Attributes:
        robot: Its spec is known.
        operator: Beside the policy.
        realtime: Whether episodes run at the robot's own rate.
    """

    robot: Robot
    operator: Operator
    realtime: bool


def scene_for(settings: SessionSettings, realtime: bool | None, workers: int) -> Scene:
    """Builds robot and operator and decides in whose time they run.

    Args:
        settings: Of the command.
        realtime: What the user wants; None leaves it to robot and operator.
        workers: Processes that the user wants.

    Raises:
        RobotRLError: Nobody could say which episodes succeed, the policy would never act, or a person cannot be in
            several processes.
    """
    robot = build_robot(settings.robot)
    operator = build_operator(correcting(settings.operator), robot.spec)
    judged = judge_of(robot) is not None
    if drives_always(operator):
        raise RobotRLError(
            f"operator '{operator.name}' drives all the time, wanted one who lets the policy drive and corrects it: "
            "operator=keyboard (a person), operator=corrector (simulated) or operator=none"
        )
    if not judged and operator.name == NOBODY:
        raise RobotRLError(
            f"robot '{robot.spec.name}' cannot tell success from failure, and operator=none labels nothing: run this "
            "with somebody beside the robot, operator=keyboard"
        )
    scene = Scene(robot, operator, runs_in_real_time(robot, operator, realtime) or not judged)
    if realtime is False and not judged:
        raise RobotRLError(f"realtime=false, but robot '{robot.spec.name}' does not judge itself: leave realtime out")
    if scene.realtime and workers != 1:
        raise RobotRLError(f"workers is {workers}, but in real time there is one robot: leave workers out")
    return scene


class LiveEpisodes(NamedTuple):
    """What a call of `LiveCollector.collect` brought.

    Attributes:
        episodes: All that ended, aborted ones too, in order.
        snapshot: Of the dataset with all of them in it.
        stopped: Whether the operator stopped the session before there were enough.
    """

    episodes: list[CollectedEpisode]
    snapshot: str
    stopped: bool


@dataclass
class _Recording:
    """An `EpisodeSink` that stores episodes and keeps them with their chains."""

    writer: EpisodeWriter
    policy: ExploringPolicy
    seen: Seen
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
        episode = collected(self.memory, self.policy)
        # A dataset keeps no episode without a tick.
        if len(episode.episode):
            self.episodes.append(episode)
            self.seen(episode)

    def discard(self) -> None:
        self.writer.discard()
        self.memory.discard()


class LiveCollector:
    """Runs episodes with an operator beside the robot. A context manager: both are connected while it is entered.

    Args:
        settings: Limits, task and rollout.
        scene: Robot and operator.
        dataset: The run's own, where every episode goes.
        recover: What to do with recordings that a crash left behind: `ask`, `yes` or `no`.
        codecs: Of a dataset that is made anew.
        console: For the person waiting.
    """

    def __init__(
        self,
        settings: SessionSettings,
        scene: Scene,
        dataset: Path,
        recover: str,
        codecs: dict[str, str],
        console: Console,
    ) -> None:
        self._settings, self._dataset, self._console = settings, dataset, console
        self._recover, self._codecs = recover, codecs
        self._robot, self._operator = scene.robot, scene.operator
        # One filter for the whole session: a latched fault is for a person to clear.
        self._filter = build_filter(scene.robot.spec, settings.limits, scene.robot)
        self._entered = ExitStack()
        self._update = ""

    @property
    def spec(self) -> RobotSpec:
        """The robot's."""
        return self._robot.spec

    def __enter__(self) -> Self:
        offer_recovery(str(self._dataset), self._recover, self._console)
        with ExitStack() as stack:
            stack.enter_context(self._robot)
            stack.enter_context(self._operator)
            # Last, so that a robot that is not there leaves the dataset alone. Leaving the writer waits for commits.
            self._writer = stack.enter_context(EpisodeWriter(str(self._dataset), self.spec, self._codecs))
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def say(self, message: str) -> None:
        """Tells the operator what the last update changed; shown from the next episode on."""
        self._update = message

    def collect(
        self,
        policy: ExploringPolicy,
        seed: int,
        wanted: int,
        known: Sequence[CollectedEpisode] = (),
        seen: Seen = lambda _: None,
    ) -> LiveEpisodes:
        """Runs episodes until enough have a label. One that was aborted, or ended without a label, is kept beside them.

        Args:
            policy: Drives until the operator takes over.
            seed: Of a first episode in an empty dataset; each has its own, so that no noise is drawn twice.
            wanted: Labelled episodes.
            known: From an earlier session; the labelled ones among them count.
            seen: Told of each episode once it is on the disk.

        Raises:
            RobotRLError: A fault ended an episode, which only a person may clear.
        """
        score = _Score(wanted, self._update, [*known])
        first = self._next_seed(seed)

        def ended(episode: CollectedEpisode) -> None:
            seen(episode)
            score.episodes.append(episode)
            self._note(str(score))
            result = episode.episode.result
            if result.outcome is Outcome.ABORTED and ending_of(result).keeps_label:
                self._console.print("it has no label, so it does not count: Y or X ends one as success or failure")

        self._note(str(score))
        sink = _Recording(self._writer, policy, ended)
        judge, task = judge_of(self._robot), self._settings.task
        session = Session(
            Meeting(self._robot, policy, self._operator, judge, HostClock(), self._filter, sink),
            options_for(policy, task, self._settings.rollout),
            task,
            self._console,
        )
        stopped = False
        while score.missing and not stopped:
            session.run(first, len(session.results) + score.missing)
            stopped = ending_of(session.results[-1]) is Ending.STOP
        # The snapshot below must hold every episode.
        if self._writer.pending():
            self._console.print("storing the last episodes; the robot waits")
        self._writer.wait()
        with DatasetStore.open(str(self._dataset)) as store:
            return LiveEpisodes(sink.episodes, store.snapshot, stopped)

    def _next_seed(self, seed: int) -> int:
        """After the newest episode's, which has the largest of its session."""
        with DatasetStore.open(str(self._dataset)) as store:
            ids = store.episode_ids()
            used = store.info(ids[-1]).header.seed if ids else -1
            return max(seed + int(store.newest_id), used) + 1

    def _note(self, message: str) -> None:
        if isinstance(self._operator, Notable):
            self._operator.note(message)


@dataclass
class _Score:
    """What the person sees below the picture: how far, how well, and what the last update changed."""

    wanted: int
    update: str
    episodes: list[CollectedEpisode]

    @property
    def missing(self) -> int:
        return max(0, self.wanted - len(labelled(self.episodes)))

    def __str__(self) -> str:
        done = labelled(self.episodes)
        won = [each for each in done if each.episode.result.outcome is Outcome.SUCCESS]
        unaided = sum(takeovers(each.episode) == 0 for each in won)
        # Short, because an 80-column terminal cuts the rest off.
        score = f"{len(done)}/{self.wanted} done: {unaided} unaided, {len(won) - unaided} helped"
        return f"{score}; {self.update}" if self.update else score


def labelled(episodes: Sequence[CollectedEpisode]) -> list[CollectedEpisode]:
    """Those that somebody called a success or a failure."""
    return [each for each in episodes if each.episode.result.outcome is not Outcome.ABORTED]
