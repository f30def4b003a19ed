"""How sure a success rate or a mean over seeds is: Wilson's score interval and the bootstrap.

Every rate that robot-rl prints carries one of these, since 9 of 10 and 90 of 100 are not the same claim.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robot_rl.types import RobotRLError


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
    z = _two_sided_z(confidence)
    if episodes == 0:
        return Interval(0.0, 1.0)
    rate = successes / episodes
    scale = 1.0 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / scale
    half_width = z / scale * math.sqrt(rate * (1 - rate) / episodes + (z / (2 * episodes)) ** 2)
    # Exactly 0 or 1 at the ends; rounding would otherwise leave 1e-17 there.
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == episodes else min(1.0, centre + half_width)
    return Interval(low, high)


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
    tail = (1.0 - _checked(confidence)) / 2.0
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


def _two_sided_z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + _checked(confidence) / 2.0)


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; write 0.95 for 95 %")
    return confidence
