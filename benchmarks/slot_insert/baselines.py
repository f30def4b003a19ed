"""Other ways to spend the same episodes on SlotInsert2D: each begins with the demonstrations and the imitation policy.

Legend: `E` episodes, `N` observations seen at once, `n` executed rows, `A` action dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.slot_insert.robot import (
    SPEC,
    STREAM,
    ChunkPlayer,
    Flags,
    Floats,
    SlotTask,
    Trace,
    draw_starts,
    drive,
    episodes_of,
)
from policies.diffusion import DiffusionPolicy
from robot_rl.core.episode import Episode, Observation, Source
from robot_rl.core.protocols import Policy
from robot_rl.learning.baselines.chunk_actor import ActorPolicy, ChunkFunction
from robot_rl.learning.baselines.residual import ResidualConfig, ResidualLearner
from robot_rl.learning.baselines.rlpd import RlpdConfig, RlpdLearner
from robot_rl.learning.transitions import RewardConfig, Transitions, encode_episodes


@dataclasses.dataclass
class BaselineConfig:
    """How much off-policy learners collect and learn.

    Attributes:
        episodes_at_once: Collected between two phases of learning.
        updates_per_episode: Critic steps for every episode collected.
        pretraining: Critic steps on demonstrations before the first episode.
        rlpd: See `RlpdConfig`.
        residual: See `ResidualConfig`.
    """

    episodes_at_once: int = 40
    updates_per_episode: int = 8
    pretraining: int = 500
    rlpd: RlpdConfig = dataclasses.field(default_factory=RlpdConfig)
    residual: ResidualConfig = dataclasses.field(default_factory=ResidualConfig)


def run_actor(base: DiffusionPolicy, actor: ChunkFunction, episodes: int, seed: int, task: SlotTask) -> Trace:
    """Episodes driven by an actor on the base policy's encoding; starts as `roll_out`'s of the same seed."""
    policy = ActorPolicy(base, actor, {})
    generator = torch.Generator().manual_seed(seed)

    def decide(observations: Floats) -> Floats:
        return policy.chunks({STREAM: torch.from_numpy(observations)}, generator).numpy()

    player = ChunkPlayer(decide, base.execute_horizon, base.observation_count)
    starts = draw_starts(episodes, np.random.default_rng([seed, 2]))
    return drive(task, starts, player, np.random.default_rng([seed, 4]))


def run_alone(policy: Policy, rows: int, episodes: int, seed: int, task: SlotTask) -> Flags:
    """Which episodes a policy that takes one observation at a time succeeds in; starts as `roll_out`'s. Shape (E,)."""
    starts = draw_starts(episodes, np.random.default_rng([seed, 2]))
    success = np.zeros(episodes, dtype=bool)
    for index in range(episodes):
        policy.reset(seed + index)

        def decide(observations: Floats) -> Floats:
            history = [Observation(tick, {STREAM: each}, {STREAM: 0}) for tick, each in enumerate(observations[0])]
            return policy.act(history).values[None].astype(np.float32)

        player = ChunkPlayer(decide, rows, policy.observation_count)
        alone = type(starts)(starts.position[index : index + 1], starts.slot[index : index + 1])
        success[index] = drive(task, alone, player, np.random.default_rng([seed, 4, index])).success[0]
    return success


def learn_off_policy(
    learner: RlpdLearner | ResidualLearner,
    base: DiffusionPolicy,
    budget: int,
    config: BaselineConfig,
    reward: RewardConfig,
    seed: int,
    task: SlotTask,
) -> ChunkFunction:
    """Collects and learns in turn until the budget is used up; returns the actor without exploration."""
    none = encode_episodes(base, [_still_episode(base)], reward)
    online: Transitions = none.select(torch.arange(0))
    step = 0
    for _ in range(config.pretraining):
        learner.update(online, step)
        step += 1
    for first in range(0, budget, config.episodes_at_once):
        count = min(config.episodes_at_once, budget - first)
        trace = run_actor(base, learner.actor_function(explore=True), count, 100_000 * (seed + 1) + first, task)
        fresh = encode_episodes(base, episodes_of(trace, first, Source.POLICY), reward)
        online = Transitions.cat([online, fresh])
        for _ in range(config.updates_per_episode * count):
            learner.update(online, step)
            step += 1
    return learner.actor_function(explore=False)


def off_policy_arm(
    kind: str,
    base: DiffusionPolicy,
    demonstrations: Sequence[Episode],
    budget: int,
    config: BaselineConfig,
    reward: RewardConfig,
    seed: int,
    task: SlotTask,
) -> Callable[[int, int], int]:
    """Learns by `rlpd` or `residual`; returns what counts its successes for a number of episodes and a seed."""
    data = encode_episodes(base, demonstrations, reward)
    learner: RlpdLearner | ResidualLearner
    if kind == "rlpd":
        learner = RlpdLearner(data, dataclasses.replace(config.rlpd, seed=seed))
    else:
        learner = ResidualLearner(base, data, dataclasses.replace(config.residual, seed=seed))
    actor = learn_off_policy(learner, base, budget, config, reward, seed, task)
    return lambda episodes, judged_seed: int(run_actor(base, actor, episodes, judged_seed, task).success.sum())


def _still_episode(base: DiffusionPolicy) -> Episode:
    """An episode of one action, only for the sizes of what it encodes to."""
    rows = base.execute_horizon
    player = ChunkPlayer(lambda seen: np.zeros((len(seen), rows, SPEC.action.size), np.float32), rows)
    starts = draw_starts(1, np.random.default_rng(0))
    return episodes_of(drive(SlotTask(ticks=2), starts, player, np.random.default_rng(0)), 0, Source.POLICY)[0]
