"""The simulated operator of SlotInsert2D, and the benchmark that measures what it is worth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.slot_insert import interventions
from benchmarks.slot_insert.imitation import imitate, new_policy
from benchmarks.slot_insert.interventions import ALONE, ARMS, Point, Settings, run, table, within
from benchmarks.slot_insert.main import Recipe
from benchmarks.slot_insert.operator import SKILLS, Attention, SlotCorrector, steer
from benchmarks.slot_insert.robot import (
    SlotTask,
    SupervisedDriver,
    demonstrate,
    draw_starts,
    drive,
    roll_out,
)
from robot_rl.core.episode import Source
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.imitation import ImitationConfig
from robot_rl.learning.online.advantages import policy_segments
from robot_rl.learning.transitions import RewardConfig

TASK, ROWS, GAMMA = SlotTask(), 4, 0.9


@pytest.fixture(scope="module")
def exploring():
    demonstrations = demonstrate(100, 0)
    policy = new_policy(demonstrations, Recipe().policy, 0)
    return imitate(policy, demonstrations, ImitationConfig(steps=250, warmup_steps=20)).with_exploration(4, 0.02, 0.1)


def beside(by_m):
    """Drives as if the slot were elsewhere, and never waits before the wall."""

    def driver(tick, observation, running):
        moved = observation.copy()
        moved[:, 1] += by_m
        return steer(moved, 0.0, 10.0)

    return driver


def supervised(driver, skill="mild", episodes=200, seed=3, **attention):
    """What happened, and who drove at every tick, shape (T, E)."""
    operator = SlotCorrector(SKILLS[skill], Attention(**attention))
    operator.begin(episodes, ROWS, seed)
    watched = SupervisedDriver(driver, operator)
    trace = drive(TASK, draw_starts(episodes, np.random.default_rng(seed)), watched, np.random.default_rng(seed))
    return trace, watched.source == Source.OPERATOR


def first_takeover(driving):
    """Tick per episode, -1 where nobody took over. Shape (E,)."""
    return np.where(driving.any(axis=0), driving.argmax(axis=0), -1)


def same(one, other):
    return all((mine.states == yours.states).all() for mine, yours in zip(one.decisions, other.decisions, strict=True))


def test_an_operator_who_never_doubts_changes_not_a_bit(exploring):
    blind = SlotCorrector(SKILLS["clumsy"], Attention(near_m=0.0, late=1_000))
    alone, watched = roll_out(exploring, 40, 5, True), roll_out(exploring, 40, 5, True, TASK, blind)
    for one, other in zip(alone, watched, strict=True):
        assert (one.episode.applied == other.episode.applied).all()
        assert (other.episode.source == Source.POLICY).all()
        assert [each.tick for each in one.decisions] == [each.tick for each in other.decisions]
        assert same(one, other)


def test_one_seed_gives_one_set_of_interventions(exploring):
    operator = SlotCorrector(SKILLS["mild"])
    first, again = (roll_out(exploring, 40, 5, True, TASK, operator) for _ in range(2))
    other = roll_out(exploring, 40, 6, True, TASK, operator)
    assert all((one.episode.applied == two.episode.applied).all() for one, two in zip(first, again, strict=True))
    assert any(len(one.episode) != len(two.episode) for one, two in zip(first, other, strict=True))


def test_a_takeover_comes_after_the_reaction_and_not_before():
    at_once, after_two = (first_takeover(supervised(beside(0.2), reaction=(delay,) * 2)[1]) for delay in (0, 2))
    both = (at_once >= 0) & (after_two >= 0)
    assert both.mean() > 0.8
    assert (after_two[both] == at_once[both] + 2).all()
    assert at_once[both].min() >= Attention().window
    drawn = first_takeover(supervised(beside(0.2), reaction=(0, 2))[1])
    assert set(drawn[both] - at_once[both]) == {0, 1, 2}


def test_a_good_driver_is_left_alone():
    trace, driving = supervised(lambda tick, seen, running: steer(seen, 0.0, TASK.half_width))
    assert trace.success.all()
    assert not driving.any()


def test_who_is_late_is_driven_to_the_end():
    trace, driving = supervised(lambda tick, seen, running: np.zeros((len(seen), 2)), "clean", late=20, reaction=(2, 2))
    assert (first_takeover(driving) == 22).all()  # in doubt at tick 20, two ticks to react
    assert driving[22:].all()
    assert trace.success.mean() > 0.9


def test_a_clumsy_operator_saves_fewer_runs_than_a_good_one():
    rate = {skill: supervised(beside(0.2), skill, drive=None)[0].success.mean() for skill in SKILLS}
    assert rate["clean"] > 0.97
    assert rate["mild"] > 0.93
    assert rate["clumsy"] < rate["mild"] - 0.2


def test_control_is_given_back_at_a_decision_after_no_less_than_the_ticks_asked_for():
    trace, driving = supervised(beside(0.2), drive=3)
    spans = [
        (start, end)
        for index, length in enumerate(trace.length)
        for start, end in zip(*edges(driving[:length, index]), strict=False)
    ]
    assert len(spans) > 50
    assert all(end % ROWS == 0 and 3 <= end - start < 3 + ROWS for start, end in spans)


def edges(driving):
    """First ticks of the operator's spans, and first ticks after those that end."""
    step = np.diff(driving.astype(int), prepend=0)
    return np.flatnonzero(step == 1), np.flatnonzero(step == -1)


def test_no_tick_of_the_operator_is_in_a_decision_and_a_takeover_cuts_with_a_bootstrap(exploring):
    attention = Attention(near_m=0.6, drive=3)
    collected = roll_out(exploring, 120, 5, True, TASK, SlotCorrector(SKILLS["mild"], attention))
    segments = policy_segments(exploring, collected, RewardConfig(gamma=GAMMA, intervention_penalty=1.0))
    end = segments.tick + torch.round(torch.log(segments.discount) / np.log(GAMMA)).long()
    takeovers = returns = 0
    for number, each in enumerate(collected):
        driving = each.episode.source == Source.OPERATOR
        begun, given_back = edges(driving)
        takeovers, returns = takeovers + len(begun), returns + len(given_back)
        assert not driving[[decision.tick for decision in each.decisions]].any()
        assert set(given_back) <= {decision.tick for decision in each.decisions}
        mine = (segments.episode == number).nonzero()[:, 0].tolist()
        assert not any(driving[segments.tick[index] : end[index]].any() for index in mine)
        cut_short = [index for index in mine if segments.taken_over[index]]
        assert [int(end[index]) for index in cut_short] == begun.tolist()
        for index in cut_short:
            assert segments.cut[index]
            assert not segments.terminated[index]
            assert segments.discount[index] > 0
            assert segments.reward[index] < 0
    assert takeovers > 40
    assert returns > 10


def point(ticks, successes):
    return Point(ticks, ticks // 10, ticks // 20, 1, 3, successes, 10)


def test_the_table_looks_at_the_newest_policy_within_a_budget():
    points = [point(0, 5), point(900, 6), point(2_100, 7)]
    assert [within(points, budget).successes for budget in (0, 899, 900, 2_099, 9_999)] == [5, 5, 6, 6, 7]
    better = [point(0, 5), point(800, 8), point(2_000, 9)]
    runs = {seed: {name: points if name == ALONE else better for name in ARMS} for seed in (0, 1)}
    text = table(runs, dataclasses.replace(Settings(), budgets=(1_000,)))
    assert f"| {ALONE} | 0.500 [0.500, 0.500] | 0.600 [0.600, 0.600] |" in text
    assert "| clumsy operator | +0.200 [+0.200, +0.200] |" in text


def test_a_finished_arm_is_not_run_again_and_other_settings_are_refused(tmp_path, monkeypatch):
    ran = []

    def learn(policy, arm, settings, seed):
        ran.append(arm)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return [point(0, 5), point(900, 6)]

    monkeypatch.setattr(interventions, "learn", learn)
    monkeypatch.setattr(interventions, "imitation", lambda recipe, seed: ("policy", []))
    settings = Settings()
    with pytest.raises(KeyboardInterrupt):
        run(settings, 0, tmp_path, print)
    found = run(settings, 0, tmp_path, print)
    assert ran == [*[*ARMS.values()][:3], *[*ARMS.values()][2:]]
    assert found == run(settings, 0, tmp_path, print)
    assert [*found] == [*ARMS]
    with pytest.raises(RobotRLError, match="other settings"):
        run(dataclasses.replace(settings, attention=Attention(drive=None)), 0, tmp_path, print)
