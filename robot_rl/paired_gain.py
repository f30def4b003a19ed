"""The gain of one policy over another from paired scores, and how sure it is.

Legend: `S` episode starts, `R` repeats of a start with other noise, `E` models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ANGLES = 20_001
"""Points at which Student's distribution is integrated: its quantiles are right to four digits."""
MOST_FREEDOM = 10_000.0
"""Degrees of freedom beyond which the normal distribution is as good."""


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
    """Quantile of Student's t for a probability from 0.5 to 1.

    With t = sqrt(v) tan(angle) the density is cos(angle)^(v - 1) up to a constant, which a grid integrates.
    """
    freedom = min(degrees_of_freedom, MOST_FREEDOM)
    angle = np.linspace(0.0, math.pi / 2, ANGLES)
    density = np.cos(angle) ** (freedom - 1.0)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    mass *= 0.5 / mass[-1]
    return math.sqrt(freedom) * math.tan(float(np.interp(probability - 0.5, mass, angle)))


def _between(groups: list[Floats]) -> float:
    """Variance of the models' mean gains beyond what sampling explains, at least 0."""
    if len(groups) < 2:
        return 0.0
    means = np.array([group.mean() for group in groups])
    sampling = np.mean([group.var(ddof=1) / len(group) for group in groups])
    return max(0.0, float(means.var(ddof=1) - sampling))
