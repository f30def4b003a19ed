"""Who meets whom in an episode, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock, EpisodeSink, Judge, Operator, Policy, Robot
from robot_rl.core.specs import FloatArray


class CommandFilter(Protocol):
    """The command filter together with its state; built from `hardware.safety.filter` by the command layer.

    Attributes:
        reason_names: Name of each reason bit, for the cadence report.
    """

    reason_names: Mapping[int, str]

    def reset(self, observation: Observation) -> None:
        """Called with every observation before the first command of an episode; keeps a latched fault."""

    @property
    def doubt(self) -> str:
        """Why nothing may be sent yet, in words; empty once what was seen says where the robot is."""

    def __call__(
        self, requested: FloatArray | None, observation: Observation | None, dt_s: float, operator_alive: bool
    ) -> tuple[FloatArray, int]:
        """The command to apply and the reasons for changing the request, 0 for none.

        Args:
            requested: Shape (A,), not checked; None means nothing to execute: hold, then a ramped stop.
            observation: None while a sensor is stale.
            dt_s: Time since the last call; a tick at the first one [s].
            operator_alive: False when the operator has control and has gone silent.
        """

    @property
    def at_rest(self) -> bool:
        """Whether the last command left nothing moving."""

    @property
    def fault(self) -> str | None:
        """A latched fault in words, which ends the episode; None while all is well."""


@dataclass(frozen=True)
class Meeting:
    """Who meets whom in an episode.

    Attributes:
        robot: Connected.
        policy: None if only the operator drives.
        operator: Entered. Overrides the policy, labels, ends.
        judge: None if only the operator labels.
        clock: A `SimulatedClock` makes the episode a function of its seed; any other is real time.
        command_filter: Between every request and the robot.
        sink: Takes the steps.
        timer: Measures durations; in simulated time for the report only [ns].
    """

    robot: Robot
    policy: Policy | None
    operator: Operator
    judge: Judge | None
    clock: Clock
    command_filter: CommandFilter
    sink: EpisodeSink
    timer: Callable[[], int] = time.perf_counter_ns


@dataclass
class RolloutSettings:
    """How to run episodes. Durations in seconds.

    Attributes:
        max_ticks: Steps after which the time is up; None is no limit. Pauses do not count.
        after_success_ticks: Steps still recorded after the judge has seen success.
        execute_horizon: Rows executed of each chunk before the next one is wanted; None is all of them.
        blend_s: Cross-fade from one chunk to the next; None is 0 in simulated time, where each chunk begins exactly
            where the last one ends, and in real time 0.15 or half of the executed rows, whichever is shorter.
        handover_s: Ramp when control passes between policy and operator, either way, and after a pause.
        action_latency_s: From sending an action to the arm moving; rows are sent early by it. None is what the robot's
            yaml says (`latency.command_s`), 0 if it says nothing.
        policy_timeout_s: A policy silent for longer is a fault (real time only).
        operator_timeout_s: An operator who has control and gives no action for longer is a fault.
        stale_timeout_s: Ticks without an observation for longer than this are a fault.
        stop_timeout_s: Longest ramped stop before the robot's own stop.
        realtime_priority: SCHED_FIFO priority in real time where permitted; None leaves the scheduler alone.
    """

    max_ticks: int | None = None
    after_success_ticks: int = 0
    execute_horizon: int | None = None
    blend_s: float | None = None
    handover_s: float = 0.3
    action_latency_s: float | None = None
    policy_timeout_s: float = 2.0
    operator_timeout_s: float = 0.5
    stale_timeout_s: float = 0.5
    stop_timeout_s: float = 1.0
    realtime_priority: int | None = None

    def __post_init__(self) -> None:
        """Rejects what no episode can be run with."""
        for name in ("max_ticks", "execute_horizon"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RobotRLError(f"{name} is {value}, wanted at least 1, or none for no limit")
        for name, value in vars(self).items():
            if name.endswith("_s") and value is not None and not 0 <= value < float("inf"):
                raise RobotRLError(f"{name} is {value}, wanted a finite duration of at least 0 s")
        if self.after_success_ticks < 0:
            raise RobotRLError(f"after_success_ticks is {self.after_success_ticks}, wanted at least 0")
