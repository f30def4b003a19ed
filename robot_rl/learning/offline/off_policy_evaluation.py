"""A second opinion on a policy from recorded data: fitted Q evaluation (Le et al., arXiv 1903.08738, algorithm 3).

Q is regressed to the reward plus the discounted Q of what the policy itself would do next:

    Q(c, a) <- r + discount mean_d Q(c', a_d),    a_d ~ policy(c')      no Q(c', .) where the episode has terminated

It needs no transition model and no critic of another policy, so it errs in other ways than the gate does. Beside the
gate it decides nothing; a disagreement is worth a look. Every policy of a round is fitted from the same first network
for the same number of steps, so that what separates two estimates is what the policies do and not how long somebody
trained.

Legend: `M` transitions, `S` episode starts, `B` batch, `D` sampled chunks per condition, `C` encoding size, `n`
executed rows, `A` action dimension.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from policies.trainable import DenoisingPolicy
from policies.value import QNetwork
from robot_rl.core.confidence import PairedGain, paired_gain
from robot_rl.core.decision import SECOND_GAIN
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import MORE_THAN_0, require_each
from robot_rl.learning.descent import Descent, Diverged, follow
from robot_rl.learning.randomness import first_weights, step_generator
from robot_rl.learning.transitions import Transitions

SEED_APART = 7919
"""Added to the seed, so that the same seed in two configs never makes this network the critic's twin."""
SAMPLING_BATCH = 4096
REPORT_EVERY = 100


@dataclass
class FittedQConfig:
    """How to fit a policy's Q.

    Attributes:
        steps: Optimiser steps.
        batch_size: Transitions per step.
        learning_rate: Of Adam.
        width: Features of every hidden layer.
        blocks: Hidden layers.
        target_rate: Share of the weights that the target network takes over per step.
        next_chunks: Chunks sampled from the policy at every next condition; their mean is the target.
        start_chunks: Chunks sampled at every episode start for the estimate.
        seed: Of the first weights, batches and noise; two policies are compared under the same one.
    """

    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 3e-4
    width: int = 256
    blocks: int = 2
    target_rate: float = 0.01
    next_chunks: int = 2
    start_chunks: int = 8
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(
            self,
            "fitted_q",
            MORE_THAN_0,
            "steps",
            "batch_size",
            "learning_rate",
            "width",
            "target_rate",
            "next_chunks",
            "start_chunks",
        )


class FittedQ(NamedTuple):
    """What a policy is worth, by fitted Q evaluation."""

    at_starts: Tensor
    """Estimated return from every episode start, mean over sampled first chunks. Shape (S,)."""
    network: QNetwork
    """Fitted; hand it to the next evaluation as its warm start."""

    @property
    def estimate(self) -> float:
        """Mean over the starts."""
        return float(self.at_starts.mean())


def fitted_q_evaluation(
    policy: DenoisingPolicy,
    transitions: Transitions,
    config: FittedQConfig,
    warm_start: QNetwork | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> FittedQ:
    """Fits the policy's own Q to recorded transitions.

    Args:
        policy: To be judged; on the transitions' device.
        transitions: With at least one start of an episode.
        config: See `FittedQConfig`.
        warm_start: Begins where another evaluation ended: a gain over it is then not that of other first weights.
        progress: Told the steps done, the steps in all and the loss, now and then.

    Raises:
        Diverged: NaN.
        RobotRLError: No episode starts.
    """
    config.validate()
    starts = transitions.starts
    if not len(starts):
        raise RobotRLError("fitted Q evaluation needs transitions that start an episode (tick 0); there are none")
    network = _network(transitions, config) if warm_start is None else copy.deepcopy(warm_start)
    network.train().requires_grad_(True)
    following = sample_chunks(
        policy, transitions.next_condition, config.next_chunks, config.seed, transitions.chunk.shape[1]
    )
    _fit(network, transitions, following, config, progress)
    network.eval().requires_grad_(False)
    begin = transitions.condition[starts]
    chunks = sample_chunks(policy, begin, config.start_chunks, config.seed + 1, transitions.chunk.shape[1])
    at_starts = torch.stack([network(begin, chunk) for chunk in chunks.unbind(1)]).mean(dim=0)
    if not torch.isfinite(at_starts).all():
        raise Diverged("fitted Q evaluation gave NaN: does the policy's weights or its data hold NaN?")
    return FittedQ(at_starts, network)


def fitted_q_gain(reference: FittedQ, candidate: FittedQ, confidence: float = 0.95) -> PairedGain:
    """The candidate's gain over the same starts; its bound knows of the starts, not of the fit's own error."""
    difference = (candidate.at_starts - reference.at_starts)[:, None].cpu().double().numpy()
    return paired_gain(difference, np.zeros(difference.shape, np.int64), confidence)


class SecondOpinion:
    """Estimates of policies on one round's data.

    Args:
        transitions: Of the round, at every tick.
        config: See `FittedQConfig`.
    """

    def __init__(self, transitions: Transitions, config: FittedQConfig) -> None:
        # As the policy decides, every n ticks: the windows in between say the same again, and cost as much each.
        self._transitions = transitions.select(transitions.tick % transitions.chunk.shape[1] == 0)
        self._config = config
        self._known: dict[str, FittedQ] = {}

    def of(self, reference: DenoisingPolicy, candidate: DenoisingPolicy) -> Mapping[str, float]:
        """Estimated returns of both, the gain and its one-sided lower bound over starts; NaN where it diverged."""
        try:
            old, new = self._fitted(reference), self._fitted(candidate)
        except Diverged:
            return {SECOND_GAIN: math.nan}
        gain = fitted_q_gain(old, new)
        return {
            "second_reference": old.estimate,
            "second_candidate": new.estimate,
            SECOND_GAIN: gain.mean,
            "second_lower_bound": gain.lower_bound,
        }

    def _fitted(self, policy: DenoisingPolicy) -> FittedQ:
        key = policy.fingerprint()
        if key not in self._known:
            self._known[key] = fitted_q_evaluation(policy, self._transitions, self._config)
        return self._known[key]


@torch.no_grad()
def sample_chunks(policy: DenoisingPolicy, condition: Tensor, count: int, seed: int, rows: int) -> Tensor:
    """Executed rows of chunks that the policy would act with; the same noise for every policy.

    Args:
        policy: Acts.
        condition: Shape (B, C).
        count: `D`.
        seed: Of the noise.
        rows: `n`.

    Returns:
        Normalised. Shape (B, D, n, A).
    """
    parts = []
    for number, part in enumerate(torch.split(condition, max(1, SAMPLING_BATCH // count))):
        generator = step_generator(torch.device("cpu"), seed, number)
        repeated = part.repeat_interleave(count, dim=0)
        noise = torch.randn(len(repeated), *policy.noise_shape, generator=generator).to(condition.device)
        chunk = policy.denoise(repeated, noise).states[:, -1, :rows]
        parts.append(chunk.reshape(len(part), count, *chunk.shape[1:]))
    return torch.cat(parts)


def _network(transitions: Transitions, config: FittedQConfig) -> QNetwork:
    _, rows, action_size = transitions.chunk.shape
    condition = transitions.condition
    with first_weights(config.seed + SEED_APART):
        network = QNetwork(condition.shape[1], rows, action_size, config.width, config.blocks)
    network = network.to(condition.device)
    network.standardizer.fit(condition)
    return network


def _fit(
    network: QNetwork,
    transitions: Transitions,
    following: Tensor,
    config: FittedQConfig,
    progress: Callable[[int, int, float], None] | None,
) -> None:
    target = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    remedy = f"check the policy's weights, or lower fitted_q.learning_rate (now {config.learning_rate})"
    descent = Descent("fitted Q evaluation", optimizer, remedy)
    generator = torch.Generator().manual_seed(config.seed + SEED_APART)
    for step in range(config.steps):
        drawn = torch.randint(len(transitions.reward), (config.batch_size,), generator=generator)
        index = drawn.to(transitions.reward.device)
        with torch.no_grad():
            condition = transitions.next_condition[index]
            value = torch.stack([target(condition, chunk) for chunk in following[index].unbind(1)]).mean(dim=0)
            goes_on = torch.where(transitions.terminated[index], 0.0, transitions.discount[index])
            aim = transitions.reward[index] + goes_on * value
        loss = (network(transitions.condition[index], transitions.chunk[index]) - aim).square().mean()
        descent.step(loss)
        follow(target, network, config.target_rate)
        if progress is not None and ((step + 1) % REPORT_EVERY == 0 or step + 1 == config.steps):
            progress(step + 1, config.steps, float(loss.detach()))
