"""Robot and operator of one process, built once for all its episodes; in real time unless both can do without."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from robot_rl.clock import MonotonicClock, SimulatedClock
from robot_rl.rollout import ending_of, run_episode
from robot_rl.session import (
    SessionSettings,
    build_filter,
    build_operator,
    build_robot,
    header_for,
    judge_of,
    options_for,
    require_one_process,
    runs_in_real_time,
)
from robot_rl.types import EpisodeResult, EpisodeSink, Policy, RobotRLError


class ProcessEpisodes:
    """A context manager: entering connects robot and operator.

    Args:
        settings: Robot, limits, operator, task and rollout.
        processes: How many run episodes of these settings at once.

    Attributes:
        robot: Its spec is known before it is connected.

    Raises:
        RobotRLError: Several processes, but robot or operator are there only once; or a limit that makes no sense.
    """

    def __init__(self, settings: SessionSettings, processes: int = 1) -> None:
        self.robot = build_robot(settings.robot)
        self._settings = settings
        self._operator = build_operator(settings.operator, self.robot.spec)
        require_one_process(self.robot, self._operator, processes)
        # Each episode has a filter of its own; limits that make no sense are refused before anything is connected.
        build_filter(self.robot.spec, settings.limits, self.robot)
        self._connected = ExitStack()

    def __enter__(self) -> Self:
        self._connected.enter_context(self.robot)
        self._connected.enter_context(self._operator)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connected.close()

    @property
    def in_real_time(self) -> bool:
        """Whether episodes run at the robot's own rate."""
        return runs_in_real_time(self.robot, self._operator)

    def run(self, policy: Policy, sink: EpisodeSink, seed: int) -> EpisodeResult:
        """One episode, with a command filter of its own so that a simulated fault ends with it.

        Raises:
            RobotRLError: A robot that moves by itself ended it by a fault, which only a person may clear.
        """
        settings = self._settings
        result = run_episode(
            self.robot,
            policy,
            self._operator,
            judge_of(self.robot),
            MonotonicClock() if self.in_real_time else SimulatedClock(),
            build_filter(self.robot.spec, settings.limits, self.robot),
            sink,
            options_for(policy, settings.task, settings.rollout),
            seed,
            header_for(settings.task, self._operator, policy, seed),
        )
        if self.in_real_time and ending_of(result).is_fault:
            raise RobotRLError(f"{result.reason}. Look at the robot, then start the command again")
        return result
