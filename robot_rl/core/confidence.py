"""How sure a number is: a success rate, a mean over seeds, one policy's gain over another, and a loss of success.

Every rate that robot-rl prints carries an interval, since 9 of 10 and 90 of 100 are not the same claim. A candidate
replaces the policy before it only if its gain on paired rollouts is sure (`paired_gain`). And as the model of those
rollouts can be wrong where its data are thin, the robot has a veto (`chance_of_so_few`): on peg-insert-side, learned
from 100 demonstrations, a model put a policy that succeeded in 26 of 100 episodes above one that succeeded in 88. The
rollouts that follow an update are collected anyway, so they are read too. They can only take an update back, never
prefer one: what was accepted stays unless its rollouts succeed significantly less often.

scipy is loaded by the functions that need it: nobody who drives a robot waits for it.

Legend: `S` episode starts, or seeds; `R` repeats of a start with other noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


class TooFewValues(RobotRLError):
    """An interval was asked for from values that cannot carry one."""


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate (E. B. Wilson 1927, eq. 4, without continuity correction).

    Unlike `rate ± z * standard error` it stays inside [0, 1] and does not claim certainty at 0 or at `episodes`
    successes.

    Args:
        successes: Number of successes.
        episodes: Number of episodes; with 0 nothing is known and the interval is [0, 1].
        confidence: Coverage, 0.95 for a 95 % interval.

    Raises:
        ValueError: Counts that cannot be, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must lie in 0..{episodes} (the episodes), got {successes}")
    _require_between_0_and_1(confidence)
    if episodes == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import binomtest

    return Interval(*binomtest(successes, episodes).proportion_ci(confidence, method="wilson"))


def bootstrap_mean_interval(
    values: npt.ArrayLike, generator: np.random.Generator, confidence: float = 0.95, resamples: int = 10_000
) -> Interval:
    """Percentile bootstrap interval of a mean over seeds (Efron 1979).

    With few seeds it is too narrow: for three seeds the 95 % interval is exactly [smallest, largest], because all
    three draws agree once in 27 resamples. Report the number of seeds beside it.

    Args:
        values: One figure per seed. Shape (S,).
        generator: Source of the resamples.
        confidence: Coverage, 0.95 for a 95 % interval.
        resamples: How many means are drawn.

    Raises:
        TooFewValues: Fewer than two values, or one that is not finite.
        ValueError: A confidence outside (0, 1).
    """
    _require_between_0_and_1(confidence)
    tail = (1.0 - confidence) / 2.0
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise TooFewValues(
            f"a bootstrap interval needs at least 2 values in one row, got shape {sample.shape}; run more seeds"
        )
    if not np.isfinite(sample).all():
        raise TooFewValues(f"a bootstrap interval needs finite values, got {sample.tolist()}")
    draws = generator.integers(sample.size, size=(resamples, sample.size))
    low, high = np.quantile(sample[draws].mean(axis=1), [tail, 1.0 - tail])
    return Interval(float(low), float(high))


class PairedGain(NamedTuple):
    """A mean difference and its uncertainty."""

    mean: float
    """Over starts."""
    standard_error: float
    """Of the mean, starts and models together."""
    lower_bound: float
    """One-sided."""
    degrees_of_freedom: float
    """Of Student's distribution behind the bound; 0 where nothing varied."""
    between_models: float
    """Standard deviation of the gain from model to model, beyond what their few starts explain."""


def paired_gain(difference: Floats, model: npt.NDArray[np.int64], confidence: float) -> PairedGain:
    """Mean paired difference with its one-sided lower confidence bound.

    Two things make it uncertain. Starts: another sample of them would give another mean; repeats of one start count
    as one. Models: all starts rolled out in one model share its errors, which no number of starts averages away. The
    variance between models is the one-way random-effects estimate, and both add up to one bound with Welch's and
    Satterthwaite's degrees of freedom.

    Args:
        difference: Candidate minus reference. Shape (S, R).
        model: Which model scored each. Shape (S, R).
        confidence: Of the bound, 0.5 to 1.
    """
    starts = difference.shape[0]
    mean = float(difference.mean())
    by_start = difference.mean(axis=1)
    of_starts = float(by_start.var(ddof=1)) / starts if starts > 1 else math.inf
    groups = [difference[model == each] for each in np.unique(model)]
    groups = [group for group in groups if len(group) > 1]
    spread = _between(groups)
    of_models = spread / max(1, len(groups))
    variance = of_starts + of_models
    if variance == 0.0:
        return PairedGain(mean, 0.0, mean, 0.0, 0.0)
    if not math.isfinite(variance):
        return PairedGain(mean, math.inf, -math.inf, 0.0, math.sqrt(spread))
    freedom = variance**2 / (of_starts**2 / (starts - 1) + of_models**2 / max(1, len(groups) - 1))
    error = math.sqrt(variance)
    return PairedGain(mean, error, mean - student_quantile(confidence, freedom) * error, freedom, math.sqrt(spread))


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(probability, degrees_of_freedom))


class OwnRollouts(NamedTuple):
    """What became of a policy's labelled rollouts."""

    successes: int
    episodes: int

    @classmethod
    def of(cls, outcomes: Mapping[str, int]) -> OwnRollouts:
        """From the number of episodes of each outcome; aborted ones say nothing."""
        successes, failures = outcomes.get(str(Outcome.SUCCESS), 0), outcomes.get(str(Outcome.FAILURE), 0)
        return cls(successes, successes + failures)

    def __str__(self) -> str:
        return f"{self.successes} of {self.episodes}"


def chance_of_so_few(before: OwnRollouts, after: OwnRollouts) -> float:
    """Fisher's exact test, one-sided: the chance of as few successes after, or fewer, if nothing had changed.

    Counted in whole numbers and divided once: scipy's rounding puts a chance of exactly 0.2 below a level of 0.2.

    Returns:
        A p-value; 1 where either has no episodes.
    """
    if not before.episodes or not after.episodes:
        return 1.0
    successes, episodes = before.successes + after.successes, before.episodes + after.episodes
    ways = math.comb(episodes, after.episodes)
    fewest = max(0, successes - before.episodes)
    chosen = sum(
        math.comb(successes, each) * math.comb(episodes - successes, after.episodes - each)
        for each in range(fewest, after.successes + 1)
    )
    return chosen / ways


def _between(groups: list[Floats]) -> float:
    """Variance of the models' mean gains beyond what sampling explains, at least 0."""
    if len(groups) < 2:
        return 0.0
    means = np.array([group.mean() for group in groups])
    sampling = np.mean([group.var(ddof=1) / len(group) for group in groups])
    return max(0.0, float(means.var(ddof=1) - sampling))


def _require_between_0_and_1(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; write 0.95 for 95 %")
