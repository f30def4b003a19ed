"""One round of iterated offline RL (arXiv 2510.14830, algorithm 1), as phases of a run.

critic -> transition model -> gated updates -> rollouts, data grows -> imitation again, gated -> the next round

What cannot be judged is not changed: without data that tells good from bad, with a critic that left the range of
possible returns, or with a model that diverged, the round's update is refused and the reason kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from robot_rl.commands.improve.steps import Branch, Steps
from robot_rl.core.confidence import OwnRollouts, chance_of_so_few
from robot_rl.core.decision import GATE_FILE, REFUSED, REIMITATION, ROUND, GateDecision, append_decision
from robot_rl.learning.descent import Diverged
from robot_rl.learning.offline.critic import BadTransitions, CriticConfig, IqlCritic, train_critic
from robot_rl.learning.offline.dynamics import NoTransitions, train_dynamics
from robot_rl.learning.offline.gate import Gate, GateConfig
from robot_rl.learning.offline.improver import OfflineConfig, improve_offline
from robot_rl.learning.offline.off_policy_evaluation import FittedQConfig, SecondOpinion
from robot_rl.learning.offline.transition_model import DynamicsConfig, DynamicsEnsemble
from robot_rl.learning.transitions import NoSignal, Transitions, encode_episodes, require_signal
from robot_rl.run.checkpoint import load_policy, read_record
from robot_rl.run.dataset import LABELLED, labelled_episodes, outcomes_of
from robot_rl.run.phases import Phase

NETWORK_FILE = "network.pt"
Seeded = TypeVar("Seeded", CriticConfig, DynamicsConfig, GateConfig, OfflineConfig, FittedQConfig)


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


class Judges(NamedTuple):
    """What judges a round's updates."""

    critic: IqlCritic
    gate: Gate


@dataclass
class Context:
    """What the phases of one round share.

    Attributes:
        steps: See `Steps`.
        number: From 0.
        begin: Where its updates begin: critic and model learn from this data.
        decisions: The gate's so far.
        remarks: What a reader must know to judge the round.
    """

    steps: Steps
    number: int
    begin: Branch
    decisions: list[GateDecision] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The round's directory below the run."""
        return f"round-{self.number + 1}"

    @property
    def seed(self) -> int:
        """The run's and the round's."""
        return self.steps.settings.seed + self.number

    def seeded(self, config: Seeded) -> Seeded:
        """A config whose seed is this run's and this round's own."""
        return dataclasses.replace(config, seed=config.seed + self.seed)

    def phase(self, name: str, work: Callable[[Context, Path], Mapping[str, Any]]) -> Phase:
        """Does a phase of the round, or loads what is done of it."""
        return self.steps.run.phase(f"{self.name}/{name}", lambda directory: work(self, directory))

    @cached_property
    def transitions(self) -> Transitions:
        """The data at the beginning of the round, encoded by the policy that it begins with."""
        policy = self.steps.policy_of(self.begin.policy)
        episodes = labelled_episodes(self.begin.dataset, self.begin.snapshot, policy.spec)
        return encode_episodes(policy, episodes, self.steps.settings.reward)

    @cached_property
    def judges(self) -> Judges:
        """Critic and gate, from the products of their phases."""
        data, settings, place = self.transitions, self.steps.settings, self.steps.run.directory / self.name
        sizes = data.condition.shape[1], data.chunk.shape[1], data.chunk.shape[2]
        critic = _load(IqlCritic(*sizes, settings.critic), place / "critic", self.steps.device)
        dynamics = _load(DynamicsEnsemble(*sizes, settings.dynamics), place / "dynamics", self.steps.device)
        report = json.loads((place / "critic" / "phase.json").read_text())["facts"]["report"]
        low, high = report["return_range"]
        gate = Gate(critic, dynamics, data.condition[data.starts], self.seeded(settings.gate), (low, high))
        return Judges(critic, gate)

    def second_opinion(self) -> SecondOpinion | None:
        """The estimator that is reported beside every decision, where it is wanted."""
        settings = self.steps.settings
        return SecondOpinion(self.transitions, self.seeded(settings.fitted_q)) if settings.second_estimator else None

    def marked(self, decision: GateDecision) -> GateDecision:
        """A decision that says of which round it is."""
        return dataclasses.replace(decision, evidence={**decision.evidence, ROUND: self.number + 1.0})

    def note(self, decision: GateDecision) -> None:
        """Keeps a decision; one of the gate has been shown when it was made."""
        self.decisions.append(decision)
        if decision.rule == REFUSED:
            self.show(decision)

    def show(self, decision: GateDecision) -> None:
        """Says a decision to the person waiting."""
        word = "accepted" if decision.accept else "rejected"
        self.steps.console.print(f"  {word}: {decision.reason}", style="green" if decision.accept else "yellow")

    def remark(self, text: str) -> None:
        """Says something now and in the report."""
        self.remarks.append(f"Round {self.number + 1}: {text}.")
        self.steps.console.print(f"  {text}", style="yellow")


def run_round(
    steps: Steps, number: int, branch: Branch, seeds: Sequence[int], first_seeds: Sequence[int]
) -> tuple[Branch, RoundRecord]:
    """Does a round of the branch that learns by reinforcement, or loads what is done of it.

    Args:
        steps: See `Steps`.
        number: From 0.
        branch: Where it begins.
        seeds: Of its rollouts.
        first_seeds: Of rollouts that come first.
    """
    since = len(steps.run.phases)
    context = Context(steps, number, branch)
    first_rollouts = begin_with_rollouts(context, first_seeds)
    critic = context.phase("critic", learn_critic).facts
    refusal, model = critic["refused"], {}
    if refusal is None:
        dynamics = context.phase("dynamics", learn_dynamics).facts
        refusal, model = dynamics["refused"], dynamics["report"]
        doubt(context, critic["report"], model)
    if refusal is None:
        updated = update(context)
    else:
        context.note(context.marked(GateDecision.refused(f"no update in this round: {refusal}")))
        updated = context.begin
    rollouts = steps.collect(f"{context.name}/rollouts", updated, seeds).facts
    grown = take_back(context, dataclasses.replace(updated, snapshot=rollouts["snapshot"]), rollouts["outcomes"])
    policy = imitate_again(context, grown, refusal, critic["blind"])
    record = RoundRecord(
        number=number + 1,
        decisions=tuple(context.decisions),
        critic=critic["report"],
        dynamics=model,
        rollouts=rollouts,
        first_rollouts=first_rollouts,
        policy=policy,
        seconds=sum(phase.seconds for phase in steps.run.phases[since:]),
        remarks=tuple(context.remarks),
    )
    return dataclasses.replace(grown, policy=policy), record


def begin_with_rollouts(context: Context, seeds: Sequence[int]) -> Mapping[str, Any]:
    """Rollouts of the policy to improve: what it does wrong is what critic and model must know of.

    Returns:
        Facts of the rollouts; {} where there were none.
    """
    outcomes = outcomes_of(context.begin.dataset, context.begin.snapshot)
    blind = not all(outcomes[str(each)] for each in LABELLED)
    if context.number > 0 or not (blind or context.steps.settings.first_rollouts):
        return {}
    if blind:
        only = next(str(each) for each in LABELLED if outcomes[str(each)])
        context.remark(f"all {outcomes[only]} demonstrations are labelled {only}: it began with rollouts of the policy")
    facts = context.steps.collect(f"{context.name}/first-rollouts", context.begin, seeds).facts
    own = OwnRollouts.of(facts["outcomes"])
    context.begin = dataclasses.replace(context.begin, snapshot=facts["snapshot"], own=own)
    return facts


def learn_critic(context: Context, directory: Path) -> Mapping[str, Any]:
    """The critic of the round, or why there is none; `blind` where the data has one outcome only."""
    try:
        require_signal(context.transitions)
        config = context.seeded(context.steps.settings.critic)
        critic, report = train_critic(context.transitions, config, context.steps.device)
    except NoSignal as error:
        return {"refused": str(error), "blind": True, "report": {}}
    except (Diverged, BadTransitions) as error:
        return {"refused": str(error), "blind": False, "report": {}}
    torch.save(critic.state_dict(), directory / NETWORK_FILE)
    return {"refused": report.problem, "blind": False, "report": report.to_json()}


def learn_dynamics(context: Context, directory: Path) -> Mapping[str, Any]:
    """The transition model of the round, or why there is none."""
    try:
        config = context.seeded(context.steps.settings.dynamics)
        model, report = train_dynamics(context.transitions, config, context.steps.device)
    except (Diverged, NoTransitions) as error:
        return {"refused": str(error), "report": {}}
    torch.save(model.state_dict(), directory / NETWORK_FILE)
    return {"refused": None, "report": report.to_json()}


def doubt(context: Context, critic: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Says where the gate's evidence is weak; that alone refuses nothing."""
    rank = critic.get("rank_correlation")
    if rank is not None and rank <= 0:
        context.remark(f"V at the start does not rank held-out outcomes (correlation {rank:.2f})")
    if model and model["error_by_horizon"].get("1", 0.0) >= model["nothing_changes"].get("1", math.inf):
        context.remark("the transition model predicts one chunk no better than that nothing changes")


def update(context: Context) -> Branch:
    """Gated updates of the policy; the last reference is what goes on."""
    phase = context.phase("offline", learn_policy)
    for document in phase.facts["decisions"]:
        context.note(GateDecision.from_json(document))
    return dataclasses.replace(context.begin, policy=phase.directory)


def learn_policy(context: Context, directory: Path) -> Mapping[str, Any]:
    """Offline updates of the round's first policy, each judged by the gate."""
    steps = context.steps
    policy = steps.policy_of(context.begin.policy)
    judges, opinion = context.judges, context.second_opinion()

    def on_decision(decision: GateDecision) -> None:
        context.show(decision)
        # For whoever is watching; the file is written anew from the products when the round is over.
        append_decision(steps.run.directory / GATE_FILE, context.marked(decision))

    result = improve_offline(
        policy, judges.critic, judges.gate, context.transitions.condition, context.seeded(steps.settings.offline),
        on_decision, None if opinion is None else opinion.of,
    )  # fmt: skip
    steps.console.print(f"  ended: {result.reason}")
    steps.save_policy(directory, result.policy, _provenance(context.begin))
    return {
        "decisions": [context.marked(each).to_json() for each in result.decisions],
        "reason": result.reason,
        "fingerprint": result.policy.fingerprint(),
    }


def take_back(context: Context, branch: Branch, outcomes: Mapping[str, int]) -> Branch:
    """Undoes what the gate accepted if the rollouts of it say that it was wrong."""
    own, after = branch.own, OwnRollouts.of(outcomes)
    # A round that accepted nothing has written the same policy to another place.
    if own is not None and any(each.accept for each in context.decisions):
        chance = chance_of_so_few(own, after)
        if chance < context.steps.settings.veto_level:
            context.remark(
                f"taken back what the gate accepted: {after} rollouts succeeded, {own} before it, p = {chance:.2g}"
            )
            return dataclasses.replace(branch, policy=context.begin.policy)
    return dataclasses.replace(branch, own=after)


def imitate_again(context: Context, grown: Branch, refusal: str | None, blind: bool) -> Path:
    """Imitates all successes so far, the policy's own among them; kept if the gate finds it better.

    Returns:
        The policy that goes on.
    """
    phase = context.steps.imitate(f"{context.name}/imitation", grown, context.number)
    if phase is None:
        context.remark("no success to imitate: the policy stays")
        return grown.policy
    if not context.steps.settings.gate_reimitation or blind:
        why = "no critic could be trained on data of one outcome" if blind else "gate_reimitation=false"
        context.remark(f"the policy imitated again was taken without a gate: {why}")
        return phase.directory

    def judge(context: Context, directory: Path) -> Mapping[str, Any]:
        return judge_reimitation(context, grown.policy, phase.directory, refusal).to_json()

    decision = GateDecision.from_json(context.phase("imitation-gate", judge).facts)
    context.note(decision)
    return phase.directory if decision.accept else grown.policy


def judge_reimitation(context: Context, before: Path, candidate: Path, refusal: str | None) -> GateDecision:
    """The gate's decision on the policy imitated again; refused where the round has no critic or no model."""
    if refusal is not None:
        reason = f"imitated again, but nothing could judge it: {refusal}"
        return GateDecision.refused(reason, evidence={ROUND: context.number + 1.0, REIMITATION: 1.0})
    reference, other = context.steps.policy_of(before), context.steps.policy_of(candidate)
    judges, opinion = context.judges, context.second_opinion()
    decision = judges.gate.judge(reference, other, context.seed)
    second = {} if opinion is None else opinion.of(reference, other)
    evidence = {**decision.evidence, **second, REIMITATION: 1.0}
    decision = context.marked(dataclasses.replace(decision, evidence=evidence))
    context.show(decision)
    return decision


def _provenance(branch: Branch) -> dict[str, Any]:
    parent = read_record(branch.policy)["provenance"]
    return {
        "dataset": str(branch.dataset),
        "snapshot": branch.snapshot,
        "parent": str(branch.policy),
        "parent_policy": load_policy(branch.policy).fingerprint(),
        "rule": "the gate's reference after its last decision",
        "demonstrations": parent.get("demonstrations", ""),
    }


def _load(network: Any, directory: Path, device: torch.device) -> Any:
    network.load_state_dict(torch.load(directory / NETWORK_FILE, map_location=device, weights_only=True))
    return network.to(device).eval().requires_grad_(False)
