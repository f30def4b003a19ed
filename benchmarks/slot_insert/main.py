"""The whole method on SlotInsert2D: imitation, gated offline RL, online RL, a one-step policy, and the control arm.

Per seed: 100 imperfect demonstrations are imitated; then, for each round, critics and a transition model are trained on
all data so far, the policy is improved behind the gate, collects rollouts and, but for the last round, imitates the
successes of the grown data. The control arm spends the same rollouts on imitating successes alone. A seed that has
finished is not run again.

    python -m benchmarks.slot_insert.main --output runs/benchmarks/slot_insert
    python -m benchmarks.slot_insert.main --output runs/benchmarks/slot_insert --baselines
    python -m benchmarks.slot_insert.main --output runs/benchmarks/slot_insert --single-step --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from benchmarks.slot_insert.baselines import BaselineConfig, off_policy_arm, run_alone
from benchmarks.slot_insert.imitation import MemoryWindows, imitate, new_policy
from benchmarks.slot_insert.robot import STREAM, SlotTask, demonstrate, outcomes, roll_out, succeeded
from data.training.windows import BatchOrder
from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.core.confidence import wilson_interval
from robot_rl.core.episode import Episode
from robot_rl.learning.baselines.best_of_n import BestOfN
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.distillation import ConsistencyLearner, DistillationConfig
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.learning.offline.critic import CriticConfig, CriticReport, IqlCritic, train_critic
from robot_rl.learning.offline.dynamics import DynamicsConfig, DynamicsReport, train_dynamics
from robot_rl.learning.offline.gate import Gate, GateConfig
from robot_rl.learning.offline.improver import OfflineConfig, OfflineResult, improve_offline
from robot_rl.learning.online.learner import OnlineConfig, OnlineLearner
from robot_rl.learning.transitions import RewardConfig, Transitions, encode_episodes
from robot_rl.reports.summary import write_json

EVALUATION_SEED = 999_000
"""Starts and noise of every judgement: no episode that is learned from has this seed."""


def _policy_config() -> DiffusionPolicyConfig:
    return DiffusionPolicyConfig(
        streams=(STREAM,), observation_count=1, horizon=4, execute_horizon=4, mlp=MlpConfig(width=128, blocks=2)
    )


def _online_config() -> OnlineConfig:
    # The mean over rows and dimensions keeps the ratio's scale; with their sum the KL limit ends early updates at once.
    ppo = PpoConfig(clip=0.2, epochs=5, learning_rate=2e-4, reduction="mean")
    return OnlineConfig(iterations=40, episodes_per_iteration=256, ppo=ppo)


def _offline_config() -> OfflineConfig:
    return OfflineConfig(ppo=PpoConfig(clip=0.1, learning_rate=2e-4, reduction="mean"))


@dataclass
class Recipe:
    """Sizes and settings of the whole method; the defaults are the benchmark's.

    Attributes:
        task: The variant of the task.
        demonstrations: Episodes to begin with.
        rounds: Of offline RL.
        rollouts: Episodes that each round adds.
        evaluation: Episodes of every judgement.
        reimitation_steps: Optimiser steps of imitation on grown data.
        policy: The policy's shape.
        imitation: First imitation; imitation on grown data but for the steps.
        reward: Of every learner.
        critic: Of offline RL.
        dynamics: The gate's model.
        gate: How candidates are judged.
        offline: The gated updates.
        online: PPO on fresh episodes.
        distillation: Of the last policy into one step.
        baselines: See `BaselineConfig`.
        budget: Episodes that every arm of the comparison may collect.
    """

    task: SlotTask = field(default_factory=SlotTask)
    demonstrations: int = 100
    rounds: int = 2
    rollouts: int = 100
    evaluation: int = 500
    reimitation_steps: int = 2_000
    policy: DiffusionPolicyConfig = field(default_factory=_policy_config)
    imitation: ImitationConfig = field(default_factory=lambda: ImitationConfig(steps=3_000, warmup_steps=100))
    reward: RewardConfig = field(default_factory=RewardConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    dynamics: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(members=3, elites=3))
    gate: GateConfig = field(default_factory=GateConfig)
    offline: OfflineConfig = field(default_factory=_offline_config)
    online: OnlineConfig = field(default_factory=_online_config)
    distillation: DistillationConfig = field(default_factory=lambda: DistillationConfig(steps=2_000, warmup_steps=100))
    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    budget: int = 1_480


@dataclass(frozen=True)
class Stage:
    """One line of the table.

    Attributes:
        name: Of the stage.
        successes: In the evaluation.
        evaluated: Episodes of the evaluation.
        episodes: Of the environment that this arm has used so far, demonstrations included.
        seconds: Wall time of the stage without the evaluation.
        notes: Figures worth keeping.
    """

    name: str
    successes: int
    evaluated: int
    episodes: int
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Share of evaluation episodes that succeeded."""
        return self.successes / self.evaluated


class Log:
    """Judges and times stages of one seed as they come."""

    def __init__(self, recipe: Recipe, tell: Callable[[str], None] = lambda line: None) -> None:
        self.stages: list[Stage] = []
        self._recipe, self._tell = recipe, tell
        self._since = time.perf_counter()

    def add(self, name: str, act: Callable[[int, int], int], episodes: int, **notes: Any) -> Stage:
        """Judges what `act` does: from episodes and seed to successes."""
        seconds = time.perf_counter() - self._since
        successes = act(self._recipe.evaluation, EVALUATION_SEED)
        stage = Stage(name, successes, self._recipe.evaluation, episodes, seconds, notes)
        self.stages.append(stage)
        self._tell(f"{name:<28} {stage.rate:.3f}  {seconds:6.1f} s  {notes or ''}")
        self._since = time.perf_counter()
        return stage

    def policy(self, name: str, policy: DiffusionPolicy, episodes: int, **notes: Any) -> Stage:
        """Judges a policy that acts without exploration."""
        task = self._recipe.task
        return self.add(name, lambda count, seed: int(outcomes(policy, count, seed, task).sum()), episodes, **notes)

    def restart(self) -> None:
        """Begins to time anew."""
        self._since = time.perf_counter()


@dataclass(frozen=True)
class OfflineRound:
    """One round of gated offline RL."""

    result: OfflineResult
    critic: IqlCritic
    critic_report: CriticReport
    dynamics_report: DynamicsReport
    transitions: Transitions
    gate: Gate


def imitation(recipe: Recipe, seed: int) -> tuple[DiffusionPolicy, list[Episode]]:
    """The first policy, and the demonstrations it imitates, failures and all."""
    demonstrations = demonstrate(recipe.demonstrations, seed, recipe.task)
    policy = new_policy(demonstrations, recipe.policy, seed)
    return imitate(policy, demonstrations, dataclasses.replace(recipe.imitation, seed=seed)), demonstrations


def offline_round(policy: DiffusionPolicy, episodes: Sequence[Episode], recipe: Recipe, seed: int) -> OfflineRound:
    """Critics and transition model on all data, then gated updates."""
    transitions = encode_episodes(policy, episodes, recipe.reward)
    critic, critic_report = train_critic(transitions, dataclasses.replace(recipe.critic, seed=seed))
    dynamics, dynamics_report = train_dynamics(transitions, dataclasses.replace(recipe.dynamics, seed=seed))
    starts = transitions.condition[transitions.starts]
    gate = Gate(critic, dynamics, starts, dataclasses.replace(recipe.gate, seed=seed), critic_report.return_range)
    config = dataclasses.replace(recipe.offline, seed=seed)
    result = improve_offline(policy, critic, gate, transitions.condition, config)
    return OfflineRound(result, critic, critic_report, dynamics_report, transitions, gate)


def collect(policy: DiffusionPolicy, recipe: Recipe, seed: int) -> list[Episode]:
    """Rollouts with exploration noise, for data to grow by."""
    exploring = policy.with_exploration(
        recipe.offline.sampling_steps, recipe.offline.sigma_min, recipe.offline.sigma_max
    )
    return [each.episode for each in roll_out(exploring, recipe.rollouts, seed, True, recipe.task)]


def reimitate(policy: DiffusionPolicy, episodes: Sequence[Episode], recipe: Recipe, seed: int) -> DiffusionPolicy:
    """Imitation of the successes in grown data, from the weights that are there."""
    config = dataclasses.replace(recipe.imitation, steps=recipe.reimitation_steps, seed=seed)
    again = policy.with_exploration(recipe.policy.sampling_steps, recipe.offline.sigma_min, recipe.offline.sigma_max)
    return imitate(again.requires_grad_(True), succeeded(episodes), config)


def offline(
    policy: DiffusionPolicy, demonstrations: Sequence[Episode], recipe: Recipe, seed: int, log: Log
) -> tuple[DiffusionPolicy, list[Episode], IqlCritic]:
    """All rounds; returns the policy, all data so far and the last critic."""
    data = list(demonstrations)
    for number in range(recipe.rounds):
        done = offline_round(policy, data, recipe, 10 * seed + number)
        policy = done.result.policy
        report, model = done.critic_report, done.dynamics_report
        log.policy(
            f"offline, round {number + 1}",
            policy,
            len(data),
            accepted=sum(each.accept for each in done.result.decisions),
            judged=len(done.result.decisions),
            rank_correlation=report.rank_correlation,
            critic_problem=report.problem,
            model_error={str(key): value for key, value in model.error_by_horizon.items()},
        )
        data += collect(policy, recipe, 1_000 * seed + number + 1)
        if number + 1 < recipe.rounds:
            policy = reimitate(policy, data, recipe, 10 * seed + number)
            log.policy(f"re-imitation, round {number + 1}", policy, len(data))
    return policy, data, done.critic


def success_only(
    policy: DiffusionPolicy, demonstrations: Sequence[Episode], recipe: Recipe, seed: int, log: Log
) -> DiffusionPolicy:
    """The control arm: rollouts and imitation of their successes, as often as offline RL."""
    data = list(demonstrations)
    for number in range(recipe.rounds):
        data += collect(policy, recipe, 1_000 * seed + number + 501)
        policy = reimitate(policy, data, recipe, 10 * seed + number)
        log.policy(f"success-only, round {number + 1}", policy, len(data))
    return policy


def online(
    policy: DiffusionPolicy, critic: IqlCritic | None, recipe: Recipe, seed: int, log: Log, used: int
) -> DiffusionPolicy:
    """PPO on fresh episodes; without a critic, V is learned from scratch, as in DPPO (arXiv 2409.00588)."""
    config = dataclasses.replace(recipe.online, seed=seed)
    learner = OnlineLearner(policy, critic.value if critic is not None else None, config, recipe.reward)
    name = "online" if critic is not None else "PPO from imitation"
    for iteration in range(config.iterations):
        seed_of_episodes = 100_000 * (seed + 1) + iteration
        episodes = roll_out(learner.policy, config.episodes_per_iteration, seed_of_episodes, True, recipe.task)
        learner.update(episodes, None, iteration)
        used += config.episodes_per_iteration
        if iteration + 1 == max(1, config.iterations // 5) < config.iterations:
            log.policy(f"{name}, a fifth of the way", learner.policy, used)
    log.policy(name, learner.policy, used)
    return learner.policy


def one_step(
    teacher: DiffusionPolicy, episodes: Sequence[Episode], recipe: Recipe, seed: int, log: Log, used: int
) -> ConsistencyPolicy:
    """Distils a policy at the states of some episodes."""
    config = dataclasses.replace(recipe.distillation, seed=seed)
    windows = MemoryWindows(episodes, teacher.observation_count, teacher.horizon)
    learner = ConsistencyLearner(ConsistencyPolicy.from_teacher(teacher), teacher, config, Accelerator(cpu=True))
    order = BatchOrder(len(windows), config.batch_size, config.seed)
    for step in range(config.steps):
        learner.update(windows.batch(order.indices(step)), step)
    log.policy("one step", learner.average, used)
    return learner.average


def whole_method(recipe: Recipe, seed: int, log: Log) -> None:
    """Every stage and the control arm."""
    policy, demonstrations = imitation(recipe, seed)
    log.policy("imitation", policy, len(demonstrations))
    success_only(policy, demonstrations, recipe, seed, log)
    improved, data, critic = offline(policy, demonstrations, recipe, seed, log)
    used = len(data) + recipe.online.iterations * recipe.online.episodes_per_iteration
    best = online(improved, critic, recipe, seed, log, len(data))
    recent = [each.episode for each in roll_out(best, 256, 100_000 * (seed + 1) + 99_999, True, recipe.task)]
    log.restart()
    one_step(best, [*data, *recent], recipe, seed, log, used + len(recent))


def arms(recipe: Recipe, seed: int, log: Log) -> None:
    """Every way to spend one budget of episodes, ours among them."""
    policy, demonstrations = imitation(recipe, seed)
    first, budget, task = len(demonstrations), recipe.budget, recipe.task
    log.policy("imitation", policy, first)
    success_only(policy, demonstrations, dataclasses.replace(recipe, rollouts=budget // recipe.rounds), seed, log)
    _best_of_n(policy, demonstrations, recipe, seed, log)
    iterations = max(1, budget // recipe.online.episodes_per_iteration)
    spent = dataclasses.replace(recipe, online=dataclasses.replace(recipe.online, iterations=iterations))
    online(policy, None, spent, seed, log, first)
    for kind in ("rlpd", "residual"):
        act = off_policy_arm(kind, policy, demonstrations, budget, recipe.baselines, recipe.reward, seed, task)
        log.add(kind, act, first + budget)
    improved, data, critic = offline(policy, demonstrations, recipe, seed, log)
    left = max(1, (budget - len(data) + first) // recipe.online.episodes_per_iteration)
    rest = dataclasses.replace(recipe, online=dataclasses.replace(recipe.online, iterations=left))
    online(improved, critic, rest, seed, log, len(data))


def _best_of_n(policy: DiffusionPolicy, demonstrations: Sequence[Episode], recipe: Recipe, seed: int, log: Log) -> None:
    """Collects the whole budget with the imitation policy, then chooses among its chunks by critics."""
    rollouts = collect(policy, dataclasses.replace(recipe, rollouts=recipe.budget), 1_000 * seed + 700)
    transitions = encode_episodes(policy, [*demonstrations, *rollouts], recipe.reward)
    critic, report = train_critic(transitions, dataclasses.replace(recipe.critic, seed=seed))
    chooser, rows = BestOfN(policy, critic), policy.execute_horizon
    log.add(
        "best of 16",
        lambda episodes, judged: int(run_alone(chooser, rows, episodes, judged, recipe.task).sum()),
        len(demonstrations) + len(rollouts),
        rank_correlation=report.rank_correlation,
    )


def table(runs: dict[int, list[dict[str, Any]]]) -> str:
    """Markdown: a line per stage, its success per seed, and all seeds together with a 95 % Wilson interval."""
    lines = [
        "| stage | success per seed | mean | 95 % Wilson, pooled | episodes used | seconds per seed |",
        "|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(stage["name"] for stages in runs.values() for stage in stages))
    for name in names:
        mine = [stage for stages in runs.values() for stage in stages if stage["name"] == name]
        successes, evaluated = sum(each["successes"] for each in mine), sum(each["evaluated"] for each in mine)
        low, high = wilson_interval(successes, evaluated)
        rates = " / ".join(f"{each['successes'] / each['evaluated']:.3f}" for each in mine)
        seconds = sum(each["seconds"] for each in mine) / len(mine)
        lines.append(
            f"| {name} | {rates} | {successes / evaluated:.3f} | {low:.3f} to {high:.3f} | {mine[0]['episodes']} | "
            f"{seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2, 3, 4))
    parser.add_argument("--baselines", action="store_true", help="compare arms on one budget instead")
    parser.add_argument("--single-step", action="store_true", help="decide every tick instead of every fourth")
    parser.add_argument("--budget", type=int, default=Recipe.budget)
    parser.add_argument("--iterations", type=int, default=_online_config().iterations, help="of online PPO")
    options = parser.parse_args()
    recipe = Recipe(budget=options.budget)
    recipe.online.iterations = options.iterations
    run, kind = (arms, "arms") if options.baselines else (whole_method, "method")
    if options.single_step:
        recipe.policy = dataclasses.replace(recipe.policy, horizon=1, execute_horizon=1)
        kind += "-single-step"
    runs: dict[int, list[dict[str, Any]]] = {}
    for seed in options.seeds:
        place = options.output / f"{kind}-{seed}.json"
        if not place.exists():
            log = Log(recipe, lambda line: print(line, flush=True))
            run(recipe, seed, log)
            write_json(place, {"recipe": dataclasses.asdict(recipe), "stages": [*map(dataclasses.asdict, log.stages)]})
        runs[seed] = json.loads(place.read_text())["stages"]
        text = table(runs)
        (options.output / f"{kind}.md").write_text(text + "\n")
        print(text, flush=True)


if __name__ == "__main__":
    main()
