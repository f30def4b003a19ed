"""What an operator's interventions are worth on SlotInsert2D: success of the policy alone against environment steps.

Per seed one imitation policy is made from imperfect demonstrations; from it, each branch learns online on as many
episodes as the others, watched by an operator of its kind, or by none. What is judged is the policy by itself: 500
fixed starts, without exploration and without anybody watching. Value networks begin from scratch, so that all a branch
knows came from its own episodes. A branch that has finished is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.slot_insert.main import EVALUATION_SEED, Recipe, imitation
from benchmarks.slot_insert.operator import SKILLS, Attention, SlotCorrector
from benchmarks.slot_insert.robot import outcomes, roll_out
from policies.diffusion import DiffusionPolicy
from robot_rl.core.confidence import bootstrap_mean_interval
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.learning.online.learner import OnlineConfig, OnlineLearner
from robot_rl.learning.online.value_learner import ValueConfig
from robot_rl.learning.transitions import RewardConfig
from robot_rl.reports.summary import write_json

ALONE = "no operator"


@dataclass(frozen=True)
class Branch:
    """One way to learn online.

    Attributes:
        skill: The operator's, one of `SKILLS`; None for nobody.
        imitation_weight: Of the imitation of the operator's rows.
        penalty: What a takeover costs the policy's last tick before it.
    """

    skill: str | None = None
    imitation_weight: float = 1.0
    penalty: float = 0.0


BRANCHES = {
    ALONE: Branch(),
    "good operator": Branch("mild"),
    "clumsy operator": Branch("clumsy"),
    "good, rows not imitated": Branch("mild", imitation_weight=0.0),
    "good, takeovers penalised": Branch("mild", penalty=1.0),
}
"""A takeover that is penalised by 1 is worth as little as a failure, if the operator then always succeeds."""


def _recipe() -> Recipe:
    recipe = Recipe(imitation=ImitationConfig(steps=1_000, warmup_steps=100))
    # An iteration has half of the method's episodes, so batches are half as large: with 48 episodes and batches of 256
    # the value network lagged, and success went from 0.52 to 0.63 in 17,000 steps instead of 0.83.
    ppo = dataclasses.replace(recipe.online.ppo, batch_size=128)
    value = ValueConfig(batch_size=128)
    recipe.online = dataclasses.replace(recipe.online, iterations=10, episodes_per_iteration=128, ppo=ppo, value=value)
    return recipe


@dataclass
class Settings:
    """Sizes.

    Attributes:
        recipe: Of the task, of imitation and of PPO; nothing else of it is used.
        attention: When operators step in.
        judged_every: Iterations between judgements.
        budgets: Environment steps at which the table looks.
    """

    recipe: Recipe = field(default_factory=_recipe)
    attention: Attention = field(default_factory=Attention)
    judged_every: int = 1
    budgets: tuple[int, ...] = (5_000, 9_000, 13_000, 19_000)

    def facts(self, branch: Branch) -> dict[str, Any]:
        """What a finished branch depends on."""
        recipe = self.recipe
        parts: dict[str, Any] = {
            name: getattr(recipe, name) for name in ("task", "policy", "imitation", "online", "reward")
        }
        parts |= {"arm": branch}
        if branch.skill is not None:
            parts |= {"attention": self.attention, "skill": SKILLS[branch.skill]}
        facts = {name: dataclasses.asdict(part) for name, part in parts.items()}
        # As they come back from the file: tuples as lists.
        known: dict[str, Any] = json.loads(
            json.dumps(facts | {"judged_every": self.judged_every, "evaluation": recipe.evaluation})
        )
        return known


@dataclass(frozen=True)
class Point:
    """A judgement, and what had been used by then.

    Attributes:
        ticks: Environment steps of all episodes so far, the operator's among them.
        operator_ticks: Those that the operator drove.
        episodes: So far.
        takeovers: So far.
        watched_successes: Episodes so far that ended well, whoever drove.
        successes: Of the policy alone, in the judgement.
        evaluated: Episodes of the judgement.
    """

    ticks: int
    operator_ticks: int
    episodes: int
    takeovers: int
    watched_successes: int
    successes: int
    evaluated: int

    @property
    def rate(self) -> float:
        """Share of the judgement's episodes that succeeded."""
        return self.successes / self.evaluated


def learn(policy: DiffusionPolicy, branch: Branch, settings: Settings, seed: int) -> list[Point]:
    """Online learning of one branch; the first point is the imitation policy."""
    recipe = settings.recipe
    config: OnlineConfig = dataclasses.replace(recipe.online, imitation_weight=branch.imitation_weight, seed=seed)
    reward: RewardConfig = dataclasses.replace(recipe.reward, intervention_penalty=branch.penalty)
    learner = OnlineLearner(policy, None, config, reward)
    operator = None if branch.skill is None else SlotCorrector(SKILLS[branch.skill], settings.attention, recipe.task)
    used = np.zeros(5)
    points = [_judged(learner.policy, used, recipe)]
    for iteration in range(config.iterations):
        seed_of_episodes = 100_000 * (seed + 1) + iteration
        episodes = roll_out(
            learner.policy, config.episodes_per_iteration, seed_of_episodes, True, recipe.task, operator
        )
        metrics = learner.update(episodes, None, iteration)
        used += [metrics[name] for name in ("ticks", "operator_ticks", "episodes", "takeovers")] + [
            metrics["success_rate"] * metrics["episodes"]
        ]
        if (iteration + 1) % settings.judged_every == 0:
            points.append(_judged(learner.policy, used, recipe))
    return points


def _judged(policy: DiffusionPolicy, used: np.ndarray, recipe: Recipe) -> Point:
    successes = int(outcomes(policy, recipe.evaluation, EVALUATION_SEED, recipe.task).sum())
    ticks, operator_ticks, episodes, takeovers, watched = (round(float(each)) for each in used)
    return Point(ticks, operator_ticks, episodes, takeovers, watched, successes, recipe.evaluation)


def run(settings: Settings, seed: int, place: Path, tell: Callable[[str], None]) -> dict[str, list[Point]]:
    """Every branch of one seed; those that have finished before are read.

    Raises:
        RobotRLError: A file is of other settings.
    """
    policy: DiffusionPolicy | None = None
    found = {}
    for name, branch in BRANCHES.items():
        file = place / f"{name.replace(',', '').replace(' ', '-')}.json"
        if not file.exists():
            policy = policy or imitation(settings.recipe, seed)[0]
            points = learn(policy, branch, settings, seed)
            write_json(file, {"facts": settings.facts(branch), "points": [dataclasses.asdict(each) for each in points]})
            last = points[-1]
            tell(
                f"seed {seed}  {name:<26} {points[0].rate:.3f} -> {last.rate:.3f} after {last.ticks} steps, "
                f"{last.operator_ticks} of them the operator's"
            )
        content = json.loads(file.read_text())
        if content["facts"] != settings.facts(branch):
            raise RobotRLError(f"{file} is of other settings than these: give another --output, or remove it")
        found[name] = [Point(**point) for point in content["points"]]
    return found


def within(points: Sequence[Point], budget: int) -> Point:
    """The newest judgement for which no more than a number of environment steps was used."""
    return [point for point in points if point.ticks <= budget][-1]


def table(runs: Mapping[int, Mapping[str, Sequence[Point]]], settings: Settings) -> str:
    """Markdown: success of the policy alone per branch and budget, and its difference from that without an operator."""
    heads = [f"{budget:,} steps" for budget in settings.budgets]
    lines = [
        f"| branch | start | {' | '.join(heads)} | operator's share of steps | in the last tenth | watched success |",
        "|---" * (len(heads) + 5) + "|",
    ]
    for name in BRANCHES:
        mine = [found[name] for found in runs.values()]
        cells = [_mean([points[0].rate for points in mine], False)]
        cells += [_mean([within(points, budget).rate for points in mine], False) for budget in settings.budgets]
        cells += [_share(mine, 0.0), _share(mine, 0.9), _watched(mine)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| minus '{ALONE}', paired by seed | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in [each for each in BRANCHES if each != ALONE]:
        cells = []
        for budget in settings.budgets:
            pairs = [(found[name], found[ALONE]) for found in runs.values()]
            cells.append(_mean([within(one, budget).rate - within(other, budget).rate for one, other in pairs], True))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values: Sequence[float], signed: bool) -> str:
    """With its bootstrap interval over seeds, where there are two."""
    style = "+.3f" if signed else ".3f"
    mean = f"{np.mean(values):{style}}"
    if len(values) < 2:
        return mean
    low, high = bootstrap_mean_interval(values, np.random.default_rng(0))
    return f"{mean} [{low:{style}}, {high:{style}}]"


def _share(branches: Sequence[Sequence[Point]], after: float) -> str:
    """The operator's share of the steps, from a share of the judgements on."""
    ends = [(points[min(round(after * (len(points) - 1)), len(points) - 2)], points[-1]) for points in branches]
    driven = sum(last.operator_ticks - first.operator_ticks for first, last in ends)
    return f"{driven / sum(last.ticks - first.ticks for first, last in ends):.2f}"


def _watched(branches: Sequence[Sequence[Point]]) -> str:
    """Share of the collected episodes that ended well, whoever drove."""
    return f"{sum(each[-1].watched_successes for each in branches) / sum(each[-1].episodes for each in branches):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2, 3, 4))
    options = parser.parse_args()
    settings = Settings()
    torch.set_num_threads(1)
    runs: dict[int, dict[str, list[Point]]] = {}
    for seed in options.seeds:
        runs[seed] = run(settings, seed, options.output / f"seed-{seed}", lambda line: print(line, flush=True))
        text = table(runs, settings)
        (options.output / "interventions.md").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()
