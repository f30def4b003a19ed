"""A robot whose every failure has a name: what an arm node may call without dying of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import numpy as np

from hardware.arm.settings import unit_scales
from hardware.safety.limits import CommandLimits
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError, StaleSensor
from robot_rl.core.protocols import Judge, Judgement, KeepsTarget, Robot
from robot_rl.core.specs import ActionKind, FloatArray


class DriverFailed(RobotRLError):
    """The driver raised."""


class GuardedDriver:
    """An entered robot. Whatever it raises comes out as `DriverFailed`; that something is stale is no failure.

    Args:
        driver: The robot.
        limits: Of the commands it is given.
        command_hz: Rate of these commands [Hz].

    Attributes:
        spec: Its own.
        judges: It is a `Judge`.
    """

    def __init__(self, driver: Robot, limits: CommandLimits, command_hz: float) -> None:
        self._driver = driver
        self._limits = limits
        self._scale = unit_scales(driver.spec, command_hz)
        self.spec = driver.spec
        self.judges = isinstance(driver, Judge)

    def observe(self, robot_ns: int) -> Observation:
        """What it sees at a time on the robot's clock [ns].

        Raises:
            StaleSensor: Something is too old.
        """
        with _named("observe"):
            return self._driver.observe(robot_ns)

    def ahead(self) -> FloatArray | None:
        """How far the target that it keeps is ahead of it, action units; None if it keeps none. Shape (A,)."""
        if not isinstance(self._driver, KeepsTarget):
            return None
        with _named("say how far it is behind"):
            return self._driver.ahead()

    def reset(self, seed: int) -> None:
        """Brings it to the start of an episode."""
        with _named("reset"):
            self._driver.reset(seed)

    def apply(self, row: FloatArray) -> FloatArray:
        """Executes a row in its own units. Shapes (A,)."""
        with _named("apply a command"):
            return self._driver.apply(row)

    def apply_command(self, command: FloatArray) -> None:
        """Executes a command, made the driver's own in units and dtype, within the box. Shape (A,)."""
        row = (command * self._scale).astype(self._limits.spec.action.dtype)
        for index, axis in enumerate(self._limits.axes):
            if axis.kind is not ActionKind.RATE:
                row[index] = np.clip(row[index], axis.low, axis.high)
        self.apply(row)

    def judge(self) -> Judgement:
        """How it judges the state it is in, where `judges`."""
        with _named("judge"):
            return cast(Judge, self._driver).judge()

    def stop(self) -> None:
        """Brings it to rest."""
        with _named("stop"):
            self._driver.stop()


@contextlib.contextmanager
def _named(doing: str) -> Iterator[None]:
    try:
        yield
    except StaleSensor as error:
        if doing == "observe":
            raise
        raise DriverFailed(f"driver failed to {doing}: {error}") from error
    except RobotRLError as error:
        raise DriverFailed(f"driver failed to {doing}: {error}") from error
    except Exception as error:  # a driver is anybody's code, and the arm must be told to stop whatever it raises
        raise DriverFailed(f"driver failed to {doing}: {type(error).__name__}: {error}") from error
