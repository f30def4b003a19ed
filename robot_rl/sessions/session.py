"""One robot, one operator, many episodes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from data.archive.store import DatasetMissing, DatasetStore
from data.recorder.background_commits import CommitProgress
from data.recorder.recovery import recover, recoverable
from data.recorder.writer import EpisodeWriter
from robot_rl.core.episode import EpisodeResult, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Robot
from robot_rl.runtime import cadence
from robot_rl.runtime.ending import Ending, ending_of
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.runtime.rollout import run_episode
from robot_rl.sessions.setup import TaskSettings, header_for

PREVIOUS_RECORDER_S = 10.0
"""How long to wait for a session before this one that is still committing its last episode."""


@dataclass
class Session:
    """Everything that one session's episodes share, and what became of them.

    Attributes:
        results: Of the kept episodes.
    """

    who: Meeting
    options: RolloutSettings
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
            if ending.is_fault or self.who.command_filter.fault:
                raise RobotRLError(f"{result.reason}. Look at the robot, then start the command again")

    def episode(self, seed: int) -> EpisodeResult:
        """Runs one episode."""
        header = header_for(self.task, self.who.operator, self.who.policy, seed)
        return run_episode(self.who, self.options, seed, header)

    def _line(self, result: EpisodeResult) -> str:
        successes = sum(each.outcome is Outcome.SUCCESS for each in self.results)
        return (
            f"episode {len(self.results)}: {result.outcome} ({result.reason}), {result.ticks} ticks; "
            f"{successes} of {len(self.results)} succeeded"
        )


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


def recorder_for(dataset: str, codecs: dict[str, str], robot: Robot, console: Console) -> EpisodeWriter:
    """The recorder, which says of every episode when it is safe."""

    def tell(progress: CommitProgress) -> None:
        if progress.episode_id:
            console.print(f"[dim]saved as {progress.episode_id} in {progress.seconds:.1f} s[/dim]", highlight=False)

    return EpisodeWriter(dataset, robot.spec, codecs, on_progress=tell)


def correcting(operator: dict[str, Any]) -> dict[str, Any]:
    """Settings of an operator beside a policy: one who takes over and gives back instead of driving all the time."""
    return {**operator, "correcting": True} if "correcting" in operator else operator


def next_seed(dataset: str) -> int:
    """The seed after the largest recorded one, so that a second session does not repeat the first one's layouts."""
    try:
        with DatasetStore.open(dataset) as store:
            return max((store.info(each).header.seed for each in store.episode_ids()), default=-1) + 1
    except DatasetMissing:
        return 0


def show_cadence(session: Session, console: Console, realtime: bool) -> None:
    """The last episode's timing, where timing means something."""
    if realtime and session.results and session.results[-1].cadence:
        console.print("cadence of the last episode")
        console.print(cadence.render(session.results[-1].cadence), highlight=False)
