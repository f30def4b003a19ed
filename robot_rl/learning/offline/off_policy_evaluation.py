"""Second opinions on a policy from recorded data: fitted Q evaluation and the doubly robust estimator.

Fitted Q evaluation (Le et al., arXiv 1903.08738, algorithm 3) regresses Q to the reward plus the discounted Q of what
the policy itself would do next. It needs no transition model and no critic of another policy, so it errs in other ways
than the gate does; a disagreement is worth a look.

Where the behaviour's propensities are known, the per-decision doubly robust estimator (Jiang and Li, arXiv 1511.03722,
equation 10) corrects such a Q by the importance-weighted errors it makes along recorded episodes:

    V_dr(t) = V(c_t) + rho_t (r_t + discount_t V_dr(t + 1) - Q(c_t, a_t))

Legend: `M` transitions, `S` episode starts, `B` batch, `D` sampled next chunks per transition, `C` encoding size, `n`
executed rows, `A` action dimension.

Fitted Q evaluation beside the gate: it decides nothing, and a disagreement is worth a look.

Every policy of a round is fitted from the same first network for the same number of steps, so that what separates two
estimates is what the policies do and not how long somebody trained.

Legend: `M` transitions, `n` executed rows.
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
from robot_rl.learning.descent import Descent, Diverged, follow
from robot_rl.learning.randomness import first_weights, step_generator
from robot_rl.learning.transitions import Transitions

SEED_APART = 7919
"""Added to the seed, so that the same seed in two configs never makes this network the critic's twin."""
SAMPLING_BATCH = 4096
REPORT_EVERY = 100


class BadPropensities(RobotRLError):
    """Importance ratios that cannot be used."""


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
        for name in ("steps", "batch_size", "learning_rate", "width", "target_rate", "next_chunks", "start_chunks"):
            if not getattr(self, name) > 0:
                raise RobotRLError(f"fitted_q.{name} is {getattr(self, name)}, wanted more than 0")


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


class DoublyRobust(NamedTuple):
    """A doubly robust estimate."""

    estimate: float
    """Mean over episodes."""
    standard_error: float
    """Of that mean."""
    effective_sample_size: float
    """Of the episodes' whole importance weights: far below their number, the estimate rests on a few of them."""
    clipped: float
    """Share of ratios that were clipped, each of which biases the estimate towards Q."""
    per_episode: Tensor
    """Shape (number of episodes,), by ascending episode number."""


def doubly_robust(
    transitions: Transitions,
    log_ratio: Tensor,
    q: Tensor,
    v: Tensor,
    next_v: Tensor,
    *,
    clip: float = 10.0,
) -> DoublyRobust:
    """The policy's return from episodes that another one acted in; equation in the module.

    Args:
        transitions: Decisions that follow one another without gap or overlap.
        log_ratio: log of the policy's over the behaviour's probability of each decision; of the whole denoising chain
            where both denoise, which is a valid ratio as well. Shape (M,).
        q: Of each decision. Shape (M,).
        v: Expectation of Q under the policy at each condition. Shape (M,).
        next_v: The same at each next condition: what an episode that was cut off goes on with. Shape (M,).
        clip: Largest ratio of one decision.

    Raises:
        BadPropensities: NaN, or decisions that overlap or leave a gap.
    """
    columns = {"log_ratio": log_ratio, "q": q, "v": v, "next_v": next_v}
    for name, values in columns.items():
        if values.shape != transitions.reward.shape or not torch.isfinite(values).all():
            raise BadPropensities(
                f"{name} has shape {tuple(values.shape)} with {int((~torch.isfinite(values)).sum())} numbers that are "
                f"not finite, wanted {len(transitions.reward)} finite ones, one per decision"
            )
    ratio = log_ratio.double().exp()
    rho = ratio.clamp(max=clip)
    returns: list[float] = []
    weights: list[float] = []
    for episode in sorted(set(transitions.episode.tolist())):
        index = (transitions.episode == episode).nonzero()[:, 0]
        index = index[transitions.tick[index].argsort()]
        _require_chain(transitions, index, episode)
        last = int(index[-1])
        value = 0.0 if bool(transitions.terminated[last]) else float(next_v[last])
        for each in index.flip(0).tolist():
            error = float(transitions.reward[each]) + float(transitions.discount[each]) * value - float(q[each])
            value = float(v[each]) + float(rho[each]) * error
        returns.append(value)
        weights.append(float(rho[index].prod()))
    per_episode, weight = torch.tensor(returns, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
    count = len(returns)
    error = float(per_episode.std()) / math.sqrt(count) if count > 1 else math.inf
    size = float(weight.sum() ** 2 / weight.square().sum()) if float(weight.sum()) > 0.0 else 0.0
    return DoublyRobust(float(per_episode.mean()), error, size, float((ratio > clip).double().mean()), per_episode)


def _require_chain(transitions: Transitions, index: Tensor, episode: int) -> None:
    tick, rows = transitions.tick[index], transitions.valid[index].sum(dim=1)
    if int(tick[0]) != 0 or not torch.equal(tick[1:], (tick + rows)[:-1]):
        raise BadPropensities(
            f"the decisions of episode {episode} begin at ticks {tick.tolist()[:6]}... and do not follow one another "
            "from tick 0: hand in one transition per decision, without overlap"
        )


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
