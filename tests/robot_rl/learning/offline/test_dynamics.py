import dataclasses
import math

import pytest
import torch

from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Diverged
from robot_rl.learning.offline.dynamics import (
    DynamicsConfig,
    DynamicsEnsemble,
    NoTransitions,
    train_dynamics,
)
from robot_rl.learning.offline.model_error import auc, error_by_horizon
from tests.robot_rl.point_task import DISCOUNT, ROWS, follow, point_transitions

SMALL = DynamicsConfig(members=3, elites=2, width=40, blocks=1, steps=600, batch_size=64, learning_rate=6e-3)
BRIEF = dataclasses.replace(SMALL, steps=20)


@pytest.fixture(scope="module")
def learned():
    return train_dynamics(point_transitions(80), SMALL)


def every(member: int, like: torch.Tensor) -> torch.Tensor:
    return torch.full((len(like),), member)


def test_the_model_follows_the_robot(learned):
    model, report = learned
    transitions = point_transitions(10, seed=5)
    for member in model.elites:
        step = model.step(transitions.condition, transitions.chunk, every(member, transitions.condition))
        truth = follow(transitions.condition, transitions.chunk)
        inside = ((truth > model.low) & (truth < model.high)).all(dim=1)
        assert (step.next_condition - truth)[inside].abs().mean() < 0.02
    assert report.held_out_error[model.elites[0]] < 0.2


def test_open_loop_errors_stay_below_those_of_a_model_that_stands_still(learned):
    _, report = learned
    assert list(report.error_by_horizon) == [1, 2, 4, 8]
    for horizon, error in report.error_by_horizon.items():
        assert error < 0.5 * report.nothing_changes[horizon]


def test_errors_by_horizon_are_exact_for_a_model_with_a_known_slip():
    """Every chunk of the model adds 0.01 too much along x."""
    transitions = point_transitions(6, seed=2)
    model = DynamicsEnsemble(2, ROWS, 2, BRIEF)

    def slipping(condition, chunk, member):
        step = DynamicsEnsemble.step(model, condition, chunk, member)
        return step._replace(next_condition=follow(condition, chunk) + torch.tensor([0.01, 0.0]))

    model.step = slipping
    errors, _ = error_by_horizon(model, transitions)
    for horizon, error in errors.items():
        assert error == pytest.approx(0.01 * horizon / math.sqrt(2), rel=1e-3)


def test_an_ending_is_seen_where_it_happens_and_nowhere_else(learned):
    model, report = learned
    assert report.termination_auc > 0.9
    at_goal = model.step(
        torch.tensor([[0.2, 0.0], [1.0, 0.0]]), torch.tensor([[[-1.0, 0.0]] * ROWS] * 2), every(0, [0, 0])
    )
    assert at_goal.termination[0] > 0.6
    assert at_goal.termination[1] < 0.05
    torch.testing.assert_close(at_goal.reward, at_goal.termination, atol=0.1, rtol=0.0)


def test_a_repeated_last_row_does_not_give_an_ending_away(learned):
    model, _ = learned
    away = point_transitions(20, seed=7)
    away = away.select(away.condition.norm(dim=1) > 0.8)
    held = away.chunk[:, :1].expand_as(away.chunk)
    answer = torch.stack([model.step(away.condition, held, every(m, held)).termination for m in model.elites])
    assert answer.mean() < 0.02


def test_what_followed_a_termination_teaches_nothing():
    transitions = point_transitions()
    garbage = transitions.next_condition.clone()
    garbage[transitions.terminated] = math.nan
    model, _ = train_dynamics(transitions, BRIEF)
    other, _ = train_dynamics(dataclasses.replace(transitions, next_condition=garbage), BRIEF)
    for ours, theirs in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_predictions_stay_within_the_range_of_the_data(learned):
    model, _ = learned
    edge = model.high[None].expand(50, 2)
    outwards = torch.ones(50, ROWS, 2)
    condition = edge
    for _ in range(30):
        condition = model.step(condition, outwards, every(0, edge)).next_condition
    assert (condition <= model.high).all()


def test_each_sample_is_answered_by_its_own_member(learned):
    model, _ = learned
    transitions = point_transitions(4)
    member = torch.arange(len(transitions)) % 3
    mixed = model.step(transitions.condition, transitions.chunk, member)
    for each in range(3):
        alone = model.step(transitions.condition, transitions.chunk, every(each, member))
        for ours, theirs in zip(mixed, alone, strict=True):
            torch.testing.assert_close(ours[member == each], theirs[member == each])
    assert not torch.allclose(mixed.next_condition[member == 0], alone.next_condition[member == 0])


def test_by_default_every_member_is_asked():
    """The gate's bound on what differs from model to model has one degree of freedom less than there are elites."""
    assert DynamicsConfig().elites == DynamicsConfig().members == 5


def test_elites_are_those_with_the_least_held_out_error(learned):
    model, report = learned
    best = sorted(range(3), key=lambda member: report.held_out_error[member])[:2]
    assert model.elites == report.elites == best


def test_the_model_knows_the_discount_of_a_chunk_and_the_longest_episode(learned):
    model, _ = learned
    assert model.discount == pytest.approx(DISCOUNT)
    assert model.longest_episode == math.ceil(int(point_transitions(80).episode_length.max()) / ROWS)


def test_the_same_seed_gives_the_same_model_and_report_whatever_was_drawn_before():
    transitions = point_transitions()
    model, report = train_dynamics(transitions, BRIEF)
    torch.rand(7)
    again, same = train_dynamics(transitions, BRIEF)
    assert report == same
    for ours, theirs in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    other, _ = train_dynamics(transitions, dataclasses.replace(BRIEF, seed=1))
    assert not torch.equal(model.motion.enter.weight, other.motion.enter.weight)


def test_a_feature_that_never_moves_stays_exactly_where_it_is():
    transitions = point_transitions()
    fixed = torch.full((len(transitions), 1), 0.37)
    widened = dataclasses.replace(
        transitions,
        condition=torch.cat([transitions.condition, fixed], dim=1),
        next_condition=torch.cat([transitions.next_condition, fixed], dim=1),
    )
    model, report = train_dynamics(widened, BRIEF)
    step = model.step(widened.condition, widened.chunk, every(0, fixed))
    assert (step.next_condition[:, 2] == fixed[0, 0]).all()
    assert math.isfinite(report.held_out_error[0])


def test_nan_in_the_data_is_an_error_that_names_it():
    transitions = point_transitions()
    transitions.condition[3, 0] = math.nan
    with pytest.raises(Diverged, match="NaN or infinity in 'condition'"):
        train_dynamics(transitions, BRIEF)


def test_a_diverging_loss_is_an_error_with_a_remedy():
    with pytest.raises(Diverged, match="learning_rate"):
        train_dynamics(point_transitions(), dataclasses.replace(BRIEF, learning_rate=math.inf, steps=60))


def test_too_few_episodes_are_refused():
    transitions = point_transitions()
    with pytest.raises(NoTransitions, match="1 episodes"):
        train_dynamics(transitions.select(transitions.episode == 0), BRIEF)


def test_data_without_any_ending_gives_a_model_that_never_ends():
    transitions = point_transitions()
    endless = transitions.select(~transitions.terminated)
    model, report = train_dynamics(endless, dataclasses.replace(SMALL, steps=60, members=2))
    assert report.termination_auc is None
    assert model.step(endless.condition, endless.chunk, every(0, endless.tick)).termination.mean() < 0.05


def test_settings_and_shapes_that_cannot_work_are_refused():
    with pytest.raises(RobotRLError, match=r"dynamics\.elites is 4"):
        DynamicsConfig(members=3, elites=4).validate()
    model = DynamicsEnsemble(2, ROWS, 2, BRIEF)
    with pytest.raises(RobotRLError, match="executed rows"):
        model.step(torch.zeros(1, 2), torch.zeros(1, ROWS + 1, 2), every(0, [0]))


def test_auc_by_hand():
    score = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert auc(score, torch.tensor([False, False, True, True])) == pytest.approx(0.75)
    assert auc(torch.ones(4), torch.tensor([False, True, True, False])) == pytest.approx(0.5)
    assert auc(score, torch.ones(4, dtype=torch.bool)) is None
