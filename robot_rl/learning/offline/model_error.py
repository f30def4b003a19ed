"""What a transition model is worth: its errors on episodes that it never learned from.

Legend: `B` batch, `C` encoding size, `M` transitions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robot_rl.learning.offline.transition_model import DynamicsEnsemble, whole
from robot_rl.learning.transitions import Transitions


@dataclass(frozen=True)
class DynamicsReport:
    """What the transition model is worth, on episodes that it never learned from.

    Attributes:
        losses: Step to training loss.
        held_out_error: Error of one chunk's change per member, over the change's spread; "nothing changes" scores 1.
        elites: Chosen by it.
        error_by_horizon: Chunks to open-loop error of the elites along recorded chunks: root mean square over features,
            each over its spread in the data.
        nothing_changes: The same for the model that leaves the condition as it is.
        termination_auc: How well whole chunks that end the episode are told from those that do not; None without both.
        termination_rate: Share of held-out chunks, those that reach beyond the end among them, that end the episode:
            predicted and recorded.
        reward_error: Root mean square over the same chunks, in units of reward.
        held_out_episodes: How many.
    """

    losses: Mapping[int, float]
    held_out_error: list[float]
    elites: list[int]
    error_by_horizon: Mapping[int, float]
    nothing_changes: Mapping[int, float]
    termination_auc: float | None
    termination_rate: tuple[float, float]
    reward_error: float
    held_out_episodes: int

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return dataclasses.asdict(self)


@torch.no_grad()
def member_errors(model: DynamicsEnsemble, aside: Transitions) -> list[float]:
    """Error of one chunk's change per member, over the change's spread."""
    chosen = aside.select(whole(aside))
    moves = model.change_spread > 0
    errors = []
    for member in range(model.members):
        answer = torch.full((len(chosen.condition),), member, device=chosen.condition.device)
        predicted = model.step(chosen.condition, chosen.chunk, answer).next_condition
        error = ((predicted - chosen.next_condition) / model.change_spread)[:, moves]
        errors.append(float(error.square().mean().sqrt()) if moves.any() else 0.0)
    return errors


@torch.no_grad()
def measure(
    model: DynamicsEnsemble, aside: Transitions, losses: Mapping[int, float], errors: list[float]
) -> DynamicsReport:
    """The report of a model whose elites are chosen; `errors` are its members'."""
    known = aside.select(aside.valid.all(dim=1) | aside.terminated)
    full = known.valid.all(dim=1)
    answers = [
        model.step(known.condition, known.chunk, torch.full_like(known.episode, member)) for member in model.elites
    ]
    termination = torch.stack([answer.termination for answer in answers]).mean(dim=0)
    reward = torch.stack([answer.reward for answer in answers]).mean(dim=0)
    by_horizon, unchanged = error_by_horizon(model, aside)
    return DynamicsReport(
        losses=losses,
        held_out_error=errors,
        elites=model.elites,
        error_by_horizon=by_horizon,
        nothing_changes=unchanged,
        termination_auc=auc(termination[full], known.terminated[full]),
        termination_rate=(float(termination.mean()), float(known.terminated.float().mean())),
        reward_error=float((reward - known.reward).square().mean().sqrt()),
        held_out_episodes=len(set(aside.episode.tolist())),
    )


def error_by_horizon(model: DynamicsEnsemble, aside: Transitions) -> tuple[dict[int, float], dict[int, float]]:
    """Open-loop error after 1, 2, 4, ... chunks along recorded ones, and that of "nothing changes".

    Args:
        model: Every elite rolls out alone; their errors are averaged as squares.
        aside: Held-out transitions, of any stride that whole chunks can be chained at.
    """
    chains = _chains(aside, whole(aside), model.rows)
    spread, moves = model.spread, model.change_spread > 0
    errors: dict[int, float] = {}
    unchanged: dict[int, float] = {}
    horizon = 1
    while horizon <= chains.shape[1]:
        chain = chains[(chains[:, :horizon] >= 0).all(dim=1), :horizon]
        if not len(chain) or not moves.any():
            break
        first, target = aside.condition[chain[:, 0]], aside.next_condition[chain[:, -1]]
        squares = []
        for member in model.elites:
            condition, answer = first, torch.full((len(chain),), member, device=first.device)
            for column in chain.unbind(1):
                condition = model.step(condition, aside.chunk[column], answer).next_condition
            squares.append(((condition - target) / spread)[:, moves].square().mean())
        errors[horizon] = float(torch.stack(squares).mean().sqrt())
        unchanged[horizon] = float(((first - target) / spread)[:, moves].square().mean().sqrt())
        horizon *= 2
    return errors, unchanged


def auc(score: Tensor, positive: Tensor) -> float | None:
    """Probability that a positive scores higher than a negative, ties half; None without both. Shapes (B,)."""
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return None
    from scipy.stats import rankdata

    ranks = rankdata(score.cpu().double().numpy())
    return float((ranks[positive.cpu().numpy()].sum() - ups * (ups + 1) / 2) / (ups * downs))


def _chains(transitions: Transitions, able: Tensor, rows: int) -> Tensor:
    """For each whole transition the indices of those that follow it chunk by chunk, -1 beyond. Shape (B, chunks)."""
    index = {
        (int(episode), int(tick)): number
        for number, (episode, tick, good) in enumerate(
            zip(transitions.episode.tolist(), transitions.tick.tolist(), able.tolist(), strict=True)
        )
        if good
    }
    chains = []
    for episode, tick in index:
        chain: list[int] = []
        while (episode, tick + len(chain) * rows) in index:
            chain.append(index[episode, tick + len(chain) * rows])
        chains.append(chain)
    longest = max((len(chain) for chain in chains), default=0)
    table = torch.full((len(chains), longest), -1, dtype=torch.int64)
    for row, chain in zip(table, chains, strict=True):
        row[: len(chain)] = torch.tensor(chain)
    return table.to(transitions.condition.device)
