import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.core.confidence import Interval, TooFewValues, bootstrap_mean_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_agrees_with_newcombe_1998_table_1(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        # scipy 1.17.1: binomtest(successes, episodes).proportion_ci(method="wilson")
        (5, 10, 0.236593090512564, 0.7634069094874361),
        (9, 10, 0.5958499732047615, 0.9821237869049271),
        # All or none: z^2 / (n + z^2) by hand.
        (0, 10, 0.0, 3.8414588206941254 / 13.8414588206941254),
        (100, 100, 100 / 103.8414588206941254, 1.0),
    ],
)
def test_wilson_interval_is_exact(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=1e-14)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_both_ends_of_wilson_interval_are_z_standard_errors_from_the_rate(counts):
    successes, episodes = counts
    rate = successes / episodes
    for end in wilson_interval(successes, episodes):
        if 0.0 < end < 1.0:
            # The definition: the rate lies z standard errors of the *end* away from the end.
            distance = abs(rate - end) / math.sqrt(end * (1 - end) / episodes)
            assert distance == pytest.approx(1.959963984540054, rel=1e-6)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_interval_holds_the_rate_and_mirrors_with_failures(successes, failures):
    episodes = successes + failures
    interval = wilson_interval(successes, episodes)
    mirror = wilson_interval(failures, episodes)
    assert 0.0 <= interval.low <= interval.high <= 1.0
    assert interval.low == pytest.approx(1.0 - mirror.high, abs=1e-12)
    if episodes:
        assert interval.low <= successes / episodes <= interval.high


def test_no_episodes_means_nothing_is_known():
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 10), (11, 10), (1, 0), (0, -1)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="successes must lie in"):
        wilson_interval(successes, episodes)


def test_higher_confidence_gives_a_wider_interval():
    narrow, wide = wilson_interval(30, 50, confidence=0.9), wilson_interval(30, 50, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_zero_to_one_is_refused(confidence):
    with pytest.raises(ValueError, match=r"0\.95 for 95 %"):
        wilson_interval(1, 2, confidence)


def test_three_seeds_bootstrap_to_their_range():
    interval = bootstrap_mean_interval([0.5, 0.62, 0.56], np.random.default_rng(0))
    assert interval == pytest.approx((0.5, 0.62))


def test_bootstrap_of_many_values_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    half_width = 1.959963984540054 * values.std() / 20.0
    interval = bootstrap_mean_interval(values, np.random.default_rng(2))
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.03)


def test_bootstrap_repeats_under_the_same_generator():
    values = [0.1, 0.4, 0.35, 0.8]
    first = bootstrap_mean_interval(values, np.random.default_rng(7))
    assert first == bootstrap_mean_interval(values, np.random.default_rng(7))


@pytest.mark.parametrize("values", [[], [0.5], [[0.5, 0.6]], [0.5, float("nan")]])
def test_bootstrap_refuses_values_that_carry_no_interval(values):
    with pytest.raises(TooFewValues):
        bootstrap_mean_interval(values, np.random.default_rng(0))
