"""`robot-rl deploy`: a policy drives the robot in real time.

With an operator who may take over and a dataset to record into it is a correction session.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from rich.console import Console

from robot_rl.config.settings import MISSING, load
from robot_rl.core.clock import HostClock
from robot_rl.core.protocols import EpisodeSink
from robot_rl.runtime.meeting import Meeting
from robot_rl.sessions.session import Session, correcting, offer_recovery, recorder_for, show_cadence
from robot_rl.sessions.setup import (
    NoSink,
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    judge_of,
    load_acting_policy,
    options_for,
)


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


def deploy(overrides: Sequence[str]) -> int:
    """Runs `robot-rl deploy`."""
    settings = load(DeploySettings, "deploy", overrides)
    console = Console()
    robot = build_robot(settings.robot)
    command_filter = build_filter(robot.spec, settings.limits, robot)
    policy = load_acting_policy(settings.policy, settings.device)
    policy.spec.require(robot.spec, f"policy {settings.policy}")
    operator = build_operator(correcting(settings.operator), robot.spec)
    judge = judge_of(robot, settings.task)
    if settings.dataset:
        offer_recovery(settings.dataset, settings.recover, console)
    with ExitStack() as stack:
        stack.enter_context(robot)
        stack.enter_context(operator)
        sink: EpisodeSink = NoSink()
        if settings.dataset:
            sink = stack.enter_context(recorder_for(settings.dataset, settings.codecs, robot, console))
        options = options_for(policy, settings.task, settings.rollout)
        who = Meeting(robot, policy, operator, judge, HostClock(), command_filter, sink)
        session = Session(who, options, settings.task, console)
        console.print(f"{settings.policy} drives {robot.spec.name} at {robot.spec.control_hz:g} Hz; Ctrl-C stops")
        try:
            session.run(settings.seed, settings.episodes)
        finally:
            show_cadence(session, console, realtime=True)
    return 0
