"""Another ROS 2 environment on this machine: its Python, its variables and programs run by it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ANSWER = "answer: "
"""Begins an answer's line; middleware writes its errors on standard output too."""
ROOT = Path(__file__).parents[4]
EXCHANGE = Path(__file__).with_name("exchange.py")
DISTRIBUTIONS = ("jazzy", "kilted")
STOP_S = 20.0
OF_ONE_ENVIRONMENT = ("LD_", "AMENT_", "ROS_", "RMW_", "PYTHON", "COLCON_", "VIRTUAL_ENV", "FASTDDS_", "FASTRTPS_")
"""Variables by which one environment's libraries would be found by another's Python."""


def variable(distribution: str) -> str:
    """Names the Python of a real ROS 2, where there is one."""
    return f"ROBOT_RL_ROS_{distribution.upper()}"


def python_of(distribution: str) -> Path | None:
    """The Python of a real ROS 2, if there is one."""
    given = os.environ.get(variable(distribution))
    return Path(given) if given else None


def clean(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without what belongs to its own ROS, and with what a neighbour needs to join.

    Real rclpy keeps to this machine by a variable of ROS's own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_ONE_ENVIRONMENT)}
    kept.pop("ROBOT_RL_ROS", None)
    joined = {"PYTHONPATH": str(ROOT), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "PYTHONUNBUFFERED": "1"}
    return kept | joined | extra


class Neighbour:
    """The exchange's other side in a process of its own.

    Args:
        python: Of its environment.
        environment: What it needs to join the domain.
        name: Of its node.
        arguments: Further ones of its command line.

    Attributes:
        errors: What it has written beside its answers; complete after it has ended.
    """

    def __init__(
        self, python: Path, environment: dict[str, str], name: str = "neighbour", arguments: Sequence[str] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [str(python), str(EXCHANGE), name, *arguments],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = ""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, command: str, **arguments: Any) -> None:
        """Sends a command; `answer` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the last command returned."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
            self.errors += line
        self.close()
        raise AssertionError(f"the neighbour ended: {self.errors}")

    def call(self, command: str, **arguments: Any) -> Any:
        """Sends a command and waits for what it returns."""
        self.begin(command, **arguments)
        return self.answer()

    def close(self) -> str:
        """Ends it; what it wrote beside its answers."""
        if not self._closed:
            self._closed = True
            try:
                output, errors = self._process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                output, errors = self._process.communicate()
            self.errors += output + errors
        return self.errors
