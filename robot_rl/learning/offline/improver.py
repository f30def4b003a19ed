"""Offline improvement: PPO against a critic, one gated trust region after another (RL-100, arXiv 2510.14830).

Until all batches are used up:

    draw      chains of the frozen reference at states of the data, A = min Q(c, chunk) - V(c)
    update    a copy of it, the candidate, by PPO over the denoising steps, a few passes over the drawn batches
    gate      accepted: the reference becomes the candidate, and the ratio's base moves with it
              rejected: the candidate's weights, their average and the optimiser are what they were before, bit for bit

The actions are the policy's own, not the data's (Uni-O4, arXiv 2311.03351, section 4.2), so nothing is learned from an
action's absence. No environment is asked: the result is the reference after the last decision.

Legend: `M` states in the data, `B` batch, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action
dimension, `C` encoding size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from policies.normalizer import ACTION
from policies.trainable import DenoisingPolicy
from robot_rl.core.decision import GateDecision
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import AT_LEAST_1, require_each
from robot_rl.learning.denoising_ppo import DenoisingPpo, PpoBatch, PpoConfig, summary_of
from robot_rl.learning.descent import Diverged, follow
from robot_rl.learning.randomness import step_generator

SecondEstimate = Callable[[DenoisingPolicy, DenoisingPolicy], Mapping[str, float]]
"""From reference and candidate to figures reported beside the gate's own; they decide nothing."""


class AdvantageCritic(Protocol):
    """Says how much better than usual a chunk is; `robot_rl.learning.offline.critic.IqlCritic` is one."""

    def advantage(self, condition: Tensor, chunk: Tensor) -> Tensor:
        """(B, C) and executed rows (B, n, A), normalised, to (B,)."""


class PolicyGate(Protocol):
    """Compares two policies; `robot_rl.learning.offline.gate.Gate` is one."""

    def judge(self, reference: DenoisingPolicy, candidate: DenoisingPolicy, seed: int, step: int = 0) -> GateDecision:
        """Whether the candidate may replace the reference."""


@dataclass
class OfflineConfig:
    """How to improve without a robot.

    Attributes:
        batches: Batches of chains in all.
        passes: Times the batches between two decisions are learned from.
        gate_every: Batches between two decisions.
        sampling_steps: Denoising steps `K` of the chains, and of the policy that results.
        sigma_min: Smallest standard deviation of a denoising step, normalised units.
        sigma_max: Largest.
        ppo: See `PpoConfig`; `batch_size` is that of the drawn batches, `epochs` is not used.
        ema_decay: Decay per optimiser step of the average that is judged and kept; null for the weights themselves.
        patience: Rejections in a row after which there is nothing more to gain.
        rejection_factor: The learning rate is multiplied by this after a rejection: a smaller step may pass.
        seed: Of states, noise and the gate's noise.
    """

    batches: int = 300
    passes: int = 2
    gate_every: int = 50
    sampling_steps: int = 10
    sigma_min: float = 0.02
    sigma_max: float = 0.1
    ppo: PpoConfig = field(default_factory=PpoConfig)
    ema_decay: float | None = None
    patience: int = 2
    rejection_factor: float = 0.5
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(self, "offline", AT_LEAST_1, "batches", "passes", "gate_every", "patience")
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise RobotRLError(f"offline.ema_decay is {self.ema_decay}, wanted 0 or more and less than 1, or null")
        if not 0.0 < self.rejection_factor <= 1.0:
            raise RobotRLError(f"offline.rejection_factor is {self.rejection_factor}, wanted more than 0, at most 1")
        self.ppo.validate()


@dataclass(frozen=True)
class OfflineResult:
    """What came of it.

    Attributes:
        policy: The reference after the last decision; it explores as the config says.
        decisions: All of them, in order; their evidence holds the update's metrics as `update_<name>`.
        reason: Why it ended, for people.
    """

    policy: DenoisingPolicy
    decisions: list[GateDecision]
    reason: str


class OfflineImprover:
    """A reference, its candidate, and what came of the candidates so far.

    Args:
        policy: Where to start; left as it is.
        critic: On the policy's device.
        gate: See `robot_rl.learning.offline.gate.Gate`.
        conditions: Encodings of states in the data, by the policy's encoder. Shape (M, C).
        config: See `OfflineConfig`.
        second_estimate: See `SecondEstimate`.

    Attributes:
        reference: The policy as accepted so far.
        decisions: So far.
        reason: Why it has ended, None while it goes on.
    """

    def __init__(
        self,
        policy: DenoisingPolicy,
        critic: AdvantageCritic,
        gate: PolicyGate,
        conditions: Tensor,
        config: OfflineConfig,
        second_estimate: SecondEstimate | None = None,
    ) -> None:
        config.validate()
        if len(conditions) == 0:
            raise RobotRLError("no states to improve at: the data holds no transitions")
        self.config = config
        self.reference = policy.with_exploration(config.sampling_steps, config.sigma_min, config.sigma_max)
        self.reference.eval().requires_grad_(False)
        self.decisions: list[GateDecision] = []
        self.reason: str | None = None
        self._critic, self._gate, self._conditions = critic, gate, conditions
        self._second_estimate = second_estimate
        self._candidate = copy.deepcopy(self.reference)
        self._candidate.denoiser.requires_grad_(True)
        self._average = None if config.ema_decay is None else copy.deepcopy(self.reference)
        self._ppo = DenoisingPpo(self._candidate, config.ppo, policy.execute_horizon)
        self._accepted_optimizer = self._ppo.state()
        self._batches_done = 0
        self._rejections = 0

    def run(self, on_decision: Callable[[GateDecision], None] | None = None) -> OfflineResult:
        """Goes on to the end.

        Args:
            on_decision: Called after each one; `state` then holds all that a resume needs.
        """
        while self.reason is None:
            decision = self.advance()
            if decision is not None and on_decision is not None:
                on_decision(decision)
        return OfflineResult(self.reference, self.decisions, self.reason)

    def advance(self) -> GateDecision | None:
        """One trust region and the decision on it; None, and a `reason`, if no batch had anything to say."""
        first, config = self._batches_done, self.config
        numbers = range(first, min(first + config.gate_every, config.batches))
        batches = [self._draw(number) for number in numbers]
        metrics = self._update(batches)
        self._batches_done = numbers.stop
        if not metrics["steps"] and not metrics["diverged"]:
            self.reason = "the critic sees no difference between the policy's actions at the data's states"
            return None
        judged = self._candidate if self._average is None else self._average
        seed = int(step_generator(torch.device("cpu"), config.seed, first, 1).initial_seed() % 2**31)
        decision = self._gate.judge(self.reference, judged, seed, self._batches_done)
        evidence = {**decision.evidence, **{f"update_{name}": value for name, value in metrics.items()}}
        if self._second_estimate is not None:
            evidence |= self._second_estimate(self.reference, judged)
        decision = dataclasses.replace(decision, evidence=evidence, step=self._batches_done)
        self._settle(decision, judged)
        return decision

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs; valid between decisions, where candidate and reference are the same."""
        return {
            "reference": copy.deepcopy(self.reference.denoiser.state_dict()),
            "ppo": self._ppo.state(),
            "decisions": [decision.to_json() for decision in self.decisions],
            "reason": self.reason,
            "batches_done": self._batches_done,
            "rejections": self._rejections,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.reference.denoiser.load_state_dict(state["reference"])
        self._ppo.load_state(state["ppo"])
        self._accepted_optimizer = self._ppo.state()
        self.decisions = [GateDecision.from_json(document) for document in state["decisions"]]
        self.reason = state["reason"]
        self._batches_done, self._rejections = int(state["batches_done"]), int(state["rejections"])
        self._return_to_reference()

    @torch.no_grad()
    def _draw(self, number: int) -> PpoBatch:
        """Chains of the reference at random states of the data; the candidate is still equal to it."""
        device = self._conditions.device
        generator = step_generator(device, self.config.seed, number)
        size = self.config.ppo.batch_size
        index = torch.randint(len(self._conditions), (size,), generator=generator, device=device)
        condition = self._conditions[index]
        steps, *chunk = self.reference.noise_shape
        noise = torch.randn(size, steps + 1, *chunk, generator=generator, device=device)
        states = self.reference.denoise(condition, noise).states
        advantage = self._critic.advantage(condition, executed_rows(self.reference, states[:, -1]))
        return PpoBatch(condition, states, self._ppo.log_prob(condition, states), advantage)

    def _update(self, batches: list[PpoBatch]) -> dict[str, float]:
        """The passes over the drawn batches, up to the KL limit."""
        taken: list[dict[str, float]] = []
        diverged = False
        try:
            for batch in batches * self.config.passes:
                taken.append(self._ppo.step(batch))
                if taken[-1]["stopped"]:
                    break
                if self._average is not None and self.config.ema_decay is not None:
                    follow(self._average.denoiser, self._candidate.denoiser, 1.0 - self.config.ema_decay)
        except Diverged:
            # What was learned before it is for the gate to judge; a critic that gives NaN fails there.
            diverged = True
        advantage = torch.cat([batch.advantage for batch in batches])
        return summary_of(taken) | {
            "diverged": float(diverged),
            "advantage_mean": float(advantage.mean()),
            "advantage_spread": float(advantage.std(correction=0)),
            "learning_rate": self._ppo.learning_rate,
        }

    def _settle(self, decision: GateDecision, judged: DenoisingPolicy) -> None:
        self.decisions.append(decision)
        if decision.accept:
            self.reference.denoiser.load_state_dict(judged.denoiser.state_dict())
            self._accepted_optimizer = self._ppo.state()
            self._rejections = 0
        else:
            learning_rate = self._ppo.learning_rate * self.config.rejection_factor
            self._ppo.load_state(self._accepted_optimizer)
            self._ppo.learning_rate = learning_rate
            self._rejections += 1
        self._return_to_reference()
        if self._rejections >= self.config.patience:
            self.reason = f"{self._rejections} candidates in a row were rejected, the last because: {decision.reason}"
        elif self._batches_done >= self.config.batches:
            self.reason = f"all {self.config.batches} batches are used up"

    def _return_to_reference(self) -> None:
        """Candidate and average become the reference, so that the next ratio is 1 before its first update."""
        weights = self.reference.denoiser.state_dict()
        self._candidate.denoiser.load_state_dict(weights)
        if self._average is not None:
            self._average.denoiser.load_state_dict(weights)


def improve_offline(
    policy: DenoisingPolicy,
    critic: AdvantageCritic,
    gate: PolicyGate,
    conditions: Tensor,
    config: OfflineConfig,
    on_decision: Callable[[GateDecision], None] | None = None,
    second_estimate: SecondEstimate | None = None,
) -> OfflineResult:
    """Improves a policy from beginning to end; arguments as `OfflineImprover`'s."""
    return OfflineImprover(policy, critic, gate, conditions, config, second_estimate).run(on_decision)


def executed_rows(policy: DenoisingPolicy, chunk: Tensor) -> Tensor:
    """A sampled chunk as a recording would hold it: decided binary channels, within [-1, 1], the rows executed.

    Args:
        policy: Whose chunk it is.
        chunk: Normalised. Shape (B, H, A).

    Returns:
        Normalised. Shape (B, n, A).
    """
    applied = policy.normalizer.normalize(ACTION, policy.to_actions(chunk))
    return applied[:, : policy.execute_horizon].clamp(-1.0, 1.0)
