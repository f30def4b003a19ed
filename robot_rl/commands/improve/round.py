"""One round of iterated offline RL (arXiv 2510.14830, algorithm 1), as phases of a run.

critic -> transition model -> gated updates -> rollouts, data grows -> imitation again, gated -> the next round

What cannot be judged is not changed: without data that tells good from bad, with a critic that left the range of
possible returns, or with a model that diverged, the round's update is refused and the reason kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robot_rl.commands.improve.steps import Arm, Steps
from robot_rl.core.confidence import OwnRollouts, chance_of_so_few
from robot_rl.core.decision import GATE_FILE, REFUSED, REIMITATION, ROUND, GateDecision, append_decision
from robot_rl.learning.offline.critic import BadTransitions, CriticDiverged, IqlCritic, train_critic
from robot_rl.learning.offline.dynamics import ModelDiverged, NoTransitions, train_dynamics
from robot_rl.learning.offline.gate import Gate
from robot_rl.learning.offline.improver import improve_offline
from robot_rl.learning.offline.off_policy_evaluation import SecondOpinion
from robot_rl.learning.offline.transition_model import DynamicsEnsemble
from robot_rl.learning.transitions import NoSignal, Transitions, encode_episodes, require_signal
from robot_rl.run.checkpoint import load_policy, read_record
from robot_rl.run.dataset import LABELLED, labelled_episodes, outcomes_of

NETWORK_FILE = "network.pt"


@dataclass(frozen=True)
class RoundRecord:
    """What a round did, for the report.

    Attributes:
        number: From 1.
        decisions: The gate's, in order.
        critic: The critic's report, {} without one.
        dynamics: The model's.
        rollouts: Facts of the rollouts.
        first_rollouts: Facts of those that came first; {} where there were none.
        policy: Directory of the policy at its end.
        seconds: Of all its phases [s].
        remarks: What a reader must know to judge it.
    """

    number: int
    decisions: tuple[GateDecision, ...]
    critic: Mapping[str, Any]
    dynamics: Mapping[str, Any]
    rollouts: Mapping[str, Any]
    first_rollouts: Mapping[str, Any]
    policy: Path
    seconds: float
    remarks: tuple[str, ...] = ()

    @property
    def began_with_rollouts(self) -> bool:
        """Whether it had to roll out before a critic could learn anything."""
        return bool(self.first_rollouts)

    @property
    def ticks(self) -> int:
        """Robot ticks that it consumed."""
        return int(self.rollouts["ticks"]) + int(self.first_rollouts.get("ticks", 0))


@dataclass
class Judges:
    """What a round's gate is made of; each is loaded or trained once."""

    transitions: Transitions
    critic: IqlCritic
    dynamics: DynamicsEnsemble
    gate: Gate


class Round:
    """A round of an arm that learns by reinforcement.

    Args:
        steps: See `Steps`.
        number: From 0.
        arm: Where it begins.
        seeds: Of its rollouts.
        first_seeds: Of rollouts that come first.
    """

    def __init__(self, steps: Steps, number: int, arm: Arm, seeds: Sequence[int], first_seeds: Sequence[int]) -> None:
        self.steps, self.number, self.arm = steps, number, arm
        self.settings, self.run, self.name = steps.settings, steps.run, f"round-{number + 1}"
        self._seeds, self._first_seeds = seeds, first_seeds
        self._since = len(steps.run.phases)
        self._loaded: Judges | None = None
        self._transitions: Transitions | None = None
        self._first_rollouts: Mapping[str, Any] = {}
        self.decisions: list[GateDecision] = []
        self.remarks: list[str] = []

    def go(self) -> tuple[Arm, RoundRecord]:
        """Does the round, or loads what is done of it."""
        self._begin_with_rollouts()
        before = self.arm.policy
        critic = self.run.phase(f"{self.name}/critic", self._train_critic)
        reason, dynamics = critic.facts["refused"], None
        if reason is None:
            dynamics = self.run.phase(f"{self.name}/dynamics", self._train_dynamics)
            reason = dynamics.facts["refused"]
            self._doubt(critic.facts["report"], dynamics.facts["report"])
        if reason is None:
            self._improve()
        else:
            self._note(self._refused(f"no update in this round: {reason}"))
        rollouts = self.steps.collect(f"{self.name}/rollouts", self.arm, self._seeds)
        self.arm = dataclasses.replace(self.arm, snapshot=rollouts.facts["snapshot"])
        self._take_back(before, OwnRollouts.of(rollouts.facts["outcomes"]))
        grown = self.arm
        self._imitate_again(grown, None if reason is None else str(reason), critic.facts["blind"])
        arm = dataclasses.replace(grown, policy=self.arm.policy)
        phases = self.run.phases[self._since :]
        record = RoundRecord(
            self.number + 1,
            tuple(self.decisions),
            critic.facts["report"],
            {} if dynamics is None else dynamics.facts["report"],
            rollouts.facts,
            self._first_rollouts,
            arm.policy,
            sum(phase.seconds for phase in phases),
            tuple(self.remarks),
        )
        return arm, record

    def _begin_with_rollouts(self) -> None:
        """Rollouts of the policy to improve: what it does wrong is what critic and model must know of."""
        outcomes = outcomes_of(self.arm.dataset, self.arm.snapshot)
        blind = not all(outcomes[str(each)] for each in LABELLED)
        if self.number > 0 or not (blind or self.settings.first_rollouts):
            return
        if blind:
            only = next(str(each) for each in LABELLED if outcomes[str(each)])
            self._remark(
                f"all {outcomes[only]} demonstrations are labelled {only}: it began with rollouts of the policy"
            )
        facts = self.steps.collect(f"{self.name}/first-rollouts", self.arm, self._first_seeds).facts
        self._first_rollouts = facts
        own = OwnRollouts.of(facts["outcomes"])
        self.arm = dataclasses.replace(self.arm, snapshot=facts["snapshot"], own=own)

    def _take_back(self, before: Path, after: OwnRollouts) -> None:
        """Undoes what the gate accepted if the rollouts of it say that it was wrong."""
        own = self.arm.own
        # A round that accepted nothing has written the same policy to another place.
        if own is not None and any(each.accept for each in self.decisions):
            chance = chance_of_so_few(own, after)
            if chance < self.settings.veto_level:
                self._remark(
                    f"taken back what the gate accepted: {after} rollouts succeeded, {own} before it, p = {chance:.2g}"
                )
                self.arm = dataclasses.replace(self.arm, policy=before)
                return
        self.arm = dataclasses.replace(self.arm, own=after)

    def _doubt(self, critic: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        """Says where the gate's evidence is weak; that alone refuses nothing."""
        rank = critic.get("rank_correlation")
        if rank is not None and rank <= 0:
            self._remark(f"V at the start does not rank held-out outcomes (correlation {rank:.2f})")
        if model and model["error_by_horizon"].get("1", 0.0) >= model["nothing_changes"].get("1", math.inf):
            self._remark("the transition model predicts one chunk no better than that nothing changes")

    def transitions(self) -> Transitions:
        """The arm's data at the beginning of the round, encoded by its policy."""
        if self._transitions is None:
            policy = self.steps.policy_of(self.arm.policy)
            episodes = labelled_episodes(self.arm.dataset, self.arm.snapshot, policy.spec)
            self._transitions = encode_episodes(policy, episodes, self.settings.reward)
        return self._transitions

    def _train_critic(self, directory: Path) -> Mapping[str, Any]:
        settings = self.settings
        try:
            require_signal(self.transitions())
            config = dataclasses.replace(settings.critic, seed=settings.critic.seed + settings.seed + self.number)
            critic, report = train_critic(self.transitions(), config, self.steps.device)
        except NoSignal as error:
            return {"refused": str(error), "blind": True, "report": {}}
        except (CriticDiverged, BadTransitions) as error:
            return {"refused": str(error), "blind": False, "report": {}}
        torch.save(critic.state_dict(), directory / NETWORK_FILE)
        return {"refused": report.problem, "blind": False, "report": report.to_json()}

    def _train_dynamics(self, directory: Path) -> Mapping[str, Any]:
        settings = self.settings
        config = dataclasses.replace(settings.dynamics, seed=settings.dynamics.seed + settings.seed + self.number)
        try:
            model, report = train_dynamics(self.transitions(), config, self.steps.device)
        except (ModelDiverged, NoTransitions) as error:
            return {"refused": str(error), "report": {}}
        torch.save(model.state_dict(), directory / NETWORK_FILE)
        return {"refused": None, "report": report.to_json()}

    def judges(self) -> Judges:
        """Critic, model and gate of this round."""
        if self._loaded is None:
            data, settings, place = self.transitions(), self.settings, self.run.directory / self.name
            sizes = data.condition.shape[1], data.chunk.shape[1], data.chunk.shape[2]
            critic = _load(IqlCritic(*sizes, settings.critic), place / "critic", self.steps.device)
            dynamics = _load(DynamicsEnsemble(*sizes, settings.dynamics), place / "dynamics", self.steps.device)
            report = json.loads((place / "critic" / "phase.json").read_text())["facts"]["report"]
            low, high = report["return_range"]
            config = dataclasses.replace(settings.gate, seed=settings.gate.seed + settings.seed + self.number)
            gate = Gate(critic, dynamics, data.condition[data.starts], config, (low, high))
            self._loaded = Judges(data, critic, dynamics, gate)
        return self._loaded

    def _improve(self) -> None:
        """Gated updates of the policy; the last reference is what goes on."""

        def work(directory: Path) -> Mapping[str, Any]:
            policy = self.steps.policy_of(self.arm.policy)
            judges = self.judges()
            opinion = self._second_opinion()

            def on_decision(decision: GateDecision) -> None:
                self._show(decision)
                # For whoever is watching; the file is written anew from the products when the round is over.
                append_decision(self.run.directory / GATE_FILE, self._of_this_round(decision))

            config = dataclasses.replace(self.settings.offline, seed=self.settings.offline.seed + self._seed)
            result = improve_offline(
                policy, judges.critic, judges.gate, judges.transitions.condition, config, on_decision,
                None if opinion is None else opinion.of,
            )  # fmt: skip
            self.steps.console.print(f"  ended: {result.reason}")
            self.steps.save_policy(
                directory, result.policy, self._provenance("the gate's reference after its last decision")
            )
            return {
                "decisions": [self._of_this_round(each).to_json() for each in result.decisions],
                "reason": result.reason,
                "fingerprint": result.policy.fingerprint(),
            }

        phase = self.run.phase(f"{self.name}/offline", work)
        for document in phase.facts["decisions"]:
            self._note(GateDecision.from_json(document))
        self.arm = dataclasses.replace(self.arm, policy=phase.directory)

    def _imitate_again(self, grown: Arm, refusal: str | None, blind: bool) -> None:
        """Imitates all successes so far, the policy's own among them; kept if the gate finds it better."""
        phase = self.steps.imitate(f"{self.name}/imitation", grown, self.number)
        if phase is None:
            self._remark("no success to imitate: the policy stays")
            return
        if self.settings.gate_reimitation and not blind:
            decision = self._judge_reimitation(phase.directory, refusal)
            self._note(decision)
            accepted = decision.accept
        else:
            why = "no critic could be trained on data of one outcome" if blind else "gate_reimitation=false"
            self._remark(f"the policy imitated again was taken without a gate: {why}")
            accepted = True
        if accepted:
            self.arm = dataclasses.replace(self.arm, policy=phase.directory)

    def _judge_reimitation(self, candidate: Path, refusal: str | None) -> GateDecision:
        def work(directory: Path) -> Mapping[str, Any]:
            if refusal is not None:
                refused = self._refused(f"imitated again, but nothing could judge it: {refusal}")
                return dataclasses.replace(refused, evidence={**refused.evidence, REIMITATION: 1.0}).to_json()
            reference, other = self.steps.policy_of(self.arm.policy), self.steps.policy_of(candidate)
            judges = self.judges()
            opinion = self._second_opinion()
            decision = judges.gate.judge(reference, other, self._seed)
            second = {} if opinion is None else opinion.of(reference, other)
            evidence = {**decision.evidence, **second, REIMITATION: 1.0}
            decision = self._of_this_round(dataclasses.replace(decision, evidence=evidence))
            self._show(decision)
            return decision.to_json()

        return GateDecision.from_json(self.run.phase(f"{self.name}/imitation-gate", work).facts)

    @property
    def _seed(self) -> int:
        return self.settings.seed + self.number

    def _provenance(self, rule: str) -> dict[str, Any]:
        parent = read_record(self.arm.policy)["provenance"]
        return {
            "dataset": str(self.arm.dataset),
            "snapshot": self.arm.snapshot,
            "parent": str(self.arm.policy),
            "parent_policy": load_policy(self.arm.policy).fingerprint(),
            "rule": rule,
            "demonstrations": parent.get("demonstrations", ""),
        }

    def _second_opinion(self) -> SecondOpinion | None:
        config = dataclasses.replace(self.settings.fitted_q, seed=self.settings.fitted_q.seed + self._seed)
        return SecondOpinion(self.transitions(), config) if self.settings.second_estimator else None

    def _of_this_round(self, decision: GateDecision) -> GateDecision:
        return dataclasses.replace(decision, evidence={**decision.evidence, ROUND: self.number + 1.0})

    def _refused(self, reason: str) -> GateDecision:
        return GateDecision.refused(reason, evidence={ROUND: self.number + 1.0})

    def _note(self, decision: GateDecision) -> None:
        self.decisions.append(decision)
        if decision.rule == REFUSED:
            self._show(decision)

    def _show(self, decision: GateDecision) -> None:
        word = "accepted" if decision.accept else "rejected"
        self.steps.console.print(f"  {word}: {decision.reason}", style="green" if decision.accept else "yellow")

    def _remark(self, text: str) -> None:
        self.remarks.append(f"Round {self.number + 1}: {text}.")
        self.steps.console.print(f"  {text}", style="yellow")


def _load(network: Any, directory: Path, device: torch.device) -> Any:
    network.load_state_dict(torch.load(directory / NETWORK_FILE, map_location=device, weights_only=True))
    return network.to(device).eval().requires_grad_(False)
