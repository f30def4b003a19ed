"""`robot-rl collect`: an operator drives, episodes are recorded; a script or a person, at a robot or a simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from data.archive.store import DatasetStore
from hardware.operators.simulated.replay import ReplayOperator
from robot_rl.config.settings import MISSING, load
from robot_rl.core.clock import HostClock, SimulatedClock
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Operator, Robot
from robot_rl.runtime.meeting import Meeting
from robot_rl.sessions.session import Session, next_seed, offer_recovery, recorder_for, show_cadence
from robot_rl.sessions.setup import (
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    judge_of,
    options_for,
    runs_in_real_time,
)


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
    judge = judge_of(robot, settings.task)
    realtime = runs_in_real_time(robot, operator, settings.realtime)
    offer_recovery(settings.dataset, settings.recover, console)
    with ExitStack() as stack:
        stack.enter_context(robot)
        stack.enter_context(operator)
        # Last, so that a robot or operator that is not there leaves no empty dataset behind.
        sink = stack.enter_context(recorder_for(settings.dataset, settings.codecs, robot, console))
        clock = HostClock() if realtime else SimulatedClock()
        who = Meeting(robot, None, operator, judge, clock, command_filter, sink)
        session = Session(who, options_for(None, settings.task, settings.rollout), settings.task, console)
        session.run(seed, episodes)
    show_cadence(session, console, realtime)
    return session


def _who_drives(settings: CollectSettings, robot: Robot) -> tuple[Operator, int, int]:
    """Operator, first seed and number of episodes; a replay takes all three from the stored episode."""
    if settings.replay is None:
        seed = settings.seed if settings.seed is not None else next_seed(settings.dataset)
        return build_operator(settings.operator, robot.spec), seed, settings.episodes
    url, _, episode_id = settings.replay.rpartition("#")
    if not url:
        raise RobotRLError(f"replay={settings.replay}: wanted DATASET#EPISODE, for example datasets/peg#000003")
    with DatasetStore.open(url) as store:
        store.spec.require(robot.spec, f"episode {settings.replay}")
        episode = store.read(episode_id.zfill(6), streams=())
    return ReplayOperator(episode.requested), episode.header.seed, 1
