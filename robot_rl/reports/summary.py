"""What a run achieved, as data: the stages of a demo, an evaluation, and the facts that make them comparable.

`robot_rl.reports.page` draws these; `summary.json` and `eval.json` hold them for programs.
"""

from __future__ import annotations

import enum
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.archive.store import DatasetStore
from robot_rl.core.confidence import Interval, wilson_interval
from robot_rl.core.decision import GateDecision
from robot_rl.core.episode import EpisodeResult, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import write_whole

FORMAT = 1


class Role(enum.StrEnum):
    """What a stage is to the reader of the table."""

    DEMONSTRATIONS = "demonstrations"
    STAGE = "stage"
    BASELINE = "baseline"
    """Another way with the same budget, shown for comparison."""


@dataclass(frozen=True)
class StageResult:
    """One row of the table.

    Attributes:
        name: For people: `imitation`, `improve, round 2`.
        seconds: Wall time the stage took [s].
        successes: Successful episodes.
        episodes: Episodes that were judged; 0 for a stage that runs none, such as an export.
        role: See `Role`.
        what: A few words on what was done.
        environment_steps: Robot ticks that the stage consumed; None if it consumed none.
        checkpoint: Which checkpoint was judged and by what rule it was chosen; empty without one.
    """

    name: str
    seconds: float
    successes: int = 0
    episodes: int = 0
    role: Role = Role.STAGE
    what: str = ""
    environment_steps: int | None = None
    checkpoint: str = ""

    @property
    def rate(self) -> float | None:
        """Share of successes; None without episodes."""
        return self.successes / self.episodes if self.episodes else None

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of the rate."""
        return wilson_interval(self.successes, self.episodes)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write, with rate and interval; both null without episodes."""
        interval = list(self.interval) if self.episodes else None
        return {**asdict(self), "role": str(self.role), "rate": self.rate, "interval": interval}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StageResult:
        """The stage that `to_json` wrote."""
        fields = {key: value for key, value in document.items() if key not in ("rate", "interval")}
        return cls(**{**fields, "role": Role(fields["role"])})


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset in figures.

    Attributes:
        url: Where it is.
        snapshot: Its snapshot id.
        outcomes: Outcome to number of episodes.
        ticks: All steps of all episodes.
        size_bytes: As stored.
        streams: Stream name to a description, such as `(4,) float32`.
    """

    url: str
    snapshot: str
    outcomes: Mapping[str, int]
    ticks: int
    size_bytes: int
    streams: Mapping[str, str] = field(default_factory=dict)

    @property
    def episodes(self) -> int:
        """Number of episodes, whatever their outcome."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class LearningCurve:
    """A `metrics.jsonl` to draw: one JSON object per line with `step` and some of `series`.

    Attributes:
        name: Which stage learned.
        metrics: The file.
        series: Key in the file to its name in the chart, the first drawn as the main line.
    """

    name: str
    metrics: Path
    series: Mapping[str, str] = field(
        default_factory=lambda: {"loss": "training loss", "held_out_loss": "held-out loss"}
    )


@dataclass(frozen=True)
class RunSummary:
    """Everything that the report of a run tells.

    Attributes:
        title: Heading.
        robot: Robot's name.
        task: Task's name.
        size: Which size of the run this was: `quick`, `full`.
        created_at: UTC, ISO 8601.
        stages: In the order in which they ran.
        dataset: What was learned from; None if it is not known.
        latency_ms: What computed the chunks (`onnxruntime, K=10`) to the time of each chunk [ms].
        curves: Learning curves.
        gate_decisions: In the order in which they were made.
        diagnostics: Heading (`critic, round 1`) to figures by name, for people.
        video: An mp4, below the run's directory; None without one.
        frames: Pictures to show when there is no video, uint8 (height, width, 3).
        next_commands: Command and what it does, to go on with.
        environment: Versions and machine, from `robot_rl.reports.machine`.
        notes: Sentences a reader must know to judge the figures.
    """

    title: str
    robot: str
    task: str
    size: str
    created_at: str
    stages: tuple[StageResult, ...]
    dataset: DatasetFacts | None = None
    latency_ms: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    curves: tuple[LearningCurve, ...] = ()
    gate_decisions: tuple[GateDecision, ...] = ()
    diagnostics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    video: Path | None = None
    frames: tuple[npt.NDArray[np.uint8], ...] = ()
    next_commands: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> StageResult | None:
        """The last stage that was judged, baselines aside; None if none was."""
        judged = [stage for stage in self.stages if stage.episodes and stage.role is Role.STAGE]
        return judged[-1] if judged else None


@dataclass(frozen=True)
class EvaluationIdentity:
    """What was evaluated.

    Attributes:
        robot: Robot's name.
        task: Task's name.
        policy: Where the policy came from.
        policy_hash: Fingerprint of its weights.
        dataset: URL of the dataset it was trained on.
        dataset_snapshot: Snapshot of that dataset.
        software_version: robot-rl's.
        clock: `simulated` or `real time`.
    """

    robot: str
    task: str
    policy: str
    policy_hash: str
    dataset: str
    dataset_snapshot: str
    software_version: str
    clock: str


def latency_facts(milliseconds: npt.ArrayLike) -> dict[str, float | int | None]:
    """Count, p50, p99 and maximum of latencies [ms], null where there are none; only finite values count."""
    values = np.asarray(milliseconds, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(values, [50, 99])
    return {"count": int(values.size), "p50": float(p50), "p99": float(p99), "max": float(values.max())}


def summary_document(summary: RunSummary) -> dict[str, Any]:
    """Content of `summary.json`: per stage successes, episodes, interval and seconds, and the run's facts."""
    dataset = None
    if summary.dataset:
        dataset = {
            **asdict(summary.dataset),
            "url": public_text(summary.dataset.url),
            "episodes": summary.dataset.episodes,
        }
    return {
        "format": FORMAT,
        "title": summary.title,
        "robot": summary.robot,
        "task": summary.task,
        "size": summary.size,
        "created_at": summary.created_at,
        "seconds": sum(stage.seconds for stage in summary.stages),
        "stages": [stage.to_json() for stage in summary.stages],
        "latency_ms": {name: latency_facts(values) for name, values in summary.latency_ms.items()},
        "dataset": dataset,
        "gate_decisions": [_decision_row(each) for each in summary.gate_decisions],
        "diagnostics": {name: dict(rows) for name, rows in summary.diagnostics.items()},
        "environment": dict(summary.environment),
        "notes": list(summary.notes),
    }


def _decision_row(decision: GateDecision) -> dict[str, Any]:
    """A decision with what the page says of it."""
    told = {"stage": decision.stage, "accepted": decision.accept, "second_gain": decision.second_gain}
    return {**told, **decision.to_json()}


def evaluation_document(
    identity: EvaluationIdentity,
    seeds: Sequence[int],
    results: Sequence[EpisodeResult],
    latency_ms: npt.ArrayLike = (),
) -> dict[str, Any]:
    """Content of `eval.json`.

    An aborted episode counts as one that did not succeed: leaving out episodes in which a policy failed to answer
    would flatter it. `outcomes` says how many there were.

    Args:
        identity: What was evaluated.
        seeds: Seed of each episode.
        results: How each ended.
        latency_ms: Time of each chunk [ms].

    Raises:
        RobotRLError: Seeds and results differ in number.
    """
    if len(seeds) != len(results):
        raise RobotRLError(f"{len(seeds)} seeds for {len(results)} episodes: an evaluation needs one seed per episode")
    outcomes = Counter(result.outcome for result in results)
    successes = outcomes[Outcome.SUCCESS]
    best = [result.reward_max for result in results]
    return {
        "format": FORMAT,
        **asdict(identity),
        "successes": successes,
        "episodes": len(results),
        "rate": successes / len(results) if results else None,
        "interval": list(wilson_interval(successes, len(results))) if results else None,
        "outcomes": {str(outcome): outcomes[outcome] for outcome in Outcome},
        "reward_max": {"mean": float(np.mean(best)), "max": float(np.max(best))} if best else None,
        "reward_sum": {"mean": float(np.mean([result.reward_sum for result in results]))} if results else None,
        "latency_ms": latency_facts(latency_ms),
        "seeds": [int(seed) for seed in seeds],
        "rows": [_row(int(seed), result) for seed, result in zip(seeds, results, strict=True)],
    }


def _row(seed: int, result: EpisodeResult) -> dict[str, Any]:
    return {
        "seed": seed,
        "outcome": str(result.outcome),
        "terminated": result.terminated,
        "truncated": result.truncated,
        "reason": result.reason,
        "ticks": result.ticks,
        "reward_sum": float(result.reward_sum),
        "reward_max": float(result.reward_max),
    }


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Writes a document whole or not at all; what is not finite becomes null, since JSON knows no NaN."""
    return write_whole(path, json.dumps(_finite(document), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def public_text(text: str) -> str:
    """The text without the paths of this machine: relative to the working directory, else to the home directory."""
    for private, shown in ((Path.cwd(), ""), (Path.home(), "~/")):
        if private != Path(private.anchor):
            text = text.replace(f"{private}{os.sep}", shown)
    return text


def dataset_facts(url: str) -> DatasetFacts:
    """A dataset's newest state in figures."""
    with DatasetStore.open(url) as store:
        infos = [store.info(each) for each in store.episode_ids()]
        return DatasetFacts(
            url=url,
            snapshot=store.snapshot,
            outcomes=dict(Counter(str(info.result.outcome) for info in infos)),
            ticks=sum(info.result.ticks for info in infos),
            size_bytes=sum(info.bytes for info in infos),
            streams={name: f"{spec.shape} {spec.dtype}" for name, spec in store.spec.observations.items()},
        )
