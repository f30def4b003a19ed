"""From decisions to advantages: how much better each chunk did than was expected of its state.

Generalised advantage estimation (arXiv 1506.02438, equation 16), one decision as one step. A decision holds until the
next one, the operator's takeover or the episode's end; what it earned is discounted tick by tick.

    delta_i = R_i + D_i V(c'_i) - V(c_i)                     V(c'_i) = 0 where the episode has terminated
    A_i     = delta_i + D_i lambda A_{i+1}                   without the second term at the end of a segment

A segment ends where the episode does and where the operator takes over: there it bootstraps with the value of what was
seen at the takeover, for what the operator does is no merit of the policy's. After giving back, the next one begins.

Legend: `M` decisions, `K` denoising steps, `H` chunk length, `A` action dimension, `C` encoding size, `T` ticks of one
episode.

What the operator's driving tells the value network, and which value that makes it.

The operator's ticks have no place in the surrogate: they are not the policy's actions. What came of them is known all
the same, so every span of theirs is cut into stretches of `n` ticks, as long as a decision of the policy holds, with
lambda-returns of its own:

    R_i + D_i ((1 - lambda) V(c'_i) + lambda G_{i+1})       G bootstraps with V where the operator gives back

V is thereby the value of what the robot does as a whole: the policy, and the operator taking over as they did. Without
their ticks it would be asked, at every takeover, for states that it never learned: those where they drive. The
transitions of interventions train the critic in RLIF (arXiv 2311.12996) and HIL-SERL (arXiv 2410.21845) too; theirs is
an off-policy Q, which assumes the policy's own action at the next state, while a V takes what came as it came. So a
state from which the operator saves the day is worth much, and a policy that brings them there is not blamed by V:
`RewardConfig.intervention_penalty` is what makes a takeover cost something, and the value falls back to the policy's
own as takeovers become rare.

Legend: `M` stretches, `n` executed rows, `T` ticks of one episode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policies.diffusion import DiffusionPolicy
from robot_rl.core.episode import Episode, Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.collected import CollectedEpisode
from robot_rl.learning.randomness import evaluating
from robot_rl.learning.transitions import RewardConfig, encode_ticks

Integers = npt.NDArray[np.int64]


class NoDecisions(RobotRLError):
    """Episodes in which the policy decided nothing that had a consequence."""


@dataclass(frozen=True)
class Stretches:
    """Stretches of driving in order of time, episode after episode, and what came of each; on one device.

    Attributes:
        condition: Encoding of what was seen at the first tick. Shape (M, C).
        reward: Sum of `gamma^i r_i` over the ticks. Shape (M,).
        discount: `gamma^ticks`, what a value at `next_condition` counts. Shape (M,).
        next_condition: Encoding at the next stretch, the change of driver or the end. Shape (M, C).
        terminated: Nothing comes after: do not bootstrap. Shape (M,), bool.
        cut: Last of its segment, though the episode would have gone on: bootstrap, but look no further. Shape (M,).
        episode: Number of the episode. Shape (M,), int64.
        tick: At which it began. Shape (M,), int64.
    """

    condition: Tensor
    reward: Tensor
    discount: Tensor
    next_condition: Tensor
    terminated: Tensor
    cut: Tensor
    episode: Tensor
    tick: Tensor

    def __len__(self) -> int:
        """Number of stretches, `M`."""
        return len(self.reward)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All of several, their episodes numbered on from part to part.

        Raises:
            RobotRLError: No parts.
        """
        if not parts:
            raise RobotRLError("no segments to join: give at least one")
        numbered, first = [], 0
        for part in parts:
            numbered.append(dataclasses.replace(part, episode=part.episode + first))
            first += int(part.episode.max()) + 1 if len(part) else 0
        return cls.joined(numbered)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All of several, at least one, their episodes numbered already."""
        names = [each.name for each in dataclasses.fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Segments(Stretches):
    """The policy's own decisions: each stretch is as long as one held.

    Attributes:
        states: The chain behind each chunk, normalised units. Shape (M, K + 1, H, A).
        taken_over: Cut because the operator took over. Shape (M,), bool.
    """

    states: Tensor
    taken_over: Tensor


class Bounds(NamedTuple):
    """Where the stretches of one episode lie, and how each ends."""

    start: Integers
    """First tick of each. Shape (m,)."""
    end: Integers
    """First tick after each, at most T. Shape (m,)."""
    terminated: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]


class Spans(NamedTuple):
    """Which decisions of an episode count, and how far each one reached."""

    kept: Integers
    """Indices into the episode's decisions. Shape (m,)."""
    start: Integers
    """Tick of each. Shape (m,)."""
    end: Integers
    """First tick it no longer held, at most T. Shape (m,)."""
    terminated: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]
    taken_over: npt.NDArray[np.bool_]


def gae(
    reward: Tensor,
    discount: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    cut: Tensor,
    lam: float,
) -> Tensor:
    """Advantages of decisions in order of time; see the module's equations. All shapes (M,).

    Args:
        reward: Earned while the decision held.
        discount: Of `next_value`, `gamma^ticks`.
        value: V at the decision.
        next_value: V where it ended; not read where terminated.
        terminated: bool.
        cut: bool; ends a segment with a bootstrap.
        lam: Lambda: 0 trusts the value network for everything after a decision, 1 only for the end of a segment.

    Raises:
        RobotRLError: The last decision ends no segment: its successor is missing.
    """
    ends = terminated | cut
    if len(reward) and not bool(ends[-1]):
        raise RobotRLError("the last decision neither terminated nor was cut: mark it as cut, it then bootstraps")
    following = torch.where(terminated, torch.zeros_like(next_value), next_value)
    delta = (reward + discount * following - value).double().cpu()
    carry = torch.where(ends, torch.zeros_like(discount), discount * lam).double().cpu()
    advantage, later = torch.zeros_like(delta), 0.0
    for index in range(len(delta) - 1, -1, -1):
        later = float(delta[index]) + float(carry[index]) * later
        advantage[index] = later
    return advantage.to(value)


def spans_of(episode: Episode, ticks: Sequence[int], ends: bool) -> Spans:
    """How far each decision reached.

    Args:
        episode: Whose `source` says who drove.
        ticks: Of the decisions, ascending.
        ends: Whether nothing follows the episode's last action. If not, the state after it is unknown, and the last
            tick's observation is where to bootstrap: a decision made there has no known consequence and is left out.

    Raises:
        RobotRLError: The ticks do not ascend, or lie outside the episode.
    """
    length = len(episode)
    start = np.asarray(ticks, dtype=np.int64)
    if len(start) and (start[0] < 0 or start[-1] >= length or (np.diff(start) <= 0).any()):
        raise RobotRLError(f"decisions at ticks {[*ticks]} of an episode of {length}: wanted ascending, from 0 to less")
    last = length if ends else max(length - 1, 0)
    by_operator = np.asarray(episode.source) == Source.OPERATOR
    kept = np.flatnonzero((start < last) & ~by_operator[start]) if len(start) else np.zeros(0, np.int64)
    start = start[kept]
    operator_ticks = np.append(np.flatnonzero(by_operator), length)
    takeover = operator_ticks[np.searchsorted(operator_ticks, start)]
    successor = np.append(start[1:], length)[: len(start)]
    end = np.minimum(np.minimum(successor, takeover), last)
    terminated = np.logical_and(ends, end == length)
    goes_on = (end == successor) & (successor < length)
    return Spans(kept, start, end, terminated, ~goes_on & ~terminated, (end == takeover) & (takeover < length))


@torch.no_grad()
def segments_of(
    policy: DiffusionPolicy, collected: Iterable[CollectedEpisode], reward: RewardConfig, *, batch_size: int = 1024
) -> Segments:
    """The policy's own decisions and what came of them.

    Aborted episodes are left out: their label says nothing. Ticks the operator drove are in none of the spans, so they
    reach no surrogate; `reward.intervention_penalty` lands on the decision that was taken over.

    Args:
        policy: Encodes, in evaluation mode, on its own device; its mode is left as it was.
        collected: With the chains that the policy sampled.
        reward: See `RewardConfig`.
        batch_size: Ticks encoded at once.

    Raises:
        SpecMismatch: An episode of another robot than the policy's.
        NoDecisions: There is none at all.
    """
    reward.validate()
    with evaluating(policy):
        kept = (each for each in collected if each.episode.result.outcome is not Outcome.ABORTED)
        parts = [_segments(policy, each, number, reward, batch_size) for number, each in enumerate(kept)]
    found = [part for part in parts if len(part)]
    if not found:
        raise NoDecisions(
            f"{len(parts)} episodes hold no decision of the policy that had a consequence: let it drive for longer, "
            "and collect with the exploring policy, which remembers its chains"
        )
    return Segments.joined(found)


def stretches_of(
    policy: DiffusionPolicy, episode: Episode, number: int, bounds: Bounds, reward: RewardConfig, batch_size: int
) -> Stretches:
    """What was seen and earned in stretches of one episode.

    Args:
        policy: Encodes, in evaluation mode.
        episode: Of the policy's robot.
        number: Of the episode.
        bounds: Of the stretches.
        reward: See `RewardConfig`.
        batch_size: Ticks encoded at once.
    """
    policy.spec.require(episode.spec, f"the policy (for robot '{policy.spec.name}')")
    start, end, count = bounds.start, bounds.end, len(bounds.start)
    seen, position = np.unique(np.concatenate([start, np.minimum(end, len(episode) - 1)]), return_inverse=True)
    encoding = encode_ticks(policy, episode, seen, batch_size)
    device = encoding.device
    rewards = reward.rewards(episode)
    earned = [
        float(np.dot(rewards[first:after], reward.gamma ** np.arange(after - first)))
        for first, after in zip(start, end, strict=True)
    ]
    return Stretches(
        condition=encoding[torch.from_numpy(position[:count]).to(device)],
        reward=torch.tensor(earned, dtype=torch.float32, device=device),
        discount=torch.tensor(reward.gamma ** (end - start), dtype=torch.float32, device=device),
        next_condition=encoding[torch.from_numpy(position[count:]).to(device)],
        terminated=torch.from_numpy(bounds.terminated).to(device),
        cut=torch.from_numpy(bounds.cut).to(device),
        episode=torch.full((count,), number, device=device),
        tick=torch.from_numpy(start).to(device),
    )


def _segments(
    policy: DiffusionPolicy, collected: CollectedEpisode, number: int, reward: RewardConfig, batch_size: int
) -> Segments:
    episode, decisions = collected.episode, collected.decisions
    spans = spans_of(episode, [each.tick for each in decisions], reward.ends(episode))
    bounds = Bounds(spans.start, spans.end, spans.terminated, spans.cut)
    found = stretches_of(policy, episode, number, bounds, reward, batch_size)
    device = found.reward.device
    chains = np.array([decisions[index].states for index in spans.kept], np.float32)
    return Segments(
        **{each.name: getattr(found, each.name) for each in dataclasses.fields(found)},
        states=torch.from_numpy(chains).to(device),
        taken_over=torch.from_numpy(spans.taken_over).to(device),
    )


def operator_bounds(episode: Episode, rows: int, ends: bool) -> Bounds:
    """Stretches of the operator's ticks; a segment ends where they give back and where the episode does.

    Args:
        episode: Whose `source` says who drove.
        rows: Ticks of a stretch; the last one before they give back may be shorter.
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
    rows = policy.execute_horizon
    with evaluating(policy):
        parts = [
            stretches_of(policy, each, number, operator_bounds(each, rows, reward.ends(each)), reward, batch_size)
            for number, each in enumerate(episodes)
        ]
    found = [part for part in parts if len(part)]
    return Stretches.joined(found) if found else None
