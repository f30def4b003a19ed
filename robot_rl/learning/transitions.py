"""Recorded episodes as what offline and online RL learn from: encoded, with rewards, one segment per row.

The segments of an episode begin at every tick, or at every few, and overlap: each is a chunk that the policy might have
decided on. Where they may end, `robot_rl.learning.segments` says.

Legend: `M` segments, `E` episodes, `T` ticks of one episode, `N` observations seen at once, `n` executed rows of a
chunk, `A` action dimension, `C` size of the observation encoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from policies.normalizer import ACTION
from policies.trainable import DenoisingPolicy
from robot_rl.core.episode import Episode, Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import FloatArray
from robot_rl.learning.randomness import evaluating
from robot_rl.learning.segments import Integers, segment

REWARD_SOURCES = ("outcome", "recorded", "progress")
PER_EPISODE = ("success", "discounted_return", "episode_length")


class NoSignal(RobotRLError):
    """Data in which no episode did better than another: there is nothing for a critic to tell apart."""


@dataclass
class RewardConfig:
    """What an episode is worth, tick by tick.

    Attributes:
        gamma: Discount per tick.
        source: `outcome`, 1 at the last tick of an episode labelled a success and 0 elsewhere; `recorded`, what the
            judge gave at every tick; `progress`, by how much that rose since the tick before. A judge who gives more
            the nearer the goal pays for lingering near it: `recorded` makes reaching it a loss, `progress` does not.
        scale: Multiplies any of them.
        intervention_penalty: Taken off the reward of the policy's last tick before an operator takes over: that the
            operator had to is itself a signal (RLIF, arXiv 2311.12996).
    """

    gamma: float = 0.99
    source: str = "outcome"
    scale: float = 1.0
    intervention_penalty: float = 0.0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        if not 0.0 < self.gamma <= 1.0:
            raise RobotRLError(f"reward.gamma is {self.gamma}, wanted more than 0 and at most 1")
        if self.source not in REWARD_SOURCES:
            raise RobotRLError(f"reward.source is '{self.source}', wanted one of {', '.join(REWARD_SOURCES)}")
        if not (np.isfinite(self.scale) and self.scale != 0):
            raise RobotRLError(f"reward.scale is {self.scale}, wanted a number other than 0")
        if not self.intervention_penalty >= 0:
            raise RobotRLError(f"reward.intervention_penalty is {self.intervention_penalty}, wanted 0 or more")

    def rewards(self, episode: Episode) -> FloatArray:
        """Reward of every tick. Shape (T,)."""
        if self.source == "recorded":
            rewards = episode.reward.astype(np.float64)
        elif self.source == "progress":
            rewards = np.diff(episode.reward.astype(np.float64), prepend=episode.reward[:1])
        else:
            rewards = np.zeros(len(episode))
            rewards[-1:] = episode.result.outcome is Outcome.SUCCESS
        by_operator = episode.source == Source.OPERATOR
        taken_over = ~by_operator[:-1] & by_operator[1:]
        rewards = rewards * self.scale
        rewards[:-1] -= self.intervention_penalty * taken_over
        return rewards

    def ends(self, episode: Episode) -> bool:
        """Whether nothing is to be had after the episode, so that nothing is bootstrapped.

        Rewarded by outcome or progress, a labelled success has had all there is, even where a time limit cut it off.
        """
        labelled = self.source != "recorded" and episode.result.outcome is Outcome.SUCCESS
        return episode.result.terminated or labelled


@dataclass(frozen=True)
class Transitions:
    """Segments of up to `n` executed rows and what came of them; all tensors on one device.

    Attributes:
        condition: Encoding of what the policy saw. Shape (M, C).
        chunk: Applied actions, normalised and clipped to [-1, 1]; rows after the valid ones repeat the last valid one.
            Shape (M, n, A).
        valid: Rows that were executed within the episode. Shape (M, n).
        reward: Sum of `gamma^i r_i` over the valid rows. Shape (M,).
        discount: `gamma^rows` of the valid rows, what a value at `next_condition` counts. Shape (M,).
        next_condition: Encoding after the valid rows; where `terminated`, the episode's last. Shape (M, C).
        terminated: Nothing comes after: do not bootstrap. Shape (M,).
        episode: Number of the episode, into the tensors of shape (E,). Shape (M,), int64.
        tick: At which the segment begins. Shape (M,), int64.
        by_operator: Whether any valid row was the operator's. Shape (M,).
        success: Whether the episode was labelled so. Shape (E,).
        discounted_return: Of all its rewards, seen from its first tick. Shape (E,).
        episode_length: In ticks. Shape (E,), int64.
    """

    condition: Tensor
    chunk: Tensor
    valid: Tensor
    reward: Tensor
    discount: Tensor
    next_condition: Tensor
    terminated: Tensor
    episode: Tensor
    tick: Tensor
    by_operator: Tensor
    success: Tensor
    discounted_return: Tensor
    episode_length: Tensor

    def __len__(self) -> int:
        """Number of segments, `M`."""
        return len(self.reward)

    @property
    def starts(self) -> Tensor:
        """Segments that begin an episode. Shape (S,), int64."""
        return (self.tick == 0).nonzero()[:, 0]

    def select(self, which: Tensor) -> Self:
        """Some of the segments, by mask (M,) or by index; what is known of episodes stays whole."""
        return self._with({name: each[which] for name, each in self._tensors().items() if name not in PER_EPISODE})

    def to(self, device: str | torch.device) -> Self:
        """The same on another device."""
        return self._with({name: each.to(device) for name, each in self._tensors().items()})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All segments of several, their episodes numbered on from part to part.

        Raises:
            RobotRLError: No parts, or parts of other sizes of encoding, chunk or action.
        """
        if not parts:
            raise RobotRLError("no transitions to join: give at least one")
        shapes = {(part.condition.shape[1:], part.chunk.shape[1:]) for part in parts}
        if len(shapes) > 1:
            sizes = "; ".join(f"condition {tuple(c)}, chunk {tuple(a)}" for c, a in sorted(shapes))
            raise RobotRLError(f"transitions of several policies cannot be joined: {sizes}; encode them with one")
        first = np.cumsum([0, *(len(part.success) for part in parts)]).tolist()
        numbered = [part._with({"episode": part.episode + at}) for part, at in zip(parts, first, strict=False)]
        columns = [part._tensors() for part in numbered]
        return cls(**{name: torch.cat([each[name] for each in columns]) for name in columns[0]})

    def _tensors(self) -> dict[str, Tensor]:
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def _with(self, changed: dict[str, Any]) -> Self:
        return dataclasses.replace(self, **changed)


@torch.no_grad()
def encode_episodes(
    policy: DenoisingPolicy,
    episodes: Iterable[Episode],
    reward: RewardConfig,
    *,
    stride: int = 1,
    batch_size: int = 1024,
) -> Transitions:
    """Encodes episodes with the policy's encoder and cuts them into segments of its executed rows.

    Args:
        policy: Encodes in evaluation mode, on its own device; its mode is left as it was.
        episodes: Consumed one at a time, so that a generator never has more than one episode's images in memory. Leave
            aborted ones out: their label says nothing.
        reward: See `RewardConfig`.
        stride: Ticks from one segment's start to the next one's.
        batch_size: Ticks encoded at once.

    Returns:
        On the policy's device. An episode too short for a segment (a truncated one of a single tick) has none, and is
        counted among the `E` all the same.

    Raises:
        SpecMismatch: An episode of another robot than the policy's; names every differing field.
        NoSignal: There are no episodes.
        MissingStatistics: The policy has none.
    """
    reward.validate()
    policy.normalizer.require_fitted()
    if stride < 1 or batch_size < 1:
        raise RobotRLError(f"stride is {stride} and batch_size {batch_size}, wanted at least 1 each")
    with evaluating(policy):
        parts = [_encode(policy, episode, reward, stride, batch_size) for episode in episodes]
    if not parts:
        raise NoSignal("no episodes to encode: record some with robot-rl collect")
    return Transitions.cat(parts)


def require_signal(transitions: Transitions) -> None:
    """Refuses data from which a critic can learn no difference.

    Raises:
        NoSignal: No segments, or all episodes succeeded, or all failed; says what to record.
    """
    episodes, succeeded = len(transitions.success), int(transitions.success.sum())
    if len(transitions) == 0:
        raise NoSignal(f"{episodes} episodes hold no segment to learn from: record longer ones")
    if succeeded == episodes:
        raise NoSignal(
            f"all {episodes} episodes succeeded, so a critic cannot learn what fails: record failures too, or let "
            "robot-rl improve begin with rollouts of the policy"
        )
    if succeeded == 0:
        raise NoSignal(
            f"all {episodes} episodes failed, so a critic cannot learn what succeeds: record successes, or let "
            "robot-rl improve begin with rollouts of a policy that sometimes succeeds"
        )


def _encode(
    policy: DenoisingPolicy, episode: Episode, reward: RewardConfig, stride: int, batch_size: int
) -> Transitions:
    policy.spec.require(episode.spec, f"the policy (for robot '{policy.spec.name}')")
    ticks, rows = len(episode), policy.execute_horizon
    device = policy.device
    segments = segment(episode.source, np.arange(0, ticks, stride), reward.ends(episode), rows=rows)
    start, count = segments.start, segments.end - segments.start
    after = np.arange(rows)
    valid = after < count[:, None]
    taken = start[:, None] + np.minimum(after, count[:, None] - 1)
    following = np.minimum(segments.end, ticks - 1)
    seen, position = np.unique(np.stack([start, following]), return_inverse=True)
    now, then = position.reshape(2, -1)
    encoding = encode_ticks(policy, episode, seen, batch_size)

    rewards = reward.rewards(episode)
    weighted = np.where(valid, rewards[taken] * reward.gamma**after, 0.0).sum(axis=1)
    actions = policy.normalizer.normalize(ACTION, torch.from_numpy(episode.applied[taken]).to(device))
    total = float(np.dot(rewards, reward.gamma ** np.arange(ticks)))

    def numbers(values: FloatArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    return Transitions(
        condition=encoding[torch.from_numpy(now).to(device)],
        chunk=actions.clamp(-1.0, 1.0),
        valid=torch.from_numpy(valid).to(device),
        reward=numbers(weighted),
        discount=numbers(reward.gamma ** count.astype(np.float64)),
        next_condition=encoding[torch.from_numpy(then).to(device)],
        terminated=torch.from_numpy(segments.terminated).to(device),
        episode=torch.zeros(len(start), dtype=torch.int64, device=device),
        tick=torch.from_numpy(start).to(device),
        by_operator=torch.from_numpy((valid & (episode.source[taken] == Source.OPERATOR)).any(axis=1)).to(device),
        success=torch.tensor([episode.result.outcome is Outcome.SUCCESS], device=device),
        discounted_return=torch.tensor([total], device=device),
        episode_length=torch.tensor([ticks], device=device),
    )


def encode_ticks(policy: DenoisingPolicy, episode: Episode, ticks: Integers, batch_size: int) -> Tensor:
    """Encodings of what the policy saw at some ticks: the first observation repeated before there were enough."""
    device = policy.device
    before = np.arange(1 - policy.observation_count, 1)
    parts = [torch.empty(0, policy.condition_size, device=device)]
    for start in range(0, len(ticks), batch_size):
        rows = np.maximum(ticks[start : start + batch_size, None] + before, 0)
        observations = {
            name: torch.from_numpy(episode.streams[name].values[episode.frame_index[name][rows]]).to(device)
            for name in policy.spec.observations
        }
        parts.append(policy.encode(observations))
    return torch.cat(parts)
