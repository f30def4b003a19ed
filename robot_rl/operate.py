"""`robot-rl collect` and `robot-rl deploy`: sessions of `run_episode` with somebody at the controls or watching.

Collecting is driving without a policy. Deploying runs a policy in real time; with an operator who may take over and a
dataset to record into it is a correction session.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from data.background_commits import CommitProgress
from data.episode_writer import EpisodeWriter
from data.recovery import recover, recoverable
from data.store import DatasetMissing, DatasetStore
from hardware.command_filter import FilteredCommands
from hardware.operators.replay import ReplayOperator
from robot_rl import cadence
from robot_rl.clock import MonotonicClock, SimulatedClock
from robot_rl.rollout import Ending, RolloutOptions, ending_of, run_episode
from robot_rl.session import (
    NoSink,
    SessionSettings,
    TaskSettings,
    build_filter,
    build_operator,
    build_robot,
    header_for,
    judge_of,
    load_acting_policy,
    options_for,
    runs_in_real_time,
)
from robot_rl.settings import MISSING, load
from robot_rl.types import (
    Clock,
    EpisodeResult,
    EpisodeSink,
    Operator,
    Outcome,
    Policy,
    Robot,
    RobotRLError,
)

PREVIOUS_RECORDER_S = 10.0
"""How long to wait for a session before this one that is still committing its last episode."""


@dataclass
class CollectSettings(SessionSettings):
    """Settings of `robot-rl collect`.

    Attributes:
        dataset: Directory or `s3://bucket/prefix` to record into; made if it is not there.
        episodes: How many to keep in this session.
        seed: Seed of the first episode; None goes on after the largest one recorded.
        realtime: Run at the robot's own rate; None is unless a script drives a robot whose time stands still between
            commands, which is run as fast as it computes.
        replay: `DATASET#EPISODE` to play back instead of asking an operator.
        recover: What to do with recordings that a crash left behind: `ask`, `yes` or `no`.
        codecs: Camera stream to `jpeg:<quality>` or `png`; the default is `jpeg:90`.
    """

    dataset: str = MISSING
    episodes: int = 50
    seed: int | None = None
    realtime: bool | None = None
    replay: str | None = None
    recover: str = "ask"
    codecs: dict[str, str] = field(default_factory=dict)


@dataclass
class DeploySettings(SessionSettings):
    """Settings of `robot-rl deploy`.

    Attributes:
        policy: Bundle or run directory.
        dataset: Where to record, with the operator's corrections; None records nothing.
        episodes: How many to run; None is until stopped.
        seed: Seed of the first episode.
        recover: See `CollectSettings`.
        codecs: See `CollectSettings`.
        device: Where a checkpoint runs; a bundle always runs on the CPU.
    """

    policy: str = MISSING
    dataset: str | None = None
    episodes: int | None = None
    seed: int = 200_000
    recover: str = "ask"
    codecs: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


@dataclass
class Session:
    """Everything that one session's episodes share, and what became of them.

    Attributes:
        results: Of the kept episodes.
    """

    robot: Robot
    policy: Policy | None
    operator: Operator
    clock: Clock
    command_filter: FilteredCommands
    sink: EpisodeSink
    options: RolloutOptions
    task: TaskSettings
    console: Console
    results: list[EpisodeResult] = field(default_factory=list)

    def run(self, first_seed: int, episodes: int | None) -> None:
        """Runs episodes until there are enough or the operator stops; a redo repeats the seed.

        Raises:
            RobotRLError: An episode ended by a fault, which only a person may clear; its record is kept.
        """
        while episodes is None or len(self.results) < episodes:
            result = self.episode(first_seed + len(self.results))
            ending = ending_of(result)
            if ending is Ending.REDO:
                self.console.print("thrown away; again")
                continue
            self.results.append(result)
            self.console.print(self._line(result))
            if ending is Ending.STOP:
                return
            if ending.is_fault or self.command_filter.fault:
                raise RobotRLError(f"{result.reason}. Look at the robot, then start the command again")

    def episode(self, seed: int) -> EpisodeResult:
        """Runs one episode."""
        header = header_for(self.task, self.operator, self.policy, seed)
        return run_episode(
            self.robot,
            self.policy,
            self.operator,
            judge_of(self.robot),
            self.clock,
            self.command_filter,
            self.sink,
            self.options,
            seed,
            header,
        )

    def _line(self, result: EpisodeResult) -> str:
        successes = sum(each.outcome is Outcome.SUCCESS for each in self.results)
        return (
            f"episode {len(self.results)}: {result.outcome} ({result.reason}), {result.ticks} ticks; "
            f"{successes} of {len(self.results)} succeeded"
        )


def collect(overrides: Sequence[str]) -> int:
    """Runs `robot-rl collect`."""
    settings = load(CollectSettings, "collect", overrides)
    session = collect_episodes(settings, Console())
    counts = Counter(result.outcome for result in session.results)
    console = Console()
    console.print("kept " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome))
    run = Path("runs") / Path(settings.dataset).name
    console.print(
        f"look:  robot-rl data ls {settings.dataset}\ntrain: robot-rl train dataset={settings.dataset} run={run}",
        soft_wrap=True,
    )
    return 0


def collect_episodes(settings: CollectSettings, console: Console) -> Session:
    """Records episodes and returns when the last is committed.

    Raises:
        RobotRLError: See the rooms it visits; nothing has moved when the settings are wrong.
    """
    robot = build_robot(settings.robot)
    command_filter = build_filter(robot.spec, settings.limits, robot)
    operator, seed, episodes = _who_drives(settings, robot)
    realtime = runs_in_real_time(robot, operator, settings.realtime)
    offer_recovery(settings.dataset, settings.recover, console)
    with ExitStack() as stack:
        stack.enter_context(robot)
        stack.enter_context(operator)
        # Last, so that a robot or operator that is not there leaves no empty dataset behind.
        sink = stack.enter_context(_writer(settings.dataset, settings.codecs, robot, console))
        session = Session(
            robot=robot,
            policy=None,
            operator=operator,
            clock=MonotonicClock() if realtime else SimulatedClock(),
            command_filter=command_filter,
            sink=sink,
            options=options_for(None, settings.task, settings.rollout),
            task=settings.task,
            console=console,
        )
        session.run(seed, episodes)
    _show_cadence(session, console, realtime)
    return session


def deploy(overrides: Sequence[str]) -> int:
    """Runs `robot-rl deploy`."""
    settings = load(DeploySettings, "deploy", overrides)
    console = Console()
    robot = build_robot(settings.robot)
    command_filter = build_filter(robot.spec, settings.limits, robot)
    policy = load_acting_policy(settings.policy, settings.device)
    policy.spec.require(robot.spec, f"policy {settings.policy}")
    operator = build_operator(correcting(settings.operator), robot.spec)
    if settings.dataset:
        offer_recovery(settings.dataset, settings.recover, console)
    with ExitStack() as stack:
        stack.enter_context(robot)
        stack.enter_context(operator)
        sink: EpisodeSink = NoSink()
        if settings.dataset:
            sink = stack.enter_context(_writer(settings.dataset, settings.codecs, robot, console))
        options = options_for(policy, settings.task, settings.rollout)
        session = Session(
            robot, policy, operator, MonotonicClock(), command_filter, sink, options, settings.task, console
        )
        console.print(f"{settings.policy} drives {robot.spec.name} at {robot.spec.control_hz:g} Hz; Ctrl-C stops")
        try:
            session.run(settings.seed, settings.episodes)
        finally:
            _show_cadence(session, console, realtime=True)
    return 0


def offer_recovery(dataset: str, answer: str, console: Console) -> None:
    """Brings in recordings that a crash left behind, as aborted episodes; without a person to ask, always.

    Args:
        dataset: URL.
        answer: `ask`, `yes` or `no`.
        console: Where to say so.

    Raises:
        RobotRLError: Another answer.
    """
    # A bare yes or no is a truth value to yaml.
    answer = {"True": "yes", "False": "no"}.get(answer, answer)
    if answer not in {"ask", "yes", "no"}:
        raise RobotRLError(f"recover={answer}: wanted ask, yes or no")
    left = recoverable(dataset, wait_s=PREVIOUS_RECORDER_S)
    if not left or answer == "no":
        return
    console.print(f"{len(left)} recording(s) of {dataset} were left behind by a crash")
    if answer == "ask" and sys.stdin.isatty():
        reply = console.input("recover them now? [Y/n] ")
        if reply.strip().lower().startswith("n"):
            console.print(f"left alone; later: robot-rl data recover {dataset}")
            return
    console.print(f"recovered {len(recover(dataset, wait_s=PREVIOUS_RECORDER_S))} episode(s)")


def _writer(dataset: str, codecs: dict[str, str], robot: Robot, console: Console) -> EpisodeWriter:
    """The recorder, which says of every episode when it is safe."""

    def tell(progress: CommitProgress) -> None:
        if progress.episode_id:
            console.print(f"[dim]saved as {progress.episode_id} in {progress.seconds:.1f} s[/dim]", highlight=False)

    return EpisodeWriter(dataset, robot.spec, codecs, on_progress=tell)


def _who_drives(settings: CollectSettings, robot: Robot) -> tuple[Operator, int, int]:
    """Operator, first seed and number of episodes; a replay takes all three from the stored episode."""
    if settings.replay is None:
        seed = settings.seed if settings.seed is not None else _next_seed(settings.dataset)
        return build_operator(settings.operator, robot.spec), seed, settings.episodes
    url, _, episode_id = settings.replay.rpartition("#")
    if not url:
        raise RobotRLError(f"replay={settings.replay}: wanted DATASET#EPISODE, for example datasets/peg#000003")
    with DatasetStore.open(url) as store:
        store.spec.require(robot.spec, f"episode {settings.replay}")
        episode = store.read(episode_id.zfill(6), streams=())
    return ReplayOperator(episode.requested), episode.header.seed, 1


def correcting(operator: dict[str, Any]) -> dict[str, Any]:
    """Settings of an operator beside a policy: one who takes over and gives back instead of driving all the time."""
    return {**operator, "correcting": True} if "correcting" in operator else operator


def _next_seed(dataset: str) -> int:
    """The seed after the largest recorded one, so that a second session does not repeat the first one's layouts."""
    try:
        with DatasetStore.open(dataset) as store:
            return max((store.info(each).header.seed for each in store.episode_ids()), default=-1) + 1
    except DatasetMissing:
        return 0


def _show_cadence(session: Session, console: Console, realtime: bool) -> None:
    """The last episode's timing, where timing means something."""
    if realtime and session.results and session.results[-1].cadence:
        console.print("cadence of the last episode")
        console.print(cadence.render(session.results[-1].cadence), highlight=False)
