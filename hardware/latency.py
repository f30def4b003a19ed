"""How late a robot's commands take effect and how late its cameras stamp: estimators over samples taken elsewhere.

Command latency is the shift that best lays the measured path over the commanded one (cross-correlation). Rows are
taken for corners of a path with straight lines between them, because that is how they are compensated: a row sent
early by the latency finds the arm where the row says at the time it was meant for. An arm that jumps to each row at
once therefore shows half a tick, and one that follows with a first-order lag shows about its time constant.

Camera latency is the median distance from the time encoded in a picture to the stamp that the driver gave it, which is
what `StreamTiming.latency_ns` takes off again.

Legend: `N` measured samples, `M` command rows, `P` pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S, FloatArray

MAD_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
NS_PER_MS = 1_000_000

Stamps = npt.NDArray[np.int64]


class NoLatency(RobotRLError):
    """Samples from which no latency can be told."""


class CommandLatency(NamedTuple):
    """From sending a row to the arm being where it says.

    Attributes:
        latency_s: The shift [s].
        error_s: Its standard error, from how sharp the peak is against what it leaves unexplained [s].
        correlation: Of the shifted command with the measurement, at most 1.
        gain: Measured motion over commanded motion, 1 for an arm that does what it is told.
    """

    latency_s: float
    error_s: float
    correlation: float
    gain: float


class CameraLatency(NamedTuple):
    """Where a picture's time goes.

    Attributes:
        stamp_s: From the time shown in the picture to its stamp: what has to be taken off the stamp [s].
        arrival_s: From the time shown in the picture to its arrival [s].
        spread_s: Robust standard deviation of `stamp_s` between pictures [s].
        pictures: How many it is the median of.
    """

    stamp_s: float
    arrival_s: float
    spread_s: float
    pictures: int


@dataclass(frozen=True)
class LatencySearch:
    """What is searched and what is believed.

    Attributes:
        longest_s: Largest command latency that is looked for [s].
        step_s: Distance of two shifts that are tried; the peak is found between them [s].
        least_correlation: Below it the arm did something else than was commanded.
        least_gain: An arm that does less of the commanded motion did not move.
        largest_error_s: Standard error above which the peak is too flat [s].
        least_samples: Measured samples that are needed.
    """

    longest_s: float = 0.6
    step_s: float = 0.002
    least_correlation: float = 0.9
    least_gain: float = 0.1
    largest_error_s: float = 0.02
    least_samples: int = 50


def command_latency(
    sent_ns: Stamps,
    commanded: FloatArray,
    stamps_ns: Stamps,
    measured: FloatArray,
    search: LatencySearch | None = None,
) -> CommandLatency:
    """The delay from commanded to measured position.

    Samples may be unevenly spaced, missing and in any order; both series are on the same clock.

    Args:
        sent_ns: When each row was sent [ns]. Shape (M,).
        commanded: Commanded positions, measured units. Shape (M,).
        stamps_ns: When each position was measured [ns]. Shape (N,).
        measured: Measured positions. Shape (N,).
        search: See `LatencySearch`.

    Raises:
        NoLatency: Too few samples, nothing commanded, the arm did not move or did something else, or the best shift
            is so flat, so large or so negative that it means nothing.
    """
    search = search or LatencySearch()
    sent_s, rows, at_s, places = _checked(sent_ns, commanded, stamps_ns, measured, search)
    gain = _moved(rows, places, search)
    shifts_s = np.arange(-search.longest_s / 2, search.longest_s + search.step_s, search.step_s)
    # Only measurements that every shift has a command for, so that all shifts are judged by the same ones.
    inside = (at_s >= sent_s[0] + shifts_s[-1]) & (at_s <= sent_s[-1] + shifts_s[0])
    if int(inside.sum()) < search.least_samples:
        raise NoLatency(
            f"{int(inside.sum())} measured samples lie {search.longest_s:g} s inside the wiggle, wanted "
            f"{search.least_samples}: wiggle for longer, or check the rate of the measured stream"
        )
    at_s, places = at_s[inside], places[inside]
    scores = np.array([_correlation(np.interp(at_s - shift, sent_s, rows), places) for shift in shifts_s])
    best = int(np.argmax(scores))
    _believable(scores, best, shifts_s, search)
    between, peak, curvature = _vertex(scores[best - 1 : best + 2])
    latency_s = float(shifts_s[best] + between * search.step_s)
    error_s = _standard_error(peak, curvature / search.step_s**2, len(at_s))
    if error_s > search.largest_error_s:
        raise NoLatency(
            f"the correlation is flat: {latency_s * 1e3:.0f} ms give or take {error_s * 1e3:.0f} ms; "
            "wiggle faster or further"
        )
    _not_early(latency_s, error_s, at_s)
    return CommandLatency(latency_s, error_s, peak, gain)


def _checked(
    sent_ns: Stamps, commanded: FloatArray, stamps_ns: Stamps, measured: FloatArray, search: LatencySearch
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Both series in seconds since the first row, ascending, without repeated stamps and what is not finite."""
    for name, times, values in (("commanded", sent_ns, commanded), ("measured", stamps_ns, measured)):
        if times.ndim != 1 or times.shape != values.shape:
            raise NoLatency(f"{name} has {values.shape} values at {times.shape} times, wanted one each")
    rows_at, rows = _ascending(sent_ns, commanded)
    at, places = _ascending(stamps_ns, measured)
    if len(rows) < 3 or len(places) < search.least_samples:
        raise NoLatency(
            f"{len(rows)} rows and {len(places)} measured samples, wanted at least 3 and {search.least_samples}: "
            "wiggle for longer, or check that the position is published"
        )
    start_ns = int(rows_at[0])
    return (rows_at - start_ns) / NS_PER_S, rows, (at - start_ns) / NS_PER_S, places


def _ascending(times_ns: Stamps, values: FloatArray) -> tuple[Stamps, FloatArray]:
    finite = np.isfinite(values)
    stamps, first = np.unique(times_ns[finite], return_index=True)
    return stamps, values[finite][first].astype(np.float64)


def _moved(commanded: FloatArray, measured: FloatArray, search: LatencySearch) -> float:
    """Measured over commanded motion, by the spread of values: a few wrong samples do not count as motion."""
    told, did = _extent(commanded), _extent(measured)
    if told == 0.0:
        raise NoLatency("the command never changed: wiggle with an amplitude above 0")
    if did < search.least_gain * told:
        raise NoLatency(
            f"the arm did not move: {did:.3g} measured of {told:.3g} commanded; check that it is enabled, that the "
            "dimension is the one that limits.measured names, and its scale"
        )
    return did / told


def _extent(values: FloatArray) -> float:
    low, high = np.percentile(values, (5.0, 95.0))
    return float(high - low)


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson's; 0 where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale > 0.0 else 0.0


def _believable(scores: FloatArray, best: int, shifts_s: FloatArray, search: LatencySearch) -> None:
    peak, shift_s = float(scores[best]), float(shifts_s[best])
    if peak < search.least_correlation:
        raise NoLatency(
            f"the arm did something else than was commanded: correlation {peak:.2f} at best, wanted "
            f"{search.least_correlation:g}; check limits.measured of this dimension, and that nobody else moves the arm"
        )
    if best == len(scores) - 1:
        raise NoLatency(f"the arm lags by {shift_s:.2f} s or more: look for its cause first, or search longer")
    if best == 0:
        raise NoLatency(f"the arm moved {-shift_s:.2f} s or more before its command: the two clocks differ")
    # As good again beyond a valley: a periodic wiggle fits at every period.
    for side in (scores[:best][::-1], scores[best + 1 :]):
        valley = int(np.argmin(side))
        if side[valley:].max() > peak - 0.02 and side[valley] < peak - 0.1:
            raise NoLatency("two shifts fit equally well: the wiggle repeats itself; use one that does not")


def _vertex(scores: FloatArray) -> tuple[float, float, float]:
    """Of the parabola through three values at -1, 0, 1: place, value (at most 1) and curvature, which is positive."""
    before, here, after = (float(score) for score in scores)
    curvature = 2.0 * here - before - after
    if curvature <= 0.0:
        return 0.0, here, 0.0
    place = 0.5 * (after - before) / curvature
    return place, min(1.0, here + 0.25 * (after - before) * place), curvature


def _standard_error(peak: float, curvature: float, samples: int) -> float:
    """Of the shift, as of a least-squares fit: unexplained over explained by a shift, per independent sample [s]."""
    if curvature <= 0.0:
        return math.inf
    return math.sqrt(max(0.0, 1.0 - peak**2) / (peak * curvature * samples))


def _not_early(latency_s: float, error_s: float, at_s: FloatArray) -> None:
    sample_s = float(np.median(np.diff(at_s)))
    if latency_s < -(sample_s + 3.0 * error_s):
        raise NoLatency(
            f"the arm moved {-latency_s * 1e3:.0f} ms before its command: their clocks differ; "
            "synchronise them (chrony), then measure again"
        )


def camera_latency(
    encoded_ns: Stamps,
    stamps_ns: Stamps,
    arrivals_ns: Stamps,
    *,
    least_pictures: int = 20,
    largest_spread_s: float = 0.05,
) -> CameraLatency:
    """From the time a picture shows to its stamp and its arrival, by the median over pictures.

    Args:
        encoded_ns: Time that was read in each picture [ns]. Shape (P,).
        stamps_ns: Its header's stamp [ns]. Shape (P,).
        arrivals_ns: When it arrived [ns]. Shape (P,).
        least_pictures: Fewer are not believed.
        largest_spread_s: A wider spread is not believed [s].

    Raises:
        NoLatency: Too few pictures, stamps before the picture's own time (the clocks differ), or too wide a spread.
    """
    if not encoded_ns.shape == stamps_ns.shape == arrivals_ns.shape:
        raise NoLatency(
            f"{encoded_ns.shape} times, {stamps_ns.shape} stamps, {arrivals_ns.shape} arrivals: wanted one each"
        )
    if len(encoded_ns) < least_pictures:
        raise NoLatency(
            f"the time could be read in {len(encoded_ns)} pictures, wanted {least_pictures}: let the clock fill the "
            "picture, in focus and without glare, and shorten the exposure"
        )
    behind_ns = stamps_ns - encoded_ns
    median_ns = float(np.median(behind_ns))
    spread_s = MAD_TO_SIGMA * float(np.median(np.abs(behind_ns - median_ns))) / NS_PER_S
    if spread_s > largest_spread_s:
        raise NoLatency(
            f"the camera's latency varies by {spread_s * 1e3:.0f} ms, wanted at most {largest_spread_s * 1e3:.0f}: "
            "check that its driver stamps at capture and that nothing else loads the machine"
        )
    if median_ns < -3.0 * max(spread_s * NS_PER_S, NS_PER_MS):
        raise NoLatency(
            f"pictures are stamped {-median_ns / NS_PER_MS:.0f} ms before the time they show: the clocks of camera and "
            "shown time differ; synchronise them (chrony), then measure again"
        )
    arrival_s = float(np.median(arrivals_ns - encoded_ns)) / NS_PER_S
    return CameraLatency(max(0.0, median_ns / NS_PER_S), arrival_s, spread_s, len(encoded_ns))


def wiggle(duration_s: float, slowest_hz: float, fastest_hz: float, rate_hz: float) -> FloatArray:
    """A motion to measure latency with: from rest to rest, within +-1, and never like itself at another time.

    A sine whose frequency rises, under a window that begins and ends flat.

    Args:
        duration_s: Of the whole [s].
        slowest_hz: Frequency at the start.
        fastest_hz: Frequency at the end.
        rate_hz: Rows per second.

    Returns:
        Shape (rows,), beginning and ending with 0.
    """
    rows = round(duration_s * rate_hz) + 1
    at_s = np.linspace(0.0, duration_s, rows)
    phase = 2.0 * np.pi * (slowest_hz * at_s + 0.5 * (fastest_hz - slowest_hz) / duration_s * at_s**2)
    motion: FloatArray = np.sin(np.pi * at_s / duration_s) ** 2 * np.sin(phase)
    motion[0] = motion[-1] = 0.0
    return motion
