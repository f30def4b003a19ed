"""Robot and operator of one process, built once for all its episodes in simulated time."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from robot_rl.clock import SimulatedClock
from robot_rl.rollout import run_episode
from robot_rl.session import (
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    header_for,
    judge_of,
    options_for,
)
from robot_rl.types import EpisodeResult, EpisodeSink, Policy


class SimulatedEpisodes:
    """A context manager: entering connects robot and operator.

    Args:
        settings: Robot, limits, operator, task and rollout.

    Attributes:
        robot: Its spec is known before it is connected.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self.robot = build_robot(settings.robot)
        self._settings = settings
        self._operator = build_operator(settings.operator, self.robot.spec)
        self._connected = ExitStack()

    def __enter__(self) -> Self:
        self._connected.enter_context(self.robot)
        self._connected.enter_context(self._operator)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connected.close()

    def run(self, policy: Policy, sink: EpisodeSink, seed: int) -> EpisodeResult:
        """One episode, with a command filter of its own so that a fault ends with it."""
        settings = self._settings
        return run_episode(
            self.robot,
            policy,
            self._operator,
            judge_of(self.robot),
            SimulatedClock(),
            build_filter(self.robot.spec, settings.limits),
            sink,
            options_for(policy, settings.task, settings.rollout),
            seed,
            header_for(settings.task, self._operator, policy, seed),
        )
