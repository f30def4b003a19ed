import copy
import math

import numpy as np
import pytest
import torch

from robot_rl.core.confidence import paired_gain, student_quantile
from robot_rl.core.decision import DamagedDecisions
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.offline.gate import Gate, GateConfig, GateDecision, append_decision, read_decisions
from robot_rl.learning.offline.model_rollouts import roll_out
from tests.robot_rl.point_task import DISCOUNT, PointCritic, PointModel, PointPolicy, point_starts

UNIT = (0.0, 1.0)
SCORES = ("q", "first_q", "return")


def gate(critic=None, model=None, starts=64, return_range=UNIT, **settings) -> Gate:
    config = GateConfig(**{"starts": 64, "chunks": 4, **settings})
    return Gate(critic or PointCritic(), model or PointModel(), point_starts(starts), config, return_range)


@pytest.mark.parametrize("rule", ["paired", "paper"])
@pytest.mark.parametrize("score", SCORES)
def test_a_policy_gains_exactly_nothing_over_itself_and_is_rejected(rule, score):
    policy = PointPolicy(0.5)
    decision = gate(rule=rule, score=score).judge(policy, copy.deepcopy(policy), seed=0)
    assert decision.gain == 0.0
    assert not decision.accept


@pytest.mark.parametrize("score", SCORES)
def test_a_slightly_better_policy_is_accepted_and_a_slightly_worse_one_rejected(score):
    judge = gate(score=score).judge
    better, worse = (judge(PointPolicy(0.5), PointPolicy(pull), seed=0) for pull in (0.55, 0.45))
    assert better.accept, better.reason
    assert 0 < better.lower_bound < better.gain
    assert better.candidate - better.reference == pytest.approx(better.gain, abs=1e-5)
    assert not worse.accept
    assert worse.gain < 0


def test_a_policy_that_walks_away_is_rejected_by_either_rule():
    for rule in ("paired", "paper"):
        assert not gate(rule=rule).judge(PointPolicy(0.5), PointPolicy(-0.5), seed=0).accept


def test_the_paper_rule_rejects_a_sure_gain_of_less_than_five_percent():
    reference, candidate = PointPolicy(0.5), PointPolicy(0.55)
    ours = gate().judge(reference, candidate, seed=0)
    paper = gate(rule="paper").judge(reference, candidate, seed=0)
    assert 0 < ours.gain < 0.05 * ours.reference
    assert ours.accept
    assert not paper.accept
    assert paper.required_gain == pytest.approx(0.05 * abs(paper.reference))
    assert gate(rule="paper").judge(PointPolicy(-0.5), PointPolicy(0.95), seed=0).accept


def test_the_bound_must_exceed_the_margin():
    reference, candidate = PointPolicy(0.5), PointPolicy(0.55)
    bound = gate().judge(reference, candidate, seed=0).lower_bound
    assert gate(margin=0.9 * bound).judge(reference, candidate, seed=0).accept
    assert not gate(margin=1.1 * bound).judge(reference, candidate, seed=0).accept


def test_a_candidate_with_nan_in_its_weights_is_rejected_and_named():
    decision = gate().judge(PointPolicy(0.5), PointPolicy(math.nan), seed=0)
    assert not decision.accept
    assert "candidate's weights hold NaN" in decision.reason
    assert "pull" in decision.reason


def test_scores_that_are_no_numbers_are_rejected():
    decision = gate(PointCritic(math.nan)).judge(PointPolicy(0.5), PointPolicy(0.9), seed=0)
    assert not decision.accept
    assert "NaN" in decision.reason


@pytest.mark.parametrize("scale", [40.0, -40.0, math.inf])
@pytest.mark.parametrize("score", SCORES)
def test_a_critic_outside_the_range_of_returns_accepts_nobody(scale, score):
    candidates = [PointPolicy(0.9), PointPolicy(0.1)]
    for candidate in candidates:
        decision = gate(PointCritic(scale), score=score).judge(PointPolicy(0.5), candidate, seed=0)
        assert not decision.accept
        assert "critic unusable" in decision.reason or "NaN or infinity" in decision.reason


def test_a_candidate_of_another_shape_or_encoding_is_refused_with_the_difference():
    reference = PointPolicy(0.5)
    assert "horizon is 6, the reference's 4" in gate().judge(reference, PointPolicy(0.9, horizon=6), seed=0).reason
    stranger = PointPolicy(0.9)
    stranger.normalizer.fit({key: {"min": [-2.0, -2.0], "max": [2.0, 2.0]} for key in ("position", "action")})
    decision = gate().judge(reference, stranger, seed=0)
    assert "normalizer differs" in decision.reason
    assert not decision.accept


def test_a_candidate_with_fewer_denoising_steps_can_be_judged():
    assert gate().judge(PointPolicy(0.5), PointPolicy(0.9, sampling_steps=1), seed=0).accept


def test_the_same_seed_gives_the_same_decision_and_another_seed_another_one():
    first, again, other = (gate().judge(PointPolicy(0.5), PointPolicy(0.6), seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.gain != other.gain


def test_the_reference_is_rolled_out_once_while_it_stays_and_anew_when_it_changes():
    judge, reference = gate().judge, PointPolicy(0.5)
    judge(reference, PointPolicy(0.6), seed=0)
    judge(reference, PointPolicy(0.7), seed=0)
    assert reference.calls == 4
    with torch.no_grad():
        reference.pull.fill_(0.8)
    changed = judge(reference, PointPolicy(0.7), seed=0)
    assert reference.calls == 8
    assert changed == gate().judge(PointPolicy(0.8), PointPolicy(0.7), seed=0)


def test_an_accepted_candidate_becomes_the_reference_without_new_rollouts():
    judge, candidate = gate().judge, PointPolicy(0.6)
    judge(PointPolicy(0.5), candidate, seed=0)
    assert judge(copy.deepcopy(candidate), PointPolicy(0.7), seed=0).accept
    assert candidate.calls == 4


def test_a_critic_that_learned_on_finds_no_old_scores():
    critic = PointCritic(0.5)
    judge, pair = gate(critic, score="q").judge, (PointPolicy(0.5), PointPolicy(0.6))
    before = judge(*pair, seed=0)
    with torch.no_grad():
        critic.scale.fill_(1.0)
    assert judge(*pair, seed=0).reference == pytest.approx(2 * before.reference)


def scores(pull: float, seed: int, score: str = "q"):
    starts = point_starts(256)
    rollouts = roll_out(
        PointPolicy(pull), PointCritic(), PointModel(), starts, torch.zeros(256, dtype=torch.int64),
        chunks=4, q_range=UNIT, seed=seed,
    )  # fmt: skip
    return rollouts.score(score)


@pytest.mark.parametrize("score", SCORES)
def test_common_random_numbers_make_the_difference_less_noisy(score):
    common = (scores(0.55, 0, score) - scores(0.5, 0, score)).var()
    independent = (scores(0.55, 1, score) - scores(0.5, 0, score)).var()
    assert common < 0.25 * independent


def test_the_bound_comes_closer_to_the_gain_with_more_starts():
    def error(count: int) -> float:
        config = GateConfig(starts=count, chunks=4, score="first_q")
        judge = Gate(PointCritic(), PointModel(elites=(0,)), point_starts(count), config, UNIT).judge
        return judge(PointPolicy(0.5), PointPolicy(0.55), seed=0).evidence["standard_error"]

    assert error(512) < error(16) / 2


def test_repeats_of_few_starts_do_not_count_as_more_starts():
    differences = np.random.default_rng(0).normal(size=(20, 1))
    once = paired_gain(differences, np.zeros((20, 1), np.int64), 0.95)
    often = paired_gain(differences.repeat(50, axis=1), np.zeros((20, 50), np.int64), 0.95)
    assert often.lower_bound == pytest.approx(once.lower_bound)


def test_fewer_starts_than_rollouts_are_repeated_over_all_models():
    few = Gate(PointCritic(), PointModel(), point_starts(8), GateConfig(starts=24, chunks=2), UNIT)
    assert few.repeats == 3
    assert few.starts.shape == (24, 2)
    assert [sorted(few.member[at : at + 3].tolist()) for at in range(0, 24, 3)] == [[0, 1, 2]] * 8


def test_only_elites_are_asked_and_each_as_often():
    model = PointModel(elites=(4, 1))
    assert gate(model=model).member.bincount().tolist() == [0, 32, 0, 0, 32]


def test_models_that_disagree_lower_the_bound_however_many_starts_there_are():
    difference = 1.0 + 1e-3 * np.random.default_rng(0).normal(size=(3000, 1))
    model = (np.arange(3000) % 3)[:, None]
    agreed = paired_gain(difference, model, 0.95)
    split = paired_gain(difference + 0.5 * (model - 1.0), model, 0.95)
    assert agreed.lower_bound > 0.99
    assert split.mean == pytest.approx(agreed.mean, abs=1e-3)
    assert split.between_models == pytest.approx(0.5, abs=1e-3)
    expected = 1.0 - 2.91999 * 0.5 / math.sqrt(3)
    assert split.lower_bound == pytest.approx(expected, abs=0.01)


def test_five_models_accept_a_large_gain_on_which_three_that_differ_as_much_are_not_sure():
    """Quantiles of Student's distribution: 2.91999 with two degrees of freedom, 2.13185 with four."""
    deviations = {3: np.array([-1.0, 0.0, 1.0]), 5: np.array([-2.0, -1.0, 0.0, 1.0, 2.0])}
    bounds = {}
    for models, deviation in deviations.items():
        model = (np.arange(3000) % models)[:, None]
        noise = 1e-3 * np.random.default_rng(0).normal(size=(3000, 1))
        gain = 0.69 + noise + 0.5 * (deviation / deviation.std(ddof=1))[model]
        bounds[models] = paired_gain(gain, model, 0.95).lower_bound
    assert bounds[3] == pytest.approx(0.69 - 2.91999 * 0.5 / math.sqrt(3), abs=0.01)
    assert bounds[5] == pytest.approx(0.69 - 2.13185 * 0.5 / math.sqrt(5), abs=0.01)
    assert bounds[3] < 0 < bounds[5]


def test_the_bound_is_students_where_only_starts_vary():
    values = np.random.default_rng(1).normal(0.3, 1.0, size=(12, 1))
    bound = paired_gain(values, np.zeros((12, 1), np.int64), 0.9)
    by_table = values.mean() - 1.36343 * values.std(ddof=1) / math.sqrt(12)
    assert bound.lower_bound == pytest.approx(by_table, abs=1e-4)


def test_the_bound_lies_above_the_truth_as_rarely_as_it_says():
    generator = np.random.default_rng(0)
    model = (np.arange(32) % 2)[:, None]
    above = [paired_gain(generator.normal(0.2, 1.0, (32, 1)), model, 0.95).lower_bound > 0.2 for _ in range(400)]
    assert np.mean(above) < 0.08


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [
        (0.95, 1, 6.31375),
        (0.95, 2, 2.91999),
        (0.99, 10, 2.76377),
        (0.8, 30, 0.85377),
        (0.95, 1e6, 1.64485),
        (0.5, 5, 0.0),
    ],
)
def test_student_quantiles_are_those_of_the_tables(probability, freedom, quantile):
    assert student_quantile(probability, freedom) == pytest.approx(quantile, rel=1e-3, abs=1e-9)


def test_rewards_and_values_add_up_to_the_return_by_hand():
    policy, starts = PointPolicy(1.0, noise=0.0), torch.tensor([[0.5, 0.0], [1.0, 0.0]])
    rollouts = roll_out(
        policy, PointCritic(), PointModel(), starts, torch.zeros(2, dtype=torch.int64),
        chunks=2, q_range=UNIT, seed=0,
    )  # fmt: skip
    # From 0.5 the second chunk ends at 0.1; from 1.0 two chunks leave 0.6, which is 2.25 chunks from 0.15.
    torch.testing.assert_close(rollouts.model_return, torch.tensor([DISCOUNT, DISCOUNT ** (2 + 0.45 / 0.2)]))
    assert rollouts.alive.tolist() == [0.0, 1.0]


def test_what_happens_after_the_end_does_not_count():
    policy, starts = PointPolicy(1.0, noise=0.0), torch.tensor([[0.3, 0.0]])
    short, long = (
        roll_out(policy, PointCritic(), PointModel(), starts, torch.zeros(1, dtype=torch.int64),
                 chunks=chunks, q_range=UNIT, seed=0)
        for chunks in (1, 5)
    )  # fmt: skip
    torch.testing.assert_close(short.mean_q, long.mean_q)
    torch.testing.assert_close(short.model_return, long.model_return)


def test_null_chunks_means_the_longest_episode():
    assert gate(chunks=None).chunks == PointModel.longest_episode


def test_the_gate_refuses_starts_and_settings_it_cannot_judge_by():
    with pytest.raises(RobotRLError, match="1 episode starts"):
        Gate(PointCritic(), PointModel(), point_starts(1), GateConfig(), UNIT)
    with pytest.raises(RobotRLError, match="starts hold NaN"):
        Gate(PointCritic(), PointModel(), torch.full((4, 2), math.nan), GateConfig(), UNIT)
    with pytest.raises(RobotRLError, match=r"gate\.score is 'luck'"):
        gate(score="luck")


def decision(step: int = 0, **changes) -> GateDecision:
    fields = {"accept": True, "reason": "good", "rule": "paired", "reference": 0.1, "candidate": 0.2, "gain": 0.1}
    rest = {"lower_bound": 0.05, "required_gain": 0.0, "evidence": {"starts": 3.0}, "step": step}
    return GateDecision(**{**fields, **rest, **changes})


def test_a_decision_survives_a_round_trip_and_nan_becomes_null(tmp_path):
    path = tmp_path / "run" / "gate.jsonl"
    written = [decision(1), decision(2, gain=math.nan, evidence={"x": math.inf})]
    for each in written:
        append_decision(path, each)
    first, second = read_decisions(path)
    assert first == written[0]
    assert math.isnan(second.gain)
    assert "NaN" not in path.read_text()


def test_a_line_torn_by_a_kill_is_dropped_and_the_next_decision_stands_alone(tmp_path):
    path = tmp_path / "gate.jsonl"
    append_decision(path, decision(1))
    append_decision(path, decision(2))
    path.write_bytes(path.read_bytes()[:-9])
    assert [each.step for each in read_decisions(path)] == [1]
    append_decision(path, decision(3))
    assert [each.step for each in read_decisions(path)] == [1, 3]


def test_a_whole_line_that_is_no_decision_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "gate.jsonl"
    append_decision(path, decision(1))
    with path.open("a") as file:
        file.write('{"accept": true}\n')
    with pytest.raises(DamagedDecisions, match="line 2"):
        read_decisions(path)
    assert read_decisions(tmp_path / "none.jsonl") == []
