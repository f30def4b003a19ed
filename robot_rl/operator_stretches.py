"""What the operator's driving tells the value network, and which value that makes it.

The operator's ticks have no place in the surrogate: they are not the policy's actions. What came of them is known all
the same, so every span of his is cut into stretches of `n` ticks, as long as a decision of the policy holds, with
lambda-returns of its own:

    R_i + D_i ((1 - lambda) V(c'_i) + lambda G_{i+1})       G bootstraps with V where the operator gives back

V is thereby the value of what the robot does as a whole: the policy, and the operator taking over as he did. Without
his ticks it would be asked, at every takeover, for states that it never learned: those where he drives. The transitions
of interventions train the critic in RLIF (arXiv 2311.12996) and HIL-SERL (arXiv 2410.21845) too; theirs is an
off-policy Q, which assumes the policy's own action at the next state, while a V takes what came as it came. So a state
from which the operator saves the day is worth much, and a policy that brings him there is not blamed by V:
`RewardConfig.intervention_penalty` is what makes a takeover cost something, and the value falls back to the policy's
own as takeovers become rare.

Legend: `M` stretches, `n` executed rows, `T` ticks of one episode.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from policies.diffusion import DiffusionPolicy
from robot_rl.advantages import Bounds, Stretches, stretches_of
from robot_rl.transitions import RewardConfig
from robot_rl.types import Episode, Source


def operator_bounds(episode: Episode, rows: int, ends: bool) -> Bounds:
    """Stretches of the operator's ticks; a segment ends where he gives back and where the episode does.

    Args:
        episode: Whose `source` says who drove.
        rows: Ticks of a stretch; the last one before he gives back may be shorter.
        ends: Whether nothing follows the episode's last action. If not, the state after it is unknown, and the last
            tick's observation is where to bootstrap.
    """
    last = len(episode) if ends else max(len(episode) - 1, 0)
    by_operator = np.asarray(episode.source)[:last] == Source.OPERATOR
    edges = np.diff(np.concatenate([[False], by_operator, [False]]).astype(np.int8))
    spans = list(zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True))
    start = np.array([tick for begin, stop in spans for tick in range(begin, stop, rows)], np.int64)
    stops = np.array([stop for begin, stop in spans for _ in range(begin, stop, rows)], np.int64)
    end = np.minimum(start + rows, stops)
    terminated = np.logical_and(ends, end == len(episode))
    return Bounds(start, end, terminated, (end == stops) & ~terminated)


@torch.no_grad()
def operator_stretches(
    policy: DiffusionPolicy, episodes: Iterable[Episode], reward: RewardConfig, *, batch_size: int = 1024
) -> Stretches | None:
    """What the operator's driving earned.

    Args:
        policy: Encodes, in evaluation mode, on its own device; its mode is left as it was.
        episodes: Leave aborted ones out: their label says nothing.
        reward: See `RewardConfig`.
        batch_size: Ticks encoded at once.

    Returns:
        None if the operator did nothing that had a known consequence.

    Raises:
        SpecMismatch: An episode of another robot than the policy's.
    """
    reward.validate()
    training, rows = policy.training, policy.execute_horizon
    policy.eval()
    try:
        parts = [
            stretches_of(policy, each, number, operator_bounds(each, rows, reward.ends(each)), reward, batch_size)
            for number, each in enumerate(episodes)
        ]
    finally:
        policy.train(training)
    found = [part for part in parts if len(part)]
    return Stretches.joined(found) if found else None
