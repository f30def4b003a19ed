"""What a gate decided and why, and the file that keeps every decision.

gate.jsonl    one decision per line, oldest first; a line cut off by a kill is dropped
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import append_line, whole_lines

GATE_FILE = "gate.jsonl"
REFUSED = "refused"
"""Rule of a decision that no gate could take."""
ROUND, REIMITATION, SECOND_GAIN = "round", "reimitation", "second_gain"
"""Names among a decision's evidence: in which round (from 1), whether the candidate was imitated again, and the gain by
an independent estimator, which decides nothing."""


class DamagedDecisions(RobotRLError):
    """A file of decisions holds something else."""


@dataclass(frozen=True)
class GateDecision:
    """Whether a candidate replaces the reference.

    Attributes:
        accept: Whether it does.
        reason: Why, for people.
        rule: `paired` or `paper`, or `refused` where nothing could judge.
        reference: The reference's score `J`; NaN where nothing could be scored.
        candidate: The candidate's.
        gain: Mean paired difference.
        lower_bound: One-sided lower confidence bound of the gain.
        required_gain: What the bound (rule `paired`) or the gain (rule `paper`) had to exceed.
        evidence: Further numbers behind the decision, by name.
        step: Of the algorithm when it asked.
    """

    accept: bool
    reason: str
    rule: str
    reference: float
    candidate: float
    gain: float
    lower_bound: float
    required_gain: float
    evidence: Mapping[str, float]
    step: int = 0

    @classmethod
    def refused(
        cls,
        reason: str,
        rule: str = REFUSED,
        required_gain: float = math.nan,
        evidence: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> Self:
        """A candidate that could not be scored, so that the reference stays."""
        unknown = math.nan
        return cls(False, reason, rule, unknown, unknown, unknown, unknown, required_gain, evidence or {}, step)

    @property
    def stage(self) -> str:
        """Which update was judged, for people: `round 1, after 50 batches`."""
        words = [f"round {self.evidence[ROUND]:.0f}"] if ROUND in self.evidence else []
        if REIMITATION in self.evidence:
            words.append("imitated again")
        elif self.step:
            words.append(f"after {self.step} batches")
        return ", ".join(words)

    @property
    def second_gain(self) -> float:
        """The gain by an independent estimator, which decides nothing; NaN without one."""
        return self.evidence.get(SECOND_GAIN, math.nan)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write; NaN and infinity become null."""
        document = dataclasses.asdict(self)
        document["evidence"] = {name: _number_or_none(value) for name, value in self.evidence.items()}
        return {key: _number_or_none(value) for key, value in document.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The decision that `to_json` wrote."""
        fields: dict[str, Any] = {key: math.nan if value is None else value for key, value in document.items()}
        evidence = fields["evidence"].items()
        fields["evidence"] = {name: math.nan if value is None else value for name, value in evidence}
        return cls(**fields)


def append_decision(path: Path, decision: GateDecision) -> None:
    """Adds one decision and waits until the disk holds it; half a line left by a kill is cut off first."""
    append_line(path, json.dumps(decision.to_json()))


def read_decisions(path: Path) -> list[GateDecision]:
    """Every decision, oldest first; [] without a file. A last line cut off by a kill is left out.

    Raises:
        DamagedDecisions: A whole line that is no decision.
    """
    decisions = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            decisions.append(GateDecision.from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedDecisions(f"{path}, line {number} is no gate decision: {error!r}; remove that line") from error
    return decisions


def _number_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
