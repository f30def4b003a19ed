"""What the robot does next: an ensemble of models of the encoding, for off-policy evaluation.

The idea on one page: each member predicts the change of the condition over one executed chunk, and the reward earned
meanwhile; a second small network predicts whether the episode ends there, and with which reward. All members train in
one batched product, each on its own bootstrap of the episodes; those with the least held-out error are the elites,
by default all of them, for the gate needs several opinions more than the best one.

Members are deterministic. The gate compares two policies under common random numbers, to which a model's own noise adds
nothing but variance; that the model may be wrong shows in how much its elites disagree, which the gate counts.

Legend: `B` batch, `E` members, `C` encoding size, `n` executed rows, `A` action dimension, `M` transitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Descent, Diverged
from robot_rl.learning.offline.model_error import DynamicsReport, measure, member_errors
from robot_rl.learning.offline.transition_model import DynamicsConfig, DynamicsEnsemble, ModelStep, whole
from robot_rl.learning.transitions import Transitions

__all__ = ["DynamicsConfig", "DynamicsEnsemble", "DynamicsReport", "ModelStep", "train_dynamics"]

Progress = Callable[[int, int, float], None]
"""Told the steps done, the steps in all and the loss, now and then."""

REPORT_EVERY = 50


class NoTransitions(RobotRLError):
    """The data cannot teach a transition model anything."""


def train_dynamics(
    transitions: Transitions,
    config: DynamicsConfig,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> tuple[DynamicsEnsemble, DynamicsReport]:
    """Learns the ensemble and measures it.

    Args:
        transitions: Windows of at least two episodes, best at every tick.
        config: See `DynamicsConfig`.
        device: To learn on and to leave the model on.
        progress: Told of every `REPORT_EVERY`-th step.

    Raises:
        NoTransitions: Fewer than two episodes with a whole chunk.
        Diverged: NaN in the data, the loss or its gradient.
    """
    config.validate()
    transitions = transitions.to(device)
    _require_numbers(transitions)
    kept, held_out = split_episodes(transitions, config.held_out_fraction, config.seed)
    model = DynamicsEnsemble(
        transitions.condition.shape[1], transitions.chunk.shape[1], transitions.chunk.shape[2], config
    ).to(device)
    model.fit_scales(transitions)
    losses = _fit(model, transitions.select(kept), config, progress)
    model.eval().requires_grad_(False)
    aside = transitions.select(held_out)
    errors = member_errors(model, aside)
    best = sorted(range(config.members), key=lambda member: errors[member])[: config.elites]
    model.elite_members.copy_(torch.tensor(best))
    return model, measure(model, aside, losses, errors)


def split_episodes(transitions: Transitions, held_out_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the transitions to learn from and of those to keep aside, by whole episodes.

    Raises:
        NoTransitions: Fewer than two episodes hold a whole chunk.
    """
    able = _distinct(transitions.episode[whole(transitions)])
    if len(able) < 2:
        raise NoTransitions(
            f"{len(able)} episodes hold a whole chunk of {transitions.chunk.shape[1]} ticks that does not end them, "
            "wanted at least 2: record more episodes, or longer ones"
        )
    generator = torch.Generator().manual_seed(seed)
    shuffled = able[torch.randperm(len(able), generator=generator).to(able.device)]
    aside = shuffled[: max(1, round(held_out_fraction * len(able)))]
    is_aside = torch.isin(transitions.episode, aside)
    return (~is_aside).nonzero()[:, 0], is_aside.nonzero()[:, 0]


def _fit(
    model: DynamicsEnsemble, transitions: Transitions, config: DynamicsConfig, progress: Progress | None
) -> dict[int, float]:
    generator = torch.Generator().manual_seed(config.seed + 1)
    moving, ending = _bootstraps(transitions, config, generator)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    remedy = f"lower dynamics.learning_rate (now {config.learning_rate})"
    descent = Descent("the transition model", optimizer, remedy, config.gradient_clip)
    losses: dict[int, float] = {}
    for step in range(config.steps):
        size = config.batch_size
        loss = motion_loss(model, transitions, _draw(moving, size, generator))
        loss = loss + ending_loss(model, transitions, _draw(ending, size, generator), generator)
        descent.step(loss, config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / config.steps)))
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == config.steps:
            losses[step + 1] = value = float(loss.detach()) / config.members
            if progress is not None:
                progress(step + 1, config.steps, value)
    return losses


def motion_loss(model: DynamicsEnsemble, transitions: Transitions, index: Tensor) -> Tensor:
    """Squared error of standardised change and reward, mean over the batch and features, sum over members.

    Args:
        model: Whose `motion` learns.
        transitions: Data.
        index: Whole transitions for each member. Shape (E, B).
    """
    condition, chunk = transitions.condition[index], transitions.chunk[index]
    change = transitions.next_condition[index] - condition
    moves = model.change_spread > 0
    scale = torch.where(moves, model.change_spread, torch.ones_like(model.change_spread))
    predicted = model.motion(model.inputs(condition, chunk))
    error = (predicted[..., :-1] - (change - model.change_centre) / scale).square() * moves
    reward_error = (predicted[..., -1] - transitions.reward[index] / model.reward_scale).square()
    loss: Tensor = (error.sum(dim=-1) / moves.sum().clamp(min=1) + reward_error).mean(dim=1).sum()
    return loss


def ending_loss(model: DynamicsEnsemble, transitions: Transitions, index: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy of termination and squared error of the reward at the end, sum over members.

    A window that reaches beyond the end repeats its last row, which alone would give the end away, while the windows
    of a rollout never do so. So every other window is cut to a length drawn from the ending ones', and what follows the
    cut is the repeated row or another window's rows, for both kinds alike.

    Args:
        model: Whose `ending` learns.
        transitions: Data.
        index: Whole or ending transitions for each member. Shape (E, B).
        generator: Draws the cuts, on the CPU.
    """
    terminated = transitions.terminated[index]
    chunk = _with_any_tail(transitions, index, generator)
    predicted = model.ending(model.inputs(transitions.condition[index], chunk))
    entropy = F.binary_cross_entropy_with_logits(predicted[..., 0], terminated.float(), reduction="none")
    error = (predicted[..., 1] - transitions.reward[index] / model.reward_scale).square() * terminated
    loss: Tensor = (entropy.mean(dim=1) + error.sum(dim=1) / terminated.sum(dim=1).clamp(min=1)).sum()
    return loss


def _with_any_tail(transitions: Transitions, index: Tensor, generator: torch.Generator) -> Tensor:
    """Chunks whose rows after the end, or after a cut drawn like one, say nothing. Shape (E, B, n, A)."""
    device = index.device
    lengths = transitions.valid.sum(dim=1)
    terminated = transitions.terminated[index]
    at_ends = lengths[transitions.terminated]
    length = lengths[index]
    if len(at_ends):
        drawn = at_ends[torch.randint(len(at_ends), tuple(index.shape), generator=generator).to(device)]
        length = torch.where(terminated, length, drawn)
    chunk = transitions.chunk[index]
    rows = torch.arange(chunk.shape[2], device=device)
    last = (length - 1)[..., None].minimum(rows)
    held = chunk.gather(2, last[..., None].expand_as(chunk))
    other = chunk[:, torch.randperm(chunk.shape[1], generator=generator).to(device)]
    foreign = (torch.rand(tuple(index.shape), generator=generator) < 0.5).to(device)[..., None] & (
        rows >= length[..., None]
    )
    return torch.where(foreign[..., None], other, held)


def _bootstraps(
    transitions: Transitions, config: DynamicsConfig, generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """For each member the transitions of its episodes, drawn with replacement: whole ones; those and the ending ones.

    Whole episodes are drawn because the windows of one overlap: leaving single windows out leaves nothing out.
    """
    moving, known = whole(transitions), whole(transitions) | transitions.terminated
    episodes = _distinct(transitions.episode[moving])
    position = torch.full((int(transitions.episode.max()) + 1,), -1, device=episodes.device)
    position[episodes] = torch.arange(len(episodes), device=episodes.device)
    slot = position[transitions.episode]
    chosen_moving, chosen_known = [], []
    for _ in range(config.members):
        drawn = torch.randint(len(episodes), (len(episodes),), generator=generator)
        count = drawn.bincount(minlength=len(episodes)).to(slot.device)
        times = torch.where(slot >= 0, count[slot.clamp(min=0)], 0)
        every = torch.arange(len(slot), device=slot.device)
        chosen_moving.append(every.repeat_interleave(times * moving))
        chosen_known.append(every.repeat_interleave(times * known))
    return chosen_moving, chosen_known


def _draw(choices: list[Tensor], size: int, generator: torch.Generator) -> Tensor:
    """A batch for each member from its own transitions. Shape (E, B)."""
    return torch.stack(
        [each[torch.randint(len(each), (size,), generator=generator).to(each.device)] for each in choices]
    )


def _require_numbers(transitions: Transitions) -> None:
    for name in ("condition", "chunk", "reward"):
        if not torch.isfinite(getattr(transitions, name)).all():
            raise Diverged(f"transitions hold NaN or infinity in '{name}': check the recordings and the encoder")
    if not torch.isfinite(transitions.next_condition[whole(transitions)]).all():
        raise Diverged("transitions hold NaN or infinity in 'next_condition': check the recordings")


def _distinct(numbers: Tensor) -> Tensor:
    return torch.tensor(sorted(set(numbers.tolist())), dtype=torch.int64, device=numbers.device)
