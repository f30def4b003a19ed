"""Why an episode ends and how it is labelled."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from robot_rl.core.episode import EpisodeResult, Outcome
from robot_rl.core.protocols import Judgement


class Ending(enum.StrEnum):
    """Why an episode ended; its result's reason begins with it. See `ending_of`."""

    TASK = "task"
    OPERATOR = "operator"
    TIME_LIMIT = "time limit"
    REDO = "redo"
    STOP = "stop"
    POLICY = "policy fault"
    SENSOR = "sensor fault"
    SILENCE = "operator silent"
    FILTER = "command filter fault"
    INTERRUPT = "interrupted"
    ERROR = "error"

    @property
    def is_fault(self) -> bool:
        """Whether something broke while the loop itself goes on, so that the robot has to be ramped to rest."""
        return self in {Ending.POLICY, Ending.SENSOR, Ending.SILENCE, Ending.FILTER}

    @property
    def keeps_label(self) -> bool:
        """Whether the episode ran its course, so that it is a success or a failure; else it is aborted."""
        return self in {Ending.TASK, Ending.OPERATOR, Ending.TIME_LIMIT}


class End(NamedTuple):
    """Why an episode ends, with the particulars in words."""

    ending: Ending
    detail: str = ""

    def then(self, what: str) -> End:
        """The same end, with what happened after it and before the robot had come to rest."""
        return self._replace(detail=f"{self.detail}, then {what}" if self.detail else f"then {what}")

    def __str__(self) -> str:
        return f"{self.ending}: {self.detail}" if self.detail else str(self.ending)


def ending_of(result: EpisodeResult) -> Ending:
    """Why an episode that `run_episode` returned has ended: `REDO` asks to repeat it, `STOP` ends the session."""
    return Ending(result.reason.partition(":")[0])


@dataclass
class Verdict:
    """What the judge and the operator say about a running episode.

    Attributes:
        has_judge: Whether anybody but the operator judges.
        after_success_ticks: Ticks to go on after the judge has seen success.
        label: The operator's last one; it overrides the judge.
        ticks: Steps recorded.
        reward_sum: What those steps were rewarded with altogether.
        reward_max: Their largest reward, 0 for no steps.
    """

    has_judge: bool
    after_success_ticks: int = 0
    label: Outcome | None = None
    ticks: int = 0
    reward_sum: float = 0.0
    reward_max: float = 0.0
    _judged_success: bool | None = field(default=None, init=False)
    _ticks_to_go: int = field(default=0, init=False)

    def count(self, reward: float) -> None:
        """A step was recorded."""
        self.reward_max = reward if self.ticks == 0 else max(self.reward_max, reward)
        self.reward_sum += reward
        self.ticks += 1

    def judged(self, judgement: Judgement) -> End | None:
        """Takes a tick's judgement; the first one that is `done` decides."""
        if self._judged_success is not None:
            self._ticks_to_go -= 1
        elif judgement.done:
            self._judged_success = judgement.success
            self._ticks_to_go = self.after_success_ticks if judgement.success else 0
        if self._judged_success is None or self._ticks_to_go > 0:
            return None
        return End(Ending.TASK, "success" if self._judged_success else "failure")

    def result(self, end: End, cadence: Mapping[str, Any]) -> EpisodeResult:
        """The episode's result.

        The task has ended by itself if the judge or, ending the episode, the operator says that it succeeded or
        failed; everything else cuts it off.
        """
        outcome = self._outcome(end.ending)
        decided = self._judged_success is not None or (end.ending is Ending.OPERATOR and self.label is not None)
        terminated = decided and outcome is not Outcome.ABORTED
        return EpisodeResult(
            outcome=outcome,
            terminated=terminated,
            truncated=not terminated,
            reason=str(end),
            ticks=self.ticks,
            reward_sum=self.reward_sum,
            reward_max=self.reward_max,
            cadence=cadence,
        )

    def _outcome(self, ending: Ending) -> Outcome:
        """Nobody's label is guessed: without judge and label an episode is aborted."""
        if not ending.keeps_label:
            return Outcome.ABORTED
        if self.label is not None:
            return self.label
        if not self.has_judge:
            return Outcome.ABORTED
        return Outcome.SUCCESS if self._judged_success else Outcome.FAILURE
