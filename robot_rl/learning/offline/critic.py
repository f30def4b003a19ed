"""Implicit Q-learning on encoded transitions (IQL, arXiv 2110.06169): critics that never ask about unseen actions.

The idea on one page: `V` is an upper expectile of `Q` over the actions in the data (equation 5), `Q` regresses to
reward plus discounted `V` (equation 6). A chunk of executed rows is one action, so the target of its `Q` is
`sum gamma^i r_i + gamma^rows V(c')` over its valid rows; where an episode terminated there is no `V(c')`, where it was
cut off there is.

Legend: `B` batch, `M` transitions, `E` episodes, `n` executed rows of a chunk, `A` action dimension, `C` size of the
observation encoding `c`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.value import QEnsemble, ValueNetwork
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import MORE_THAN_0, require_each
from robot_rl.learning.descent import Descent, Diverged, follow
from robot_rl.learning.randomness import first_weights, step_generator
from robot_rl.learning.transitions import Transitions

LOG_EVERY = 100
"""Steps between two reports of the losses."""

MARGIN = 0.1
"""How far values may leave the range of possible returns, as a share of it: regression overshoots a little."""

SHARE_WANTED = 0.95
"""Share of values that must be in that range for a critic to count as sound: a diverged one has nearly none there,
while few demonstrations leave a sound one with 1 % outside."""

EVALUATION_BATCH = 4096


class BadTransitions(RobotRLError):
    """Transitions that no critic can learn from."""


@dataclass
class CriticConfig:
    """How to train critics.

    Attributes:
        expectile: Which expectile of Q over the data's actions V becomes: 0.5 is their mean, towards 1 their best.
        steps: Optimiser steps.
        batch_size: Transitions per step.
        learning_rate: Of both networks at first; it falls to 0 on a half cosine, so that the last batches' noise does
            not stay in the values.
        weight_decay: Of AdamW.
        gradient_clip: Largest norm of the gradient; null for no limit.
        width: Of every hidden layer.
        blocks: Hidden layers.
        target_rate: Share of the weights that the target Q takes over at each step (Polyak). Rewards travel back by one
            chunk per turnover of the target, so few steps need a fast one: over about 43 chunks of peg-insert, 2,500
            steps at 0.005 left V at the start at 0.03 where returns are 0.16.
        held_out_fraction: Share of the episodes of either outcome kept from training, for the report.
        seed: Of first weights, batches and the held-out episodes.
    """

    expectile: float = 0.7
    steps: int = 2_500
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    gradient_clip: float | None = 10.0
    width: int = 256
    blocks: int = 2
    target_rate: float = 0.02
    held_out_fraction: float = 0.15
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(self, "critic", MORE_THAN_0, "steps", "batch_size", "learning_rate", "width", "blocks")
        if not 0.0 < self.expectile < 1.0:
            raise RobotRLError(f"critic.expectile is {self.expectile}, wanted between 0 and 1; 0.5 is the mean")
        if not 0.0 < self.target_rate <= 1.0:
            raise RobotRLError(f"critic.target_rate is {self.target_rate}, wanted more than 0 and at most 1")
        if not 0.0 <= self.held_out_fraction < 1.0:
            raise RobotRLError(
                f"critic.held_out_fraction is {self.held_out_fraction}, wanted 0 or more and less than 1"
            )

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


class IqlCritic(nn.Module):
    """Twin Q networks and a value network.

    Args:
        condition_size: `C`.
        rows: `n`.
        action_size: `A`.
        config: Sizes of the networks.
    """

    def __init__(self, condition_size: int, rows: int, action_size: int, config: CriticConfig) -> None:
        super().__init__()
        self.twins = QEnsemble(2, condition_size, rows, action_size, config.width, config.blocks)
        self.value = ValueNetwork(condition_size, config.width, config.blocks)

    def q(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """Of both networks; shapes (B, C) and (B, n, A), normalised, to (2, B)."""
        values: Tensor = self.twins(condition, chunk)
        return values

    def min_q(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """The smaller of both (arXiv 1802.09477): shape (B,)."""
        return self.q(condition, chunk).amin(dim=0)

    def v(self, condition: Tensor) -> Tensor:
        """Shape (B, C) to (B,)."""
        values: Tensor = self.value(condition)
        return values

    def advantage(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """How much better a chunk is than what the data does here: min Q - V. Shape (B,)."""
        return self.min_q(condition, chunk) - self.v(condition)


class Range(NamedTuple):
    """Smallest and largest of some values."""

    low: float
    high: float


@dataclass(frozen=True)
class CriticReport:
    """What is known of a trained critic. Everything below is about the critic that is returned.

    Attributes:
        steps: Optimiser steps.
        losses: Of the last steps, by name: `q`, `v`.
        v_range: Of V over all transitions.
        q_range: Of both Q over all transitions.
        return_range: Of all discounted returns that are possible with the data's rewards, see `return_range`.
        share_in_range: Share of V and Q values in that range, widened by `MARGIN` of its length on either side.
        rank_correlation: Spearman's, of V at the start of held-out episodes with their outcome; None if they all ended
            alike.
        held_out_episodes: Episodes kept from training.
        problem: Why the critic should not be trusted; None if nothing speaks against it.
        start_value: Mean V at the start of held-out episodes; None without any. Much below `start_return` it says that
            the rewards have not travelled back yet: train longer.
        start_return: Mean discounted return of those episodes.
    """

    steps: int
    losses: dict[str, float]
    v_range: Range
    q_range: Range
    return_range: Range
    share_in_range: float
    rank_correlation: float | None
    held_out_episodes: int
    problem: str | None
    start_value: float | None = None
    start_return: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        document = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}


class CriticLosses(NamedTuple):
    """Losses of one batch, before any step."""

    q: Tensor
    v: Tensor


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Mean of `|expectile - 1(difference < 0)| difference^2` (equation 4); any shape to a scalar."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def critic_losses(critic: IqlCritic, target: QEnsemble, batch: Transitions, expectile: float) -> CriticLosses:
    """Equations 5 and 6 on a batch; `target` is the slow copy of the twins."""
    with torch.no_grad():
        following = torch.where(batch.terminated, 0.0, critic.v(batch.next_condition))
        backup = batch.reward + batch.discount * following
        seen = target(batch.condition, batch.chunk).amin(dim=0)
    v = expectile_loss(seen - critic.v(batch.condition), expectile)
    q = (critic.q(batch.condition, batch.chunk) - backup).square().mean(dim=1).sum()
    return CriticLosses(q, v)


def return_range(transitions: Transitions) -> Range:
    """Smallest and largest discounted return that any sequence of the data's rewards could give.

    The largest, `G`, is the fixed point of `G = max(r + discount G)` over windows that go on and `max(r)` over those
    that terminate, hence the larger of `max r / (1 - discount)` and `max r`; the smallest likewise. Undiscounted, the
    longest episode bounds how often a window's reward can come.
    """
    reward, discount = transitions.reward.double(), transitions.discount.double()
    longest = transitions.episode_length.max().clamp(min=1)
    share = torch.where(discount < 1, 1 - discount, transitions.valid.sum(dim=1) / longest)
    bounds = torch.where(transitions.terminated, reward, reward / share)
    return Range(float(bounds.min()), float(bounds.max()))


def held_out_mask(success: Tensor, fraction: float, seed: int) -> Tensor:
    """Which episodes to keep from training: whole ones, the same share of successes and of failures.

    At least one of either where there are two, so that a rank correlation is possible. Shape (E,) to (E,), bool.
    """
    held_out = np.zeros(len(success), dtype=bool)
    generator = np.random.default_rng(seed)
    for outcome in (False, True):
        alike = np.flatnonzero(success.cpu().numpy() == outcome)
        wanted = 0 if fraction == 0 else max(1, round(fraction * len(alike)))
        held_out[generator.permutation(alike)[: min(wanted, len(alike) - 1)] if len(alike) > 1 else []] = True
    return torch.from_numpy(held_out).to(success.device)


def rank_correlation(one: npt.ArrayLike, two: npt.ArrayLike) -> float | None:
    """Spearman's: Pearson's of the ranks, ties sharing their mean rank; None if either side is all alike.

    Args:
        one: Shape (N,).
        two: Shape (N,).
    """
    if any(len(np.unique(each)) < 2 for each in (one, two)):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(one, two).statistic)


def train_critic(
    transitions: Transitions,
    config: CriticConfig,
    device: str | torch.device = "cpu",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[IqlCritic, CriticReport]:
    """Trains critics and says how far to trust them; a function of the transitions and the config alone.

    The critic returned is the one trained without the held-out episodes, not a second one trained on everything: so the
    report is about the very critic that will judge, and costs no second training. See `require_signal` for data that
    has nothing to say.

    Args:
        transitions: Encoded by the policy to be improved.
        config: See `CriticConfig`.
        device: To train on; the critic stays there.
        progress: Called every `LOG_EVERY` steps with the steps done and the losses.

    Raises:
        BadTransitions: There are none to train on, or some hold NaN or infinity; names the episode.
        Diverged: A loss, its gradient or a value is NaN or infinite.
    """
    config.validate()
    require_finite(transitions)
    data = transitions.to(device)
    held_out = held_out_mask(data.success, config.held_out_fraction, config.seed)
    training = data.select(~held_out[data.episode])
    if len(training) == 0:
        raise BadTransitions(f"no transitions to train a critic on: {len(data.success)} episodes hold no window")
    with first_weights(config.seed):
        critic = IqlCritic(data.condition.shape[1], data.chunk.shape[1], data.chunk.shape[2], config).to(device)
    for network in (critic.twins, critic.value):
        network.standardizer.fit(training.condition)
    losses = _optimise(critic, training, config, progress)
    critic.eval().requires_grad_(False)
    return critic, _report(critic, data, held_out, config, losses)


def require_finite(transitions: Transitions) -> None:
    """Refuses NaN and infinity.

    Raises:
        BadTransitions: Names the first such episode, tick and tensor.
    """
    for name in ("condition", "chunk", "reward", "discount", "next_condition"):
        values: Tensor = getattr(transitions, name)
        bad = (~values.isfinite().flatten(1).all(dim=1) if values.dim() > 1 else ~values.isfinite()).nonzero()
        if len(bad):
            first = int(bad[0])
            episode, tick = int(transitions.episode[first]), int(transitions.tick[first])
            raise BadTransitions(
                f"transition of episode {episode} at tick {tick}: {name} holds NaN or infinity, as do {len(bad) - 1} "
                "others; look at the episode with robot-rl data verify, and leave it out"
            )


def _optimise(
    critic: IqlCritic,
    data: Transitions,
    config: CriticConfig,
    progress: Callable[[int, dict[str, float]], None] | None,
) -> dict[str, float]:
    device = data.reward.device
    target = copy.deepcopy(critic.twins).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        critic.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    remedy = f"lower critic.learning_rate ({config.learning_rate}) or the rewards' scale"
    descent = Descent("the critic", optimizer, remedy, config.gradient_clip)
    recent: dict[str, float] = {}
    for step in range(config.steps):
        generator = step_generator(device, config.seed, step)
        chosen = torch.randint(len(data), (config.batch_size,), generator=generator, device=device)
        losses = critic_losses(critic, target, data.select(chosen), config.expectile)
        descent.step(losses.q + losses.v, config.learning_rate_at(step))
        follow(target, critic.twins, config.target_rate)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == config.steps:
            recent = {name: each.detach().item() for name, each in losses._asdict().items()}
            if progress is not None:
                progress(step + 1, recent)
    return recent


@torch.no_grad()
def _report(
    critic: IqlCritic, data: Transitions, held_out: Tensor, config: CriticConfig, losses: dict[str, float]
) -> CriticReport:
    parts = zip(torch.split(data.condition, EVALUATION_BATCH), torch.split(data.chunk, EVALUATION_BATCH), strict=True)
    pairs = [(critic.v(condition), critic.q(condition, chunk)) for condition, chunk in parts]
    v, q = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs], dim=1)
    values = torch.cat([v, q.flatten()])
    if not values.isfinite().all():
        raise Diverged("critics give NaN or infinity for the data they were trained on; lower the learning rate")
    possible = return_range(data)
    margin = MARGIN * (possible.high - possible.low)
    within = (values >= possible.low - margin) & (values <= possible.high + margin)
    share = float(within.double().mean())
    starts = data.starts[held_out[data.episode[data.starts]]]
    begun = data.episode[starts]
    return CriticReport(
        steps=config.steps,
        losses=losses,
        v_range=Range(float(v.min()), float(v.max())),
        q_range=Range(float(q.min()), float(q.max())),
        return_range=possible,
        share_in_range=share,
        rank_correlation=rank_correlation(v[starts].cpu().numpy(), data.success[begun].cpu().numpy()),
        held_out_episodes=int(held_out.sum()),
        problem=_problem(share, values, possible),
        start_value=float(v[starts].mean()) if len(starts) else None,
        start_return=float(data.discounted_return[begun].mean()) if len(starts) else None,
    )


def _problem(share: float, values: Tensor, possible: Range) -> str | None:
    if share >= SHARE_WANTED:
        return None
    return (
        f"only {share:.1%} of the critics' values lie near the possible returns, {possible.low:.3g} to "
        f"{possible.high:.3g} (wanted {SHARE_WANTED:.0%}): they reach from {float(values.min()):.3g} to "
        f"{float(values.max()):.3g}; train longer, or lower reward.gamma or critic.learning_rate"
    )
