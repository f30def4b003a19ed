"""The iterations of `robot-rl finetune`: collect, update, keep, and say what changed.

Legend: `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension, `C` size of the encoding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from policies.exploring_policy import ExploringPolicy
from policies.trainable import Trainable
from robot_rl.commands.finetune.batches import Batch, Batches
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.core.confidence import OwnRollouts, wilson_interval
from robot_rl.core.episode import EpisodeResult, Outcome
from robot_rl.learning.collected import CollectedEpisode, takeovers
from robot_rl.learning.encoded_imitation import EncodedWindows
from robot_rl.learning.online.advantages import NoDecisions, policy_segments
from robot_rl.learning.online.best_so_far import BestSoFar
from robot_rl.learning.online.learner import OnlineLearner
from robot_rl.learning.randomness import step_generator
from robot_rl.run.checkpoint import save_checkpoint
from robot_rl.run.metrics import MetricsLog, read_metrics
from robot_rl.runtime.ending import Ending

PROBES = 256
"""States at which the policy is asked before and after every update."""
STUDENT = "student"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        iteration: Iterations done.
        ticks: Robot ticks of all its episodes so far, learned from or not.
        snapshot: Of the run's dataset.
        probes: Encodings of states, the same for the whole run; None before the first batch. Shape (P, C).
        metrics: Of the newest iteration.
    """

    iteration: int = 0
    ticks: int = 0
    snapshot: str = ""
    probes: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class FinetuneLoop:
    """Everything that iterations share.

    Attributes:
        settings: See `FinetuneSettings`.
        learner: Improves the policy.
        directory: Of the run.
        record: What every checkpoint says about itself, but for its snapshot.
        demonstrations: To imitate besides; None for none.
    """

    settings: FinetuneSettings
    learner: OnlineLearner
    directory: Path
    record: Mapping[str, Any]
    demonstrations: EncodedWindows | None = None
    _probe_noise: Tensor | None = field(default=None, init=False)
    _best: BestSoFar = field(default_factory=BestSoFar, init=False)

    def run(self, batches: Batches, progress: Progress, console: Console) -> bool:
        """Iterates to the last one; False if a person stopped before."""
        iterations = self.settings.online.iterations
        with MetricsLog(self.directory, progress.iteration, self.settings.tracker, dict(self.record)) as log:
            if progress.metrics and not any(
                line["step"] == progress.iteration for line in read_metrics(self.directory)
            ):
                # A kill came between the checkpoint and its line.
                log.log(progress.iteration, progress.metrics)
            if progress.metrics:
                batches.say(describe_update(progress))
            while progress.iteration < iterations:
                batch = batches.collect(self._explorer(), progress.iteration)
                if not batch.complete:
                    console.print(
                        f"stopped  in iteration {progress.iteration + 1} of {iterations}; its {len(batch.episodes)} "
                        f"episode(s) are in {self.directory / 'dataset'}, and the same command goes on with them"
                    )
                    return False
                metrics = self.iterate(batch, progress)
                log.log(progress.iteration, metrics)
                console.print(describe(metrics, progress, iterations, self.learner.problem))
                batches.say(describe_update(progress))
        return True

    def iterate(self, batch: Batch, progress: Progress) -> dict[str, float]:
        """Learns from a batch and keeps the result; moves `progress` on.

        Returns:
            What `metrics.jsonl` says of the iteration.
        """
        begun = time.perf_counter()
        if progress.probes is None:
            progress.probes = self._probes(batch.episodes)
        before = self._answers(progress.probes)
        outcomes = _outcomes(batch.episodes)
        metrics = self._learn(batch, OwnRollouts(*map(int, _own(outcomes))), progress.iteration)
        after = self._answers(progress.probes)
        progress.iteration += 1
        progress.ticks += sum(len(each.episode) for each in batch.episodes)
        progress.snapshot = batch.snapshot
        if before is not None and after is not None:
            metrics["action_change"] = float((after - before).abs().mean())
        metrics |= outcomes
        metrics["total_ticks"] = float(progress.ticks)
        metrics |= {"collect_seconds": batch.seconds, "update_seconds": time.perf_counter() - begun}
        progress.metrics = metrics
        self._save(progress)
        return metrics

    def _learn(self, batch: Batch, own: OwnRollouts, iteration: int) -> dict[str, float]:
        """Learns from a batch, or takes back what made it worse than the best policy's."""
        if self._best.has_fallen(own, self.settings.online.veto_level):
            self.learner.take_back(self._best.go_back())
            return {"undone": 0.0, "taken_back": 1.0, **self.learner.watch(batch.episodes)}
        self._best.note(own, self.learner.state())
        return self.learner.update(batch.episodes, self.demonstrations, iteration)

    def load(self, checkpoint: Path, state: Mapping[str, Any]) -> Progress:
        """Goes back to where a checkpoint was written."""
        self.learner.load_state(state["learner"])
        self._best = BestSoFar.from_document(state["best"])
        self.learner.policy.to(self.learner.device)
        progress = Progress(
            int(checkpoint.name), int(state["ticks"]), str(state["snapshot"]), state["probes"], dict(state["metrics"])
        )
        if progress.probes is not None:
            progress.probes = progress.probes.to(self.learner.device)
        # A kill may have come between the two checkpoints.
        self._save_student(progress)
        return progress

    def _explorer(self) -> ExploringPolicy:
        return ExploringPolicy(self.learner.policy, provenance=self.record["provenance"])

    def _save(self, progress: Progress) -> None:
        state = {
            "learner": self.learner.state(),
            "best": self._best.document(),
            "ticks": progress.ticks,
            "snapshot": progress.snapshot,
            "probes": progress.probes,
            "metrics": progress.metrics,
        }
        record = self._record_of(self.learner.policy, progress)
        save_checkpoint(self.directory, progress.iteration, self.learner.policy, state, record)
        self._save_student(progress)

    def _save_student(self, progress: Progress) -> None:
        student = self.learner.student
        if student is not None:
            record = self._record_of(student, progress)
            save_checkpoint(self.directory / STUDENT, progress.iteration, student, {}, record)

    def _record_of(self, policy: Trainable, progress: Progress) -> dict[str, Any]:
        kind = type(policy)
        provenance = {**self.record["provenance"], "snapshot": progress.snapshot, "environment_steps": progress.ticks}
        return {
            **self.record,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "config": policy.config.to_json(),
            "provenance": provenance,
        }

    def _probes(self, episodes: Sequence[CollectedEpisode]) -> Tensor | None:
        """States spread evenly over the first batch's decisions."""
        try:
            condition = policy_segments(self.learner.policy, episodes, self.settings.reward).condition
        except NoDecisions:
            return None
        index = torch.linspace(0, len(condition) - 1, min(PROBES, len(condition))).round().long()
        return condition[index.to(condition.device)].clone()

    @torch.no_grad()
    def _answers(self, probes: Tensor | None) -> Tensor | None:
        """What the policy would execute at the probes, for the same noise every time, normalised. Shape (P, n, A)."""
        if probes is None:
            return None
        policy = self.learner.policy
        if self._probe_noise is None:
            generator = step_generator(probes.device, self.settings.online.seed, PROBES)
            shape = (len(probes), *policy.noise_shape)
            self._probe_noise = torch.randn(shape, generator=generator, device=probes.device)
        return policy.denoise(probes, self._probe_noise).states[:, -1, : policy.execute_horizon]


def _outcomes(episodes: Sequence[CollectedEpisode]) -> dict[str, float]:
    """How the batch ended. A fault is no success; an episode that somebody stopped or did not label says nothing."""
    ran = [each.episode for each in episodes if _ran_its_course(each.episode.result)]
    succeeded = [each.result.outcome is Outcome.SUCCESS for each in ran]
    helped = [takeovers(each) > 0 for each in ran]
    return {
        "collected": float(len(ran)),
        "successes": float(sum(succeeded)),
        "unaided_successes": float(sum(won and not help_ for won, help_ in zip(succeeded, helped, strict=True))),
        "helped_episodes": float(sum(helped)),
    }


def _own(outcomes: Mapping[str, float]) -> tuple[float, float]:
    """Successes that the policy had without help, and episodes."""
    return outcomes["unaided_successes"], outcomes["collected"]


def _ran_its_course(result: EpisodeResult) -> bool:
    faults = tuple(str(each) for each in Ending if each.is_fault)
    return result.outcome is not Outcome.ABORTED or result.reason.startswith(faults)


def describe_update(progress: Progress) -> str:
    """The newest update in a few words, for a line of the operator's screen."""
    metrics = progress.metrics
    if metrics["undone"]:
        change = "was undone"
    elif metrics.get("taken_back"):
        change = "took back the ones before"
    elif "action_change" in metrics:
        change = f"moved actions {metrics['action_change']:.2g}"
    else:
        # No decision was left to compare at: the operator drove.
        change = "done"
    unaided, episodes = int(metrics["unaided_successes"]), int(metrics["collected"])
    return f"update {progress.iteration} {change}, was {unaided}/{episodes} unaided"


def describe(metrics: Mapping[str, float], progress: Progress, iterations: int, problem: str | None) -> str:
    """An iteration in one line."""
    episodes, unaided = int(metrics["collected"]), int(metrics["unaided_successes"])
    low, high = wilson_interval(unaided, episodes)
    words = [
        f"iteration {progress.iteration}/{iterations}: {unaided} of {episodes} succeeded without help "
        f"({unaided / max(1, episodes):.2f}, {low:.2f} to {high:.2f})"
    ]
    if metrics["helped_episodes"]:
        words.append(
            f"{int(metrics['successes'])} with it; {int(metrics['takeovers'])} takeovers, "
            f"{metrics['operator_ticks'] / max(1.0, metrics['ticks']):.0%} of the ticks"
        )
    words.append(f"{progress.ticks:,} ticks so far")
    if metrics.get("taken_back"):
        return "; ".join([*words, "taken back: significantly worse than the best so far, which acts again"])
    if problem is not None:
        return "; ".join([*words, f"update undone: {problem}"])
    changes = [
        f"{what} {metrics[name]:.3g}"
        for name, what in (
            ("kl_after", "KL"),
            ("action_change", "actions moved"),
            ("value_explained_variance", "value explains"),
            ("imitation_loss", "imitation loss"),
        )
        if name in metrics
    ]
    return "; ".join([*words, f"update: {', '.join(changes) or 'nothing'}"])
