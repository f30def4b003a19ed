"""What one check of the machine found, and how to run a check that may crash, hang or kill its process."""

from __future__ import annotations

import enum
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from robot_rl.core.errors import RobotRLError
from robot_rl.core.version import SOURCE_ROOT


class Status(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    """Works, but not as well as it could."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: What was looked at.
        status: See `Status`.
        detail: What was found, with figures.
        remedy: The command, package or file that changes it; empty if nothing needs to change.
        required: Whether the simulated path cannot run without it.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    required: bool = False

    @property
    def is_blocking(self) -> bool:
        """Whether the simulated path cannot run because of this."""
        return self.required and self.status is Status.MISSING

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return {
            "name": self.name,
            "status": str(self.status),
            "detail": self.detail,
            "remedy": self.remedy,
            "required": self.required,
        }


class Check(NamedTuple):
    """A question to the machine."""

    name: str
    ask: Callable[[], Finding]
    required: bool = False

    def run(self) -> Finding:
        """The finding; a check that crashes is itself one, since the other checks must still be heard."""
        try:
            return replace(self.ask(), required=self.required)
        except Exception as error:
            status = Status.MISSING if self.required else Status.WARN
            detail = f"the check failed: {type(error).__name__}: {error}"
            remedy = "" if isinstance(error, RobotRLError) else "please report this line as a bug"
            return Finding(self.name, status, detail, remedy, self.required)


class ProbeFailed(RobotRLError):
    """A probe's process died, hung or gave no answer."""


class ProbeRefused(ProbeFailed):
    """A probe answered with an error that says itself what to do."""


def run_probe(module: str, arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """What a probe found, asked in a process of its own; `write_answer` is the other end.

    A broken GL library ends its process, a camera driver can hang for ever, and torch takes seconds to load: none of
    them may take the doctor along.

    Args:
        module: Module to run; its last line on standard output must be a JSON object.
        arguments: Passed to it.
        timeout_s: How long it may take [s].

    Raises:
        ProbeRefused: Its own error, for the user.
        ProbeFailed: Says how it died, with its last words.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"no answer within {timeout_s:g} s") from None
    if done.returncode < 0:
        raise ProbeFailed(f"its process was killed by {signal.Signals(-done.returncode).name}")
    last_words = _last_words(done.stderr)
    if done.returncode > 0:
        raise ProbeFailed(last_words)
    return _last_json_line(done.stdout, last_words)


def _last_words(errors: str) -> str:
    """The line of a traceback that names the error; what follows it, indented, are the error's own details."""
    lines = [line for line in errors.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1] if lines else "no message"


def _last_json_line(output: str, last_words: str) -> dict[str, Any]:
    """Libraries chat on standard output; the probe's answer is the last line."""
    try:
        answer = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise ProbeFailed(f"it gave no answer ({last_words})") from None
    if not isinstance(answer, dict):
        raise ProbeFailed(f"its answer is no JSON object: {answer!r}")
    if "error" in answer:
        raise ProbeRefused(str(answer["error"]))
    return answer


def write_answer(ask: Callable[[], dict[str, Any]]) -> int:
    """Runs a probe in its own process and writes its answer, or the error that it raised for the user."""
    try:
        answer = ask()
    except RobotRLError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0
