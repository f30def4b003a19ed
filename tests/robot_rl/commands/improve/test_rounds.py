"""What a round of `robot-rl improve` takes, takes back and refuses, and what its report says of it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from robot_rl.commands.improve import round as rounds
from robot_rl.commands.improve.main import improve
from robot_rl.core.decision import REFUSED, GateDecision, read_decisions
from robot_rl.core.episode import Outcome
from robot_rl.learning.offline.improver import OfflineResult
from tests.robot_rl.commands.improve.improve_runs import QUIET, assert_same_weights, infos_of, short
from tests.robot_rl.toy_improve import demonstrations

pytestmark = pytest.mark.usefixtures("one_thread")


def spoilt(policy, *arguments, **more):
    """What a gate that is wrong may accept: a policy that knows nothing any more."""
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for weight in other.denoiser.parameters():
            weight.zero_()
    accepted = GateDecision(True, "so it seemed", "paired", 0.1, 0.9, 0.8, 0.7, 0.0, {})
    return OfflineResult(other, [accepted], "all batches are used up")


def test_an_accepted_update_is_taken_back_if_its_rollouts_fail(place, dataset, imitation, monkeypatch):
    monkeypatch.setattr(rounds, "improve_offline", spoilt)
    kept, taken_back = place / "kept", place / "taken-back"
    more = {"first_rollouts": True, "rollouts": 16, "gate_reimitation": True}
    monkeypatch.setattr(rounds.Gate, "judge", never)
    improve(short(imitation, dataset, kept, veto_level=0.0, **more), QUIET)
    improve(short(imitation, dataset, taken_back, **more), QUIET)
    assert_same_weights(kept, kept / "round-1/offline")
    assert_same_weights(taken_back, Path(imitation))
    report = (taken_back / "report.html").read_text()
    assert "taken back what the gate accepted:" in report


def test_a_round_that_accepted_nothing_has_nothing_to_take_back(place, dataset, imitation, monkeypatch):
    monkeypatch.setattr(rounds.Gate, "judge", never)
    run = place / "nothing-accepted"
    improve(short(imitation, dataset, run, first_rollouts=True, gate_reimitation=True, veto_level=1.0), QUIET)
    assert_same_weights(run, Path(imitation))
    assert "taken back" not in (run / "report.html").read_text()


def never(self, reference, candidate, seed, step=0):
    return GateDecision(False, "never", "paired", 0.5, 0.5, 0.0, 0.0, 0.0, {}, step)


def test_a_rejected_policy_imitated_again_is_not_taken(place, dataset, imitation, monkeypatch):
    class NeverAgain(rounds.Gate):
        def judge(self, reference, candidate, seed, step=0):
            decision = super().judge(reference, candidate, seed, step)
            return dataclasses.replace(decision, accept=False, reason="never")

    monkeypatch.setattr(rounds, "Gate", NeverAgain)
    improve(short(imitation, dataset, place / "never"), QUIET)
    assert_same_weights(place / "never", Path(imitation))
    assert not any(each.accept for each in read_decisions(place / "never" / "gate.jsonl"))


def test_reimitation_is_taken_without_a_gate_only_when_asked_for_and_then_said_so(place, dataset, imitation):
    run = place / "ungated"
    improve(short(imitation, dataset, run, gate_reimitation=False), QUIET)
    assert_same_weights(run, run / "round-1/imitation")
    assert "taken without a gate: gate_reimitation=false" in (run / "report.html").read_text()


def test_a_critic_with_a_problem_changes_nothing_and_the_reason_is_kept(place, dataset, imitation, monkeypatch):
    def unsound(*arguments):
        critic, report = train_critic(*arguments)
        return critic, dataclasses.replace(report, problem="3 % of its values are possible returns")

    train_critic = rounds.train_critic
    monkeypatch.setattr(rounds, "train_critic", unsound)
    run = place / "unsound"
    improve(short(imitation, dataset, run), QUIET)
    first, second = read_decisions(run / "gate.jsonl")
    assert (first.rule, first.accept, second.accept) == (REFUSED, False, False)
    assert "no update in this round: 3 % of its values are possible returns" in first.reason
    assert "nothing could judge it" in second.reason
    assert_same_weights(run, Path(imitation))
    assert "3 % of its values are possible returns" in (run / "report.html").read_text()


def test_weak_evidence_is_said_so_in_the_report(place, dataset, imitation, monkeypatch):
    train_critic, train_dynamics = rounds.train_critic, rounds.train_dynamics

    def misleading(*arguments):
        critic, report = train_critic(*arguments)
        return critic, dataclasses.replace(report, rank_correlation=-0.5, problem=None)

    def still(*arguments):
        model, report = train_dynamics(*arguments)
        return model, dataclasses.replace(report, nothing_changes={1: 0.0}, error_by_horizon={1: 0.3})

    monkeypatch.setattr(rounds, "train_critic", misleading)
    monkeypatch.setattr(rounds, "train_dynamics", still)
    improve(short(imitation, dataset, place / "weak"), QUIET)
    page = (place / "weak" / "report.html").read_text()
    assert "V at the start does not rank held-out outcomes (correlation -0.50)" in page
    assert "the transition model predicts one chunk no better than that nothing changes" in page


def test_demonstrations_of_successes_alone_are_joined_by_rollouts_before_a_critic_learns(place, imitation):
    url = demonstrations(place / "perfect", 8, miss_m=0.0, max_ticks=30)
    assert {info.result.outcome for info in infos_of(url)} == {Outcome.SUCCESS}
    run = place / "from-perfect"
    improve(short(imitation, url, run, rollouts=12), QUIET)
    infos = infos_of(run / "dataset")
    assert len(infos) == 8 + 2 * 12
    assert [info.header.seed for info in infos[8:]] == [*range(500_012, 500_024), *range(500_000, 500_012)]
    assert "all 8 demonstrations are labelled success: it began with rollouts" in (run / "report.html").read_text()


def test_without_any_success_there_is_no_update_and_nothing_to_imitate(place, imitation):
    robot = {"_target_": "tests.robot_rl.toy_improve.HopelessRobot"}
    url = demonstrations(place / "hopeless", 6, robot=robot)
    run = place / "from-hopeless"
    improve(short(imitation, url, run, robot=robot), QUIET)
    (decision,) = read_decisions(run / "gate.jsonl")
    assert decision.rule == REFUSED
    assert "episodes failed, so a critic cannot learn what succeeds" in decision.reason
    assert "no success to imitate: the policy stays" in (run / "report.html").read_text()
    assert_same_weights(run, Path(imitation))
