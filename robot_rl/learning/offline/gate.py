"""The gate: a policy is replaced only by one that is better, as far as the data can tell.

The idea on one page: reference and candidate act in the transition model from the same episode starts, with the same
noise and the same model for each start, and a critic scores what they do. Most of what makes scores vary is common to
both and falls out of the difference. The candidate is accepted when the lower confidence bound of its mean gain exceeds
a margin (rule `paired`). The bound counts starts and models as samples: five models, the default, leave four degrees of
freedom where they disagree (`confidence.paired_gain`), two models one, and then hardly any gain is sure enough.

The rule of RL-100 (arXiv 2510.14830), `J_new - J_old >= 0.05 |J_old|` (rule `paper`), asks for a gain that one trust
region seldom reaches, and does not ask how sure it is.

Legend: `S` episode starts, `R` repeats of a start, `C` encoding size, `n` executed rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from policies.trainable import DenoisingPolicy
from robot_rl.core.confidence import paired_gain
from robot_rl.core.decision import GateDecision, append_decision, read_decisions
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.offline.model_rollouts import Critic, Rollouts, TransitionModel, roll_out

__all__ = ["Gate", "GateConfig", "GateDecision", "append_decision", "read_decisions"]

RULES = ("paired", "paper")
SCORES = ("q", "first_q", "return")
PAPER_GAIN = 0.05
"""Equation of the paper's rule: the share of |J_old| by which J must grow."""
SAME_SHAPE = ("horizon", "execute_horizon", "observation_count")


@dataclass
class GateConfig:
    """How to judge.

    Attributes:
        rule: `paired`, the lower confidence bound of the gain exceeds `margin`; or `paper`, the gain is at least 5 % of
            the reference's score.
        score: What a rollout is worth: `return`, its discounted predicted rewards and V where it was cut off; `q`, the
            smaller Q averaged along it (AM-Q); `first_q`, Q of its first chunk, without the model. Over 12 chunks of
            Meta-World's peg-insert-side (an episode has 44), `q` accepted a policy spoilt from 0.89 success to 0.20;
            `return` rejected it, over 12 chunks and over the whole episode.
        starts: Rollouts per policy; with fewer episode starts each is repeated with other noise.
        chunks: Length of a rollout; null for the longest episode's. A shorter one leaves what comes later, often all
            that tells two policies apart, to the critic.
        confidence: Of the lower bound, one-sided.
        margin: Gain that the bound must exceed, in units of return.
        range_margin: Share of the possible returns' range by which a Q may leave it.
        outside_limit: Share of Q outside of that from which the critic counts as unusable.
        seed: Of the choice among more starts than needed, and of the model for each.
    """

    rule: str = "paired"
    score: str = "return"
    starts: int = 256
    chunks: int | None = None
    confidence: float = 0.95
    margin: float = 0.0
    range_margin: float = 0.25
    outside_limit: float = 0.05
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        for name, value, allowed in (("rule", self.rule, RULES), ("score", self.score, SCORES)):
            if value not in allowed:
                raise RobotRLError(f"gate.{name} is '{value}', wanted one of {', '.join(allowed)}")
        if self.starts < 2 or (self.chunks is not None and self.chunks < 1):
            raise RobotRLError(f"gate.starts={self.starts} and gate.chunks={self.chunks}: wanted at least 2 and 1")
        if not 0.5 <= self.confidence < 1.0:
            raise RobotRLError(f"gate.confidence is {self.confidence}, wanted 0.5 or more and less than 1")


class Gate:
    """Judges candidates against a reference.

    Args:
        critic: Scores conditions and chunks.
        dynamics: Predicts what chunks lead to.
        starts: Encodings at the beginning of recorded episodes. Shape (S, C).
        config: See `GateConfig`.
        return_range: Lowest and highest return that an episode can have.

    Raises:
        RobotRLError: No starts, starts with NaN, or a setting that cannot work.
    """

    def __init__(
        self,
        critic: Critic,
        dynamics: TransitionModel,
        starts: Tensor,
        config: GateConfig,
        return_range: tuple[float, float],
    ) -> None:
        config.validate()
        if len(starts) < 2:
            raise RobotRLError(f"the gate got {len(starts)} episode starts, wanted at least 2: record more episodes")
        if not torch.isfinite(starts).all():
            raise RobotRLError("the gate's episode starts hold NaN or infinity: check the recordings and the encoder")
        self.config, self.critic, self.dynamics = config, critic, dynamics
        self.chunks = config.chunks if config.chunks is not None else dynamics.longest_episode
        low, high = return_range
        slack = config.range_margin * max(high - low, 1e-6)
        self.q_range = low - slack, high + slack
        generator = torch.Generator().manual_seed(config.seed)
        chosen = torch.randperm(len(starts), generator=generator)[: config.starts]
        self.repeats = math.ceil(config.starts / len(chosen))
        # Start by start, so that (S * R,) reshapes to (S, R); neighbours ask different models.
        self.starts = starts[chosen.to(starts.device)].repeat_interleave(self.repeats, dim=0)
        elites = torch.tensor(list(dynamics.elites))
        shuffled = elites[torch.randperm(len(elites), generator=generator)]
        self.member = shuffled[torch.arange(len(self.starts)) % len(elites)].to(starts.device)
        self._scored: dict[str, Rollouts] = {}

    def judge(self, reference: DenoisingPolicy, candidate: DenoisingPolicy, seed: int, step: int = 0) -> GateDecision:
        """Whether the candidate may replace the reference.

        Args:
            reference: Acts now.
            candidate: Would act. It must see the world through the same encoder.
            seed: Of the noise. With the same seed the reference's rollouts are kept from one call to the next, and an
                accepted candidate's become the reference's.
            step: Handed on to the decision.
        """
        problem = _mismatch(reference, candidate) or _not_numbers("reference", reference)
        problem = problem or _not_numbers("candidate", candidate)
        if problem is None and reference.execute_horizon != self.dynamics.rows:
            problem = f"the policies execute {reference.execute_horizon} rows, the model knows {self.dynamics.rows}"
        if problem is not None:
            return self._refusal(problem, step)
        keys = [self._key(policy, seed) for policy in (reference, candidate)]
        scored = {
            key: self._scored.get(key) or self._roll_out(policy, seed)
            for key, policy in zip(keys, (reference, candidate), strict=True)
        }
        self._scored = scored
        return self._decide(scored[keys[0]], scored[keys[1]], step)

    def _roll_out(self, policy: DenoisingPolicy, seed: int) -> Rollouts:
        return roll_out(
            policy, self.critic, self.dynamics, self.starts, self.member,
            chunks=self.chunks, q_range=self.q_range, seed=seed,
        )  # fmt: skip

    def _key(self, policy: DenoisingPolicy, seed: int) -> str:
        """All that rollouts depend on: a critic trained on meanwhile must not find old scores."""
        digest = hashlib.sha256(f"{seed} {json.dumps(policy.config.to_json())}".encode())
        for module in (policy, self.critic, self.dynamics):
            if isinstance(module, nn.Module):
                for tensor in module.state_dict().values():
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _decide(self, reference: Rollouts, candidate: Rollouts, step: int) -> GateDecision:
        config = self.config
        old, new = reference.score(config.score), candidate.score(config.score)
        finite = torch.isfinite(old).all() and torch.isfinite(new).all()
        evidence = self._evidence(reference, candidate)
        if not finite:
            return self._refusal("scores hold NaN or infinity", step, evidence)
        gain = paired_gain(self._by_start(new - old), self._by_start(self.member).astype(np.int64), config.confidence)
        outside = max(evidence["reference_q_outside"], evidence["candidate_q_outside"])
        required = PAPER_GAIN * abs(float(old.mean())) if config.rule == "paper" else config.margin
        if config.rule == "paper":
            accept = gain.mean >= required and gain.mean > 0.0
            reason = f"gain {gain.mean:.4g} {'reaches' if accept else 'is below'} 5 % of |{float(old.mean()):.4g}|"
        else:
            accept = gain.lower_bound > required
            reason = (
                f"{config.confidence:.0%} lower bound of the gain {gain.lower_bound:.4g} "
                f"{'exceeds' if accept else 'does not exceed'} {required:.4g}"
            )
        if outside > config.outside_limit:
            low, high = self.q_range
            accept = False
            reason = (
                f"critic unusable: {outside:.0%} of its Q lie outside {low:.4g} to {high:.4g}, which no return does"
            )
        return GateDecision(
            accept, reason, config.rule, float(old.mean()), float(new.mean()), gain.mean, gain.lower_bound, required,
            {
                **evidence,
                "standard_error": gain.standard_error,
                "degrees_of_freedom": gain.degrees_of_freedom,
                "between_models": gain.between_models,
                "share_better": float((new > old).float().mean()),
            },
            step,
        )  # fmt: skip

    def _evidence(self, reference: Rollouts, candidate: Rollouts) -> dict[str, float]:
        gains = {f"gain_{name}": float((candidate.score(name) - reference.score(name)).mean()) for name in SCORES}
        return {
            "rollouts": float(len(self.starts)),
            "chunks": float(self.chunks),
            **gains,
            "reference_ended": 1.0 - float(reference.alive.mean()),
            "candidate_ended": 1.0 - float(candidate.alive.mean()),
            "reference_q_outside": float(reference.outside.mean()),
            "candidate_q_outside": float(candidate.outside.mean()),
        }

    def _by_start(self, values: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return values.reshape(-1, self.repeats).cpu().double().numpy()

    def _refusal(self, reason: str, step: int, evidence: dict[str, float] | None = None) -> GateDecision:
        return GateDecision.refused(reason, self.config.rule, self.config.margin, evidence, step)


def _not_numbers(who: str, policy: DenoisingPolicy) -> str | None:
    for name, tensor in policy.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"the {who}'s weights hold NaN or infinity ({name})"
    return None


def _mismatch(reference: DenoisingPolicy, candidate: DenoisingPolicy) -> str | None:
    """Why the two cannot be compared on one encoding, or None."""
    if reference.spec != candidate.spec:
        return f"the candidate's robot differs: {'; '.join(reference.spec.unmet_by(candidate.spec)) or 'other ranges'}"
    for name in SAME_SHAPE:
        ours, theirs = getattr(reference, name), getattr(candidate, name)
        if ours != theirs:
            return f"the candidate's {name} is {theirs}, the reference's {ours}"
    for part in ("encoder", "normalizer"):
        ours, theirs = getattr(reference, part).state_dict(), getattr(candidate, part).state_dict()
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        if not same:
            return f"the candidate's {part} differs from the reference's: encodings mean something else to it"
    return None
