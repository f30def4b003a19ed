"""Online improvement: PPO over denoising steps on what the robot just did, with an operator who may take over.

One iteration, from the decisions of a few episodes (RL-100, arXiv 2510.14830; DPPO, arXiv 2409.00588):

    A, targets   GAE over segments; a takeover cuts it with a bootstrap, termination alone does not bootstrap
    policy       clipped surrogate over all K steps + imitation of the operator's rows, epochs up to the KL limit
    value        regression to A + V, clipped; the operator's driving tells it too, see `advantages`
    student      one-step distillation of the new policy, if there is a student

Without a trained V and an offline phase before it, the same code is the baseline "PPO straight from imitation".
An update that explodes or meets NaN is undone as a whole and said so.

Legend: `M` decisions, `B` batch, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension, `C`
encoding size.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from policies.consistency import ConsistencyPolicy
from policies.trainable import DenoisingPolicy
from policies.value import ValueNetwork
from robot_rl.core.episode import Episode, Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.core.section import AT_LEAST_0, AT_LEAST_1, SHARE, require_each
from robot_rl.learning.collected import CollectedEpisode, takeovers
from robot_rl.learning.denoising_ppo import DenoisingPpo, PpoBatch, PpoConfig, surrogate
from robot_rl.learning.descent import Diverged
from robot_rl.learning.encoded_imitation import EncodedWindows, denoising_loss, encoded_windows
from robot_rl.learning.online.advantages import (
    EncodedSegments,
    NoDecisions,
    PolicySegments,
    gae,
    operator_segments,
    policy_segments,
)
from robot_rl.learning.online.student import Distillation, FollowingStudent
from robot_rl.learning.online.value_learner import ValueConfig, ValueLearner, explained_variance
from robot_rl.learning.randomness import step_generator
from robot_rl.learning.transitions import RewardConfig

DRAW, ORDER, VALUE, STUDENT = range(4)
"""Streams of randomness within an iteration."""


@dataclass
class OnlineConfig:
    """How to improve on the robot.

    Attributes:
        iterations: Updates in all; learning rates fall to 0 over them.
        episodes_per_iteration: Episodes collected before each update.
        warmup_iterations: First iterations in which only the value network learns.
        sampling_steps: Denoising steps `K` of the policy that collects.
        sigma_min: Smallest standard deviation of a denoising step, normalised units.
        sigma_max: Largest.
        gae_lambda: Lambda per decision.
        ppo: See `PpoConfig`.
        value: See `ValueConfig`.
        imitation_weight: Of the imitation loss on the operator's rows; 0 for none.
        demonstration_weight: Of the imitation loss on the demonstrations given to `update`; 0 for none.
        imitation_batch_size: Windows per optimiser step.
        remembered_windows: Newest windows of the operator's rows that are kept from iteration to iteration.
        distillation_steps: Optimiser steps of the student per iteration.
        distillation_learning_rate: Of the student's AdamW.
        kl_undo: Divergence per denoising step over all decisions after an update from which it is undone.
        undo_factor: Learning rates are multiplied by this after an undone update, and after one that is taken back.
        veto_level: Updates since the best policy so far are taken back if the chance of as few successes as the newest
            episodes had is less than this, by Fisher's exact test against the best's own; 0 takes none back.
        seed: Of orders, draws and noise.
    """

    iterations: int = 30
    episodes_per_iteration: int = 64
    warmup_iterations: int = 1
    sampling_steps: int = 10
    sigma_min: float = 0.02
    sigma_max: float = 0.1
    gae_lambda: float = 0.95
    ppo: PpoConfig = field(default_factory=lambda: PpoConfig(clip=0.2, epochs=5, learning_rate=2e-4))
    value: ValueConfig = field(default_factory=ValueConfig)
    imitation_weight: float = 1.0
    demonstration_weight: float = 0.0
    imitation_batch_size: int = 256
    remembered_windows: int = 20_000
    distillation_steps: int = 50
    distillation_learning_rate: float = 3e-4
    kl_undo: float = 1.0
    undo_factor: float = 0.5
    veto_level: float = 0.05
    seed: int = 0

    def validate(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RobotRLError: Names the setting.
        """
        require_each(
            self,
            "online",
            AT_LEAST_1,
            "iterations",
            "episodes_per_iteration",
            "imitation_batch_size",
            "remembered_windows",
        )
        require_each(
            self,
            "online",
            AT_LEAST_0,
            "warmup_iterations",
            "imitation_weight",
            "demonstration_weight",
            "distillation_steps",
        )
        require_each(self, "online", SHARE, "gae_lambda", "undo_factor", "veto_level")
        self.ppo.validate()

    def share_at(self, iteration: int) -> float:
        """Share of the learning rates in an iteration, counted from 0: a straight line that ends at 0."""
        return max(0.0, 1.0 - iteration / self.iterations)


class OnlineLearner:
    """The policy that collects, its value network and, if wanted, its one-step student.

    Args:
        policy: Where to start; left as it is.
        value: Trained before (`IqlCritic.value`), left as it is; None for one from scratch.
        config: See `OnlineConfig`.
        reward: What episodes are worth.
        student: Trained in place; None for none.
        distillation: The student's loss; needed with a student.

    Attributes:
        policy: Explores as the config says; collect with it.
        problem: Why the last update was undone, None if it was not.
    """

    def __init__(
        self,
        policy: DenoisingPolicy,
        value: ValueNetwork | None,
        config: OnlineConfig,
        reward: RewardConfig,
        student: ConsistencyPolicy | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        config.validate()
        if student is not None and distillation is None:
            raise RobotRLError("a student was given without a distillation loss: give both or none")
        self.config, self.reward, self.student = config, reward, student
        self.policy = policy.with_exploration(config.sampling_steps, config.sigma_min, config.sigma_max)
        self.policy.eval().requires_grad_(False)
        self.policy.denoiser.requires_grad_(True)
        self.device = policy.device
        self.problem: str | None = None
        self.value = ValueLearner(value, policy.condition_size, config.value, self.device)
        self._ppo = DenoisingPpo(self.policy, config.ppo, policy.execute_horizon)
        self._following = None
        if student is not None and distillation is not None:
            self._following = FollowingStudent(student, distillation, config.distillation_learning_rate)
        self._operator_windows: EncodedWindows | None = None
        self._caution = 1.0

    def update(
        self, collected: Sequence[CollectedEpisode], demonstrations: EncodedWindows | None, iteration: int
    ) -> dict[str, float]:
        """One iteration's learning from episodes that `policy`, as it is now, has collected.

        The operator's rows are imitated, now and in later iterations, and what came of them is a target of the value
        network; they are in no surrogate.

        Args:
            collected: Aborted episodes say nothing and are left out.
            demonstrations: To imitate besides, for example successes; None for none.
            iteration: Counted from 0.

        Returns:
            The metrics of `watch` and of `learn`.
        """
        facts = self.watch(collected)
        try:
            segments = policy_segments(self.policy, collected, self.reward)
        except NoDecisions:
            segments = None
        operator = operator_segments(self.policy, _finished(collected), self.reward)
        return facts | self.learn(segments, demonstrations, iteration, operator)

    def watch(self, collected: Sequence[CollectedEpisode]) -> dict[str, float]:
        """Remembers the operator's rows, to be imitated from the next update on.

        Returns:
            Of the episodes: `episodes`, `success_rate`, `ticks`, `operator_ticks`, `takeovers`.
        """
        episodes = _finished(collected)
        corrections = encoded_windows(self.policy, episodes, Source.OPERATOR)
        if corrections is not None:
            known = [] if self._operator_windows is None else [self._operator_windows]
            windows = EncodedWindows.cat([*known, corrections])
            self._operator_windows = windows.newest(self.config.remembered_windows)
        return {
            "episodes": float(len(episodes)),
            "success_rate": sum(each.result.outcome is Outcome.SUCCESS for each in episodes) / max(1, len(episodes)),
            "ticks": float(sum(len(each) for each in episodes)),
            "operator_ticks": float(sum(int((each.source == Source.OPERATOR).sum()) for each in episodes)),
            "takeovers": float(sum(takeovers(each) for each in episodes)),
        }

    def learn(
        self,
        segments: PolicySegments | None,
        demonstrations: EncodedWindows | None,
        iteration: int,
        operator: EncodedSegments | None = None,
    ) -> dict[str, float]:
        """`update` for decisions that are encoded already.

        Args:
            segments: Of the policy as it is now; None where the operator drove all the time.
            demonstrations: See `update`.
            iteration: Counted from 0.
            operator: What the operator's driving earned, for the value network; None where they did not drive.

        Returns:
            `surrogate`'s means and `kl_last`, `steps`, `stopped`, `skipped`, `gradient_norm` of the policy's update;
            `kl_after` over all decisions; `value_explained_variance` before the update, `value_mean`, `return_mean`,
            `advantage_spread`, all of the policy's decisions; `decisions`; where they apply `value_loss`,
            `operator_windows` imitated, `operator_segments` valued and their `operator_return_mean`,
            `imitation_loss`, `distillation_loss`; `learning_rate`; `undone`, 1 if nothing of the update was kept, see
            `problem`.
        """
        before = self.state()
        self.problem = None
        share = self.config.share_at(iteration) * self._caution
        metrics: dict[str, float] = {"learning_rate": self.config.ppo.learning_rate * share, "undone": 0.0}
        try:
            metrics |= self._learn(segments, demonstrations, iteration, operator, share)
            self.problem = self._problem(metrics)
        except Diverged as error:
            self.problem = str(error)
        if self.problem is not None:
            self.load_state(before)
            self._caution *= self.config.undo_factor
            metrics["undone"] = 1.0
        return metrics

    def state(self) -> dict[str, Any]:
        """A copy of all that an exact resume needs, between updates."""
        state: dict[str, Any] = {
            "denoiser": copy.deepcopy(self.policy.denoiser.state_dict()),
            "ppo": self._ppo.state(),
            "value": self.value.state(),
            "operator_windows": None if self._operator_windows is None else tuple(self._operator_windows),
            "caution": self._caution,
        }
        return state if self._following is None else state | self._following.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.policy.denoiser.load_state_dict(state["denoiser"])
        self._ppo.load_state(state["ppo"])
        self.value.load_state(state["value"])
        windows = state["operator_windows"]
        self._operator_windows = None if windows is None else EncodedWindows(*windows)
        self._caution = float(state["caution"])
        if self._following is not None:
            self._following.load_state(state)

    def take_back(self, state: Mapping[str, Any]) -> None:
        """Goes back to an earlier `state` and learns more slowly from there; what the operator showed stays known."""
        caution, windows = self._caution, self._operator_windows
        self.load_state(state)
        self._caution, self._operator_windows = caution * self.config.undo_factor, windows

    def _learn(
        self,
        segments: PolicySegments | None,
        demonstrations: EncodedWindows | None,
        iteration: int,
        operator: EncodedSegments | None,
        share: float,
    ) -> dict[str, float]:
        self._ppo.learning_rate = self.config.ppo.learning_rate * share
        warm = iteration >= self.config.warmup_iterations
        sources = self._imitated(demonstrations)
        metrics = {"decisions": 0.0 if segments is None else float(len(segments))}
        if self._operator_windows is not None:
            metrics["operator_windows"] = float(len(self._operator_windows.valid))
        losses: list[float] = []
        extra = self._imitation(sources, iteration, losses) if sources else None
        told = self._operator_targets(operator, metrics)
        if segments is not None:
            value, advantage = self._judge(segments)
            told.insert(0, (segments.condition, advantage + value))
            metrics |= _judgement(value, advantage)
            if warm:
                metrics |= self._improve(segments, advantage, extra, iteration)
        elif extra is not None and warm:
            largest = max(len(windows.valid) for _, windows in sources)
            for loss in itertools.islice(extra, -(-largest // self.config.imitation_batch_size)):
                self._ppo.descend(loss)
        if told:
            condition, target = (torch.cat(each) for each in zip(*told, strict=True))
            generator = self._generator(iteration, VALUE)
            metrics["value_loss"] = self.value.update(condition, target, generator, share if warm else 1.0)
        if losses:
            metrics["imitation_loss"] = math.fsum(losses) / len(losses)
        if self._following is not None and segments is not None and warm:
            steps, generator = self.config.distillation_steps, self._generator(iteration, STUDENT)
            metrics["distillation_loss"] = self._following.follow(
                self.policy, segments.condition, steps, self.config.ppo.batch_size, generator
            )
        return metrics

    def _judge(self, segments: EncodedSegments) -> tuple[Tensor, Tensor]:
        """Values and advantages, with the value network as it is. Shapes (M,)."""
        value = self.value(segments.condition)
        advantage = gae(
            segments.reward, segments.discount, value, self.value(segments.next_condition),
            segments.terminated, segments.cut, self.config.gae_lambda,
        )  # fmt: skip
        return value, advantage

    def _operator_targets(
        self, operator: EncodedSegments | None, metrics: dict[str, float]
    ) -> list[tuple[Tensor, Tensor]]:
        """Conditions and returns of the operator's driving, if they drove."""
        if operator is None:
            return []
        value, advantage = self._judge(operator)
        metrics["operator_segments"] = float(len(operator))
        metrics["operator_return_mean"] = float((advantage + value).mean())
        return [(operator.condition, advantage + value)]

    def _improve(
        self, segments: PolicySegments, advantage: Tensor, extra: Iterator[Tensor] | None, iteration: int
    ) -> dict[str, float]:
        """The policy's update."""
        old = self._ppo.log_prob_of(segments.condition, segments.states)
        batch = PpoBatch(segments.condition, segments.states, old, advantage)
        metrics = self._ppo.update(batch, self._generator(iteration, ORDER), extra)
        new = self._ppo.log_prob_of(segments.condition, segments.states)
        return {**metrics, "kl_after": float(surrogate(new, old, advantage, self.config.ppo.clip)[1]["kl"])}

    def _imitated(self, demonstrations: EncodedWindows | None) -> list[tuple[float, EncodedWindows]]:
        config = self.config
        pairs = ((config.imitation_weight, self._operator_windows), (config.demonstration_weight, demonstrations))
        return [(weight, windows) for weight, windows in pairs if weight > 0 and windows is not None]

    def _imitation(
        self, sources: list[tuple[float, EncodedWindows]], iteration: int, losses: list[float]
    ) -> Iterator[Tensor]:
        """A weighted imitation loss for every optimiser step; what each was worth goes to `losses`."""
        generator = self._generator(iteration, DRAW)
        while True:
            loss = torch.zeros((), device=self.device)
            for weight, windows in sources:
                drawn = windows.draw(self.config.imitation_batch_size, generator)
                loss = loss + weight * denoising_loss(self.policy, drawn, generator)
            losses.append(float(loss.detach()))
            yield loss

    def _problem(self, metrics: Mapping[str, float]) -> str | None:
        """Why the update must not be kept, or None."""
        modules = [self.policy.denoiser, self.value.network, *([] if self.student is None else [self.student.denoiser])]
        for module in modules:
            if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
                return "a weight is NaN or infinite: lower online.ppo.learning_rate or online.value.learning_rate"
        kl = metrics.get("kl_after", 0.0)
        if not kl <= self.config.kl_undo:
            return (
                f"the policy moved by a divergence of {kl:.3g} per denoising step, the limit is "
                f"{self.config.kl_undo:g}: lower online.ppo.learning_rate"
            )
        return None

    def _generator(self, iteration: int, stream: int) -> torch.Generator:
        return step_generator(self.device, self.config.seed, iteration, stream)


def _finished(collected: Sequence[CollectedEpisode]) -> list[Episode]:
    """Aborted episodes say nothing."""
    return [each.episode for each in collected if each.episode.result.outcome is not Outcome.ABORTED]


def _judgement(value: Tensor, advantage: Tensor) -> dict[str, float]:
    """What the value network made of the policy's decisions. Shapes (M,)."""
    target = advantage + value
    return {
        "value_explained_variance": explained_variance(value, target),
        "value_mean": float(value.mean()),
        "return_mean": float(target.mean()),
        "advantage_spread": float(advantage.std(correction=0)),
    }
