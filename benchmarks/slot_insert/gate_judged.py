"""The gate judged: candidate updates, good and deliberately bad, against what they do on the task itself.

For every variant of SlotInsert2D and every seed: a policy is imitated, critics and a transition model are learned from
its demonstrations and rollouts, and honest offline updates move a reference on, whatever the judges say. At each
of these stages candidates of known kinds are made from the reference. Each is judged by the paired rule, by the paper's
rule and by fitted Q evaluation, and then both policies act from the same 500 starts with the same noise.

A candidate is truly worse when the 95 % interval of its paired true difference lies below 0, truly better when it lies
above 0; what lies between is counted, but is nobody's mistake.

    python -m benchmarks.slot_insert.gate_judged --output runs/benchmarks/gate_judged
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.slot_insert.imitation import imitate, new_policy
from benchmarks.slot_insert.main import Recipe, collect
from benchmarks.slot_insert.robot import SlotTask, demonstrate, outcomes
from policies.diffusion import DiffusionPolicy
from robot_rl.core.confidence import wilson_interval
from robot_rl.core.decision import SECOND_GAIN, GateDecision
from robot_rl.learning.offline.critic import IqlCritic, rank_correlation, train_critic
from robot_rl.learning.offline.dynamics import train_dynamics
from robot_rl.learning.offline.gate import PAPER_GAIN, Gate
from robot_rl.learning.offline.improver import OfflineConfig, OfflineImprover
from robot_rl.learning.offline.off_policy_evaluation import FittedQConfig, SecondOpinion
from robot_rl.learning.randomness import step_generator
from robot_rl.learning.transitions import Transitions, encode_episodes
from robot_rl.reports.summary import write_json

VARIANTS = {
    "standard": SlotTask(),
    "narrow": SlotTask(half_width=0.035),
    "wide": SlotTask(half_width=0.07),
    "shaky": SlotTask(noise=0.3, actuation_noise=0.05),
}
JUDGES = {"paired": "paired rule", "paper": "the paper's rule", "second": "fitted Q evaluation"}
TRUE_SEED = 777_000
STAGES = 3
Z = 1.96


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the judges know."""

    transitions: Transitions
    critic: IqlCritic
    gate: Gate
    opinion: SecondOpinion
    recipe: Recipe


class Reversed:
    """A critic that says the opposite."""

    def __init__(self, critic: IqlCritic) -> None:
        self._critic = critic

    def advantage(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """The advantage with its sign turned round."""
        return -self._critic.advantage(condition, chunk)


class Keeper:
    """A judge that keeps the candidate it is shown and rejects it."""

    candidate: DiffusionPolicy

    def judge(self, reference: DiffusionPolicy, candidate: DiffusionPolicy, seed: int, step: int = 0) -> GateDecision:
        """Rejects, and keeps a copy."""
        self.candidate = copy.deepcopy(candidate).eval().requires_grad_(False)
        return GateDecision(False, "kept for judging", "", 0.0, 0.0, 0.0, 0.0, 0.0, {}, step)


def updated(
    reference: DiffusionPolicy, evidence: Evidence, seed: int, *, batches: int, learning_rate: float, down: bool = False
) -> DiffusionPolicy:
    """One trust region's update of the reference, or without its limits where the learning rate breaks them."""
    ppo = dataclasses.replace(evidence.recipe.offline.ppo, learning_rate=learning_rate)
    if learning_rate > 1e-3:
        ppo = dataclasses.replace(ppo, kl_limit=None, clip=10.0)
    config = dataclasses.replace(
        evidence.recipe.offline, batches=batches, gate_every=batches, patience=1, ppo=ppo, seed=seed
    )
    keeper, critic = Keeper(), Reversed(evidence.critic) if down else evidence.critic
    OfflineImprover(reference, critic, keeper, evidence.transitions.condition, config).advance()
    return keeper.candidate


def shaken(reference: DiffusionPolicy, share: float, seed: int) -> DiffusionPolicy:
    """Noise on every weight of the denoiser, as a share of the spread of its tensor."""
    candidate = copy.deepcopy(reference)
    generator = step_generator(torch.device("cpu"), seed)
    with torch.no_grad():
        for weight in candidate.denoiser.parameters():
            scale = share * weight.std(correction=0)
            weight += scale * torch.randn(weight.shape, generator=generator)
    return candidate


def candidates(
    reference: DiffusionPolicy, before: DiffusionPolicy, early: DiffusionPolicy, evidence: Evidence, seed: int
) -> Iterator[tuple[str, DiffusionPolicy]]:
    """Candidates of every kind; the first is the honest update that the next stage begins with."""
    makers: dict[str, Callable[[], DiffusionPolicy]] = {
        "honest update": lambda: updated(reference, evidence, seed, batches=50, learning_rate=2e-4),
        "honest, half as long": lambda: updated(reference, evidence, seed + 1, batches=25, learning_rate=2e-4),
        "tiny step": lambda: updated(reference, evidence, seed + 2, batches=2, learning_rate=1e-6),
        "too large a step": lambda: updated(reference, evidence, seed + 3, batches=30, learning_rate=5e-3),
        "reversed advantage": lambda: updated(reference, evidence, seed + 4, batches=50, learning_rate=2e-4, down=True),
        "reversed, short": lambda: updated(reference, evidence, seed + 5, batches=15, learning_rate=2e-4, down=True),
        "weights shaken by 3 %": lambda: shaken(reference, 0.03, seed + 6),
        "weights shaken by 10 %": lambda: shaken(reference, 0.10, seed + 7),
        "weights shaken by 30 %": lambda: shaken(reference, 0.30, seed + 8),
        "early checkpoint": lambda: _with_denoiser(reference, early),
        "the reference before": lambda: _with_denoiser(reference, before),
    }
    for kind, make in makers.items():
        yield kind, make()


def _with_denoiser(reference: DiffusionPolicy, other: DiffusionPolicy) -> DiffusionPolicy:
    candidate = copy.deepcopy(reference)
    candidate.denoiser.load_state_dict(other.denoiser.state_dict())
    return candidate


def evidence_for(policy: DiffusionPolicy, episodes: list[Any], recipe: Recipe, seed: int) -> Evidence:
    """Trains everything that judges, on one set of episodes."""
    transitions = encode_episodes(policy, episodes, recipe.reward)
    critic, report = train_critic(transitions, dataclasses.replace(recipe.critic, seed=seed))
    dynamics, _ = train_dynamics(transitions, dataclasses.replace(recipe.dynamics, seed=seed))
    starts = transitions.condition[transitions.starts]
    gate = Gate(critic, dynamics, starts, dataclasses.replace(recipe.gate, seed=seed), report.return_range)
    opinion = SecondOpinion(transitions, FittedQConfig(steps=500, width=128, seed=seed))
    return Evidence(transitions, critic, gate, opinion, recipe)


def judged(
    kind: str, reference: DiffusionPolicy, candidate: DiffusionPolicy, evidence: Evidence, seed: int
) -> dict[str, Any]:
    """One candidate's line: what each judge said, and what is true."""
    decision = evidence.gate.judge(reference, candidate, seed)
    second = evidence.opinion.of(reference, candidate)
    task, count = evidence.recipe.task, evidence.recipe.evaluation
    old, new = (outcomes(each, count, TRUE_SEED, task).astype(float) for each in (reference, candidate))
    difference = new - old
    half = Z * float(difference.std(ddof=1)) / math.sqrt(count)
    bound = second.get("second_lower_bound", math.nan)
    return {
        "kind": kind,
        "reference_success": float(old.mean()),
        "true_gain": float(difference.mean()),
        "true_low": float(difference.mean()) - half,
        "true_high": float(difference.mean()) + half,
        "gain": {"paired": decision.gain, "paper": decision.gain, "second": second[SECOND_GAIN]},
        "accept": {
            "paired": decision.accept,
            "paper": decision.gain > 0 and decision.gain >= PAPER_GAIN * abs(decision.reference),
            "second": bound > 0.0,
        },
        "reason": decision.reason,
    }


def one_run(task: SlotTask, seed: int, recipe: Recipe, stages: int) -> list[dict[str, Any]]:
    """All candidates of one variant and seed."""
    recipe = dataclasses.replace(recipe, task=task)
    demonstrations = demonstrate(recipe.demonstrations, seed, task)
    imitation = dataclasses.replace(recipe.imitation, seed=seed)
    untrained = new_policy(demonstrations, recipe.policy, seed)
    quarter = dataclasses.replace(imitation, steps=imitation.steps // 4)
    early = imitate(copy.deepcopy(untrained), demonstrations, quarter)
    policy = imitate(untrained, demonstrations, imitation)
    evidence = evidence_for(policy, [*demonstrations, *collect(policy, recipe, 1_000 * seed + 1)], recipe, seed)
    config: OfflineConfig = recipe.offline
    reference = policy.with_exploration(config.sampling_steps, config.sigma_min, config.sigma_max)
    before, rows = early, []
    for stage in range(stages):
        place = 100 * (stages * seed + stage)
        following = reference
        for kind, candidate in candidates(reference, before, early, evidence, place):
            if stage == 0 and kind == "the reference before":
                continue
            rows.append({"stage": stage, **judged(kind, reference, candidate, evidence, place)})
            following = candidate if kind == "honest update" else following
        before, reference = reference, following
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per judge, then a line per kind of candidate."""
    worse = [row for row in rows if row["true_high"] < 0]
    better = [row for row in rows if row["true_low"] > 0]
    lines = [
        f"{len(rows)} candidates: {len(better)} truly better, {len(worse)} truly worse, "
        f"{len(rows) - len(better) - len(worse)} neither.",
        "",
        "| judge | accepted | false accepts of the accepted | of the worse, accepted | 95 % Wilson | "
        "false rejects of the better | rank correlation of gains |",
        "|---|---|---|---|---|---|---|",
    ]
    for judge, name in JUDGES.items():
        accepted = [row for row in rows if row["accept"][judge]]
        wrong = sum(row["true_high"] < 0 for row in accepted)
        missed = sum(not row["accept"][judge] for row in better)
        known = [row for row in rows if row["gain"][judge] is not None]
        correlation = rank_correlation([row["gain"][judge] for row in known], [row["true_gain"] for row in known])
        low, high = wilson_interval(wrong, len(worse))
        lines.append(
            f"| {name} | {len(accepted)} | {wrong} | {wrong} of {len(worse)} | {low:.3f} to {high:.3f} | "
            f"{missed} of {len(better)} | {correlation if correlation is None else round(correlation, 3)} |"
        )
    lines += [
        "",
        "| kind | candidates | mean true gain | " + " | ".join(JUDGES.values()) + " |",
        "|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        gain = float(np.mean([row["true_gain"] for row in mine]))
        counts = " | ".join(str(sum(row["accept"][judge] for row in mine)) for judge in JUDGES)
        lines.append(f"| {kind} | {len(mine)} | {gain:+.3f} | {counts} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1))
    parser.add_argument("--stages", type=int, default=STAGES)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for variant in options.variants:
            place = options.output / f"{variant}-{seed}.json"
            if not place.exists():
                found = one_run(VARIANTS[variant], seed, Recipe(), options.stages)
                write_json(place, {"variant": variant, "seed": seed, "candidates": found})
            rows += json.loads(place.read_text())["candidates"]
            text = summary(rows)
            (options.output / "gate_judged.md").write_text(text + "\n")
            print(f"{variant}, seed {seed}\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
