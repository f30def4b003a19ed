import math

import pytest

from robot_rl.core.confidence import OwnRollouts, chance_of_so_few


def test_fishers_test_on_a_table_worked_by_hand():
    # 3 of 4 before, 1 of 4 after: of the 70 ways to deal 4 successes among 8 episodes, 16 + 1 leave at most 1 after.
    assert chance_of_so_few(OwnRollouts(3, 4), OwnRollouts(1, 4)) == pytest.approx(17 / 70)


def test_a_collapse_is_beyond_chance_and_noise_is_not():
    assert chance_of_so_few(OwnRollouts(88, 100), OwnRollouts(26, 100)) < 1e-12
    assert chance_of_so_few(OwnRollouts(88, 100), OwnRollouts(85, 100)) > 0.2


def test_better_rollouts_never_look_worse():
    assert chance_of_so_few(OwnRollouts(50, 100), OwnRollouts(60, 100)) > 0.9


def test_the_chance_is_a_probability_at_every_edge():
    for before in (OwnRollouts(0, 5), OwnRollouts(5, 5)):
        for after in (OwnRollouts(0, 3), OwnRollouts(3, 3)):
            chance = chance_of_so_few(before, after)
            assert 0.0 <= chance <= 1.0 + 1e-12
            assert math.isfinite(chance)


def test_without_episodes_nothing_is_said():
    assert chance_of_so_few(OwnRollouts(0, 0), OwnRollouts(0, 10)) == 1.0


def test_aborted_episodes_are_not_counted():
    assert OwnRollouts.of({"success": 3, "failure": 1, "aborted": 9}) == OwnRollouts(3, 4)
