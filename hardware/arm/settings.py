"""What an arm node is told: the part `arm` of a robot's yaml, and what it makes of the driver's spec and limits."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from hardware.arm.state import ArmRules
from hardware.node_config import BadConfig
from robot_rl.core.section import Wanted
from robot_rl.core.specs import ActionKind, FloatArray, RobotSpec

FEWEST_ROWS_IN_WATCHDOG = 1.5


def _up_to(most: float) -> Wanted:
    """Above 0, to the largest with which no arm is left to itself for longer than is sound."""
    return Wanted(f"a number above 0 and at most {most:g}", lambda value: 0.0 < value <= most)


@dataclass
class ArmSettings:
    """The part `arm` of a robot's yaml.

    Attributes:
        driver: The in-process robot, `_target_` and its arguments.
        namespace: Of the node's topics.
        stream_hz: Rate of commands to the driver and of what it shows [Hz]; not used in lockstep.
        watchdog_s: Longest time between two commands [s]; not used in lockstep.
        deadman: A heartbeat is needed.
        deadman_timeout_s: Longest time between two heartbeats [s].
        idle_s: Longest time that motion is allowed and nobody uses it [s]; not used in lockstep.
        lockstep: Time stands still between commands, as in a simulator: one step for each.
        clock_jump_s: A change of the robot's clock against the monotonic one that stops the arm [s].
        realtime_priority: SCHED_FIFO priority of the arm's thread, where permitted; None leaves the scheduler alone.
    """

    driver: dict[str, Any]
    namespace: str
    stream_hz: Annotated[float, _up_to(2000.0)] = 100.0
    watchdog_s: Annotated[float, _up_to(10.0)] = 0.1
    deadman: bool = True
    deadman_timeout_s: Annotated[float, _up_to(10.0)] = 0.2
    idle_s: Annotated[float, _up_to(600.0)] = 10.0
    lockstep: bool = False
    clock_jump_s: Annotated[float, _up_to(10.0)] = 0.1
    realtime_priority: Annotated[int, Wanted("1 to 99", lambda value: 1 <= value <= 99)] | None = None

    def rules(self, row_hz: float) -> ArmRules:
        """The mode machine's rules for rows at a rate.

        Raises:
            BadConfig: The watchdog would bark at every row.
        """
        if self.lockstep:
            return ArmRules(self.deadman, self.deadman_timeout_s, math.inf, self.idle_s)
        if self.watchdog_s * row_hz < FEWEST_ROWS_IN_WATCHDOG:
            raise BadConfig(
                f"arm.watchdog_s is {self.watchdog_s}, too short for rows at {row_hz:g} Hz: "
                f"wanted at least {FEWEST_ROWS_IN_WATCHDOG / row_hz:.3f}"
            )
        return ArmRules(self.deadman, self.deadman_timeout_s, self.watchdog_s, self.idle_s)


def at_rate(spec: RobotSpec, hz: float) -> RobotSpec:
    """A driver's spec for rows at another rate: the bounds of a RATE dimension are per row."""
    if hz == spec.control_hz:
        return spec
    shares = 1 / unit_scales(spec, hz)
    low, high = spec.action.bounds()
    return dataclasses.replace(
        spec,
        control_hz=hz,
        action=dataclasses.replace(
            spec.action,
            low=None if spec.action.low is None else tuple((low * shares).tolist()),
            high=None if spec.action.high is None else tuple((high * shares).tolist()),
        ),
    )


def unit_scales(spec: RobotSpec, hz: float) -> FloatArray:
    """A driver's action units per unit of commands at another rate: its RATE is a displacement per its own tick."""
    ratio = hz / spec.control_hz
    return np.array([ratio if kind is ActionKind.RATE else 1.0 for kind in spec.action_kinds])
