"""How much better each chunk did than was expected of its state, and what the operator's driving was worth.

Every episode is cut into segments (`robot_rl.learning.segments`). One of the policy's lasts as long as one decision,
a sampled chunk, held: until the next one, the operator's takeover or the episode's end. One of the operator's lasts `n`
ticks, as long as a decision would. What a segment earned is discounted tick by tick, and generalised advantage
estimation (arXiv 1506.02438, equation 16) takes it as one step:

    delta_i = R_i + D_i V(c'_i) - V(c_i)                     V(c'_i) = 0 where the episode has terminated
    A_i     = delta_i + D_i lambda A_{i+1}                   without the second term where the segment is cut

The policy's segments are cut where the operator takes over: they bootstrap with the value of what was seen there, for
what the operator does is no merit of the policy's. After giving back, the next one begins.

The operator's segments have no place in the surrogate: they are not the policy's actions. What came of them is known
all the same, and its lambda-returns `A_i + V(c_i)` tell the value network, cut where the operator gives back. V is
thereby the value of what the robot does as a whole: the policy, and the operator taking over as they did. Without their
ticks it would be asked, at every takeover, for states that it never learned: those where they drive. The transitions of
interventions train the critic in RLIF (arXiv 2311.12996) and HIL-SERL (arXiv 2410.21845) too; theirs is an off-policy
Q, which assumes the policy's own action at the next state, while a V takes what came as it came. So a state from which
the operator saves the day is worth much, and a policy that brings them there is not blamed by V:
`RewardConfig.intervention_penalty` is what makes a takeover cost something, and the value falls back to the policy's
own as takeovers become rare.

Legend: `M` segments, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension, `C` encoding size,
`T` ticks of one episode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from policies.trainable import DenoisingPolicy
from robot_rl.core.episode import Episode, Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.collected import CollectedEpisode
from robot_rl.learning.randomness import evaluating
from robot_rl.learning.segments import Segments, regular_starts, segment
from robot_rl.learning.transitions import RewardConfig, encode_ticks


class NoDecisions(RobotRLError):
    """Episodes in which the policy decided nothing that had a consequence."""


@dataclass(frozen=True)
class EncodedSegments:
    """Segments in order of time, episode after episode, and what came of each; on one device.

    Attributes:
        condition: Encoding of what was seen at the first tick. Shape (M, C).
        reward: Sum of `gamma^i r_i` over the ticks. Shape (M,).
        discount: `gamma^ticks`, what a value at `next_condition` counts. Shape (M,).
        next_condition: Encoding at the next segment, the change of driver or the end. Shape (M, C).
        terminated: Nothing comes after: do not bootstrap. Shape (M,), bool.
        cut: The driver changes or the recording stops after it, though the episode would have gone on: bootstrap, but
            look no further. Shape (M,), bool.
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
        """Number of segments, `M`."""
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
class PolicySegments(EncodedSegments):
    """The policy's own: each is as long as one of its decisions held.

    Attributes:
        states: The chain behind each chunk, normalised units. Shape (M, K + 1, H, A).
        taken_over: Cut because the operator took over. Shape (M,), bool.
    """

    states: Tensor
    taken_over: Tensor


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


@torch.no_grad()
def policy_segments(
    policy: DenoisingPolicy, collected: Iterable[CollectedEpisode], reward: RewardConfig, *, batch_size: int = 1024
) -> PolicySegments:
    """The policy's own decisions and what came of them.

    Aborted episodes are left out: their label says nothing. Ticks the operator drove are in none of the segments, so
    they reach no surrogate; `reward.intervention_penalty` lands on the decision that was taken over.

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
        parts = [_policy_segments(policy, each, number, reward, batch_size) for number, each in enumerate(kept)]
    found = [part for part in parts if len(part)]
    if not found:
        raise NoDecisions(
            f"{len(parts)} episodes hold no decision of the policy that had a consequence: let it drive for longer, "
            "and collect with the exploring policy, which remembers its chains"
        )
    return PolicySegments.joined(found)


@torch.no_grad()
def operator_segments(
    policy: DenoisingPolicy, episodes: Iterable[Episode], reward: RewardConfig, *, batch_size: int = 1024
) -> EncodedSegments | None:
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
    with evaluating(policy):
        parts = [
            encode_segments(policy, each, number, _of_operator(each, policy, reward), reward, batch_size)
            for number, each in enumerate(episodes)
        ]
    found = [part for part in parts if len(part)]
    return EncodedSegments.joined(found) if found else None


def encode_segments(
    policy: DenoisingPolicy, episode: Episode, number: int, segments: Segments, reward: RewardConfig, batch_size: int
) -> EncodedSegments:
    """What was seen and earned in the segments of one episode.

    Args:
        policy: Encodes, in evaluation mode.
        episode: Of the policy's robot.
        number: Of the episode.
        segments: Of the episode.
        reward: See `RewardConfig`.
        batch_size: Ticks encoded at once.
    """
    policy.spec.require(episode.spec, f"the policy (for robot '{policy.spec.name}')")
    start, end, count = segments.start, segments.end, len(segments.start)
    seen, position = np.unique(np.concatenate([start, np.minimum(end, len(episode) - 1)]), return_inverse=True)
    encoding = encode_ticks(policy, episode, seen, batch_size)
    device = encoding.device
    rewards = reward.rewards(episode)
    earned = [
        float(np.dot(rewards[first:after], reward.gamma ** np.arange(after - first)))
        for first, after in zip(start, end, strict=True)
    ]
    return EncodedSegments(
        condition=encoding[torch.from_numpy(position[:count]).to(device)],
        reward=torch.tensor(earned, dtype=torch.float32, device=device),
        discount=torch.tensor(reward.gamma ** (end - start), dtype=torch.float32, device=device),
        next_condition=encoding[torch.from_numpy(position[count:]).to(device)],
        terminated=torch.from_numpy(segments.terminated).to(device),
        cut=torch.from_numpy(segments.cut).to(device),
        episode=torch.full((count,), number, device=device),
        tick=torch.from_numpy(start).to(device),
    )


def _policy_segments(
    policy: DenoisingPolicy, collected: CollectedEpisode, number: int, reward: RewardConfig, batch_size: int
) -> PolicySegments:
    episode, decisions = collected.episode, collected.decisions
    ticks = [each.tick for each in decisions]
    segments = segment(episode.source, ticks, reward.ends(episode), driver=Source.POLICY)
    found = encode_segments(policy, episode, number, segments, reward, batch_size)
    device = found.reward.device
    chains = np.array([decisions[index].states for index in segments.kept], np.float32)
    return PolicySegments(
        **{each.name: getattr(found, each.name) for each in dataclasses.fields(found)},
        states=torch.from_numpy(chains).to(device),
        taken_over=torch.from_numpy(segments.taken_over).to(device),
    )


def _of_operator(episode: Episode, policy: DenoisingPolicy, reward: RewardConfig) -> Segments:
    start = regular_starts(episode.source, Source.OPERATOR, policy.execute_horizon)
    return segment(episode.source, start, reward.ends(episode), driver=Source.OPERATOR)
