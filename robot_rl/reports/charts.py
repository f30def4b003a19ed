"""Small charts as inline SVG, whose colours come from the page, so that they suit light and dark and need no picture.

Classes the page must colour: lines `grid`, `axis`, `main`, `second`, `third`, `faint`, `whisker`, `mark`; text `tick`,
`ink`; areas `bar`, `bar-stage`, `bar-demonstrations`, `bar-baseline`, `track`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robot_rl.core.confidence import Interval

Values = npt.NDArray[np.float64]

WIDTH, HEIGHT = 520, 310
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 40, 54
LETTER_PX = 7.6
"""Width of a letter on average, to place what follows a word."""
RATE_WIDTH, RATE_HEIGHT = 300, 26
DRAWN_POINTS = 120
"""More points than this are drawn as means of equal groups over the faint originals."""
FAINT_POINTS = 1200
LINE_STYLES = ("main", "second", "third")
LOG_RATIO = 30.0
"""A loss that spans more than this is drawn on a logarithmic axis."""
BINS = 44
SMALLEST_DRAWN = 1e-12
"""Values smaller than this are drawn as zero."""
TAIL_CUT = 1.5
"""Values beyond this many times p99 are counted in words instead of squeezing the rest into one bin."""


@dataclass(frozen=True)
class Series:
    """A line: `x` ascending and `y`, both of shape (N,), finite."""

    name: str
    x: Values
    y: Values


class _Axis(NamedTuple):
    """Maps values to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def pixel(self, values: npt.ArrayLike) -> Values:
        array = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.is_log:
            array, low, high = np.log10(array), math.log10(low), math.log10(high)
        return self.start + (array - low) / (high - low) * (self.end - self.start)


def rate_bar(rate: float, interval: Interval, role: str) -> str:
    """A success rate as a bar from 0 to 1 with its interval as a whisker."""
    y, thickness = RATE_HEIGHT / 2, 12
    low, high = (RATE_WIDTH * end for end in interval)
    caption = f"{rate:.0%}, 95 % interval {interval.low:.0%} to {interval.high:.0%}"
    grid = "".join(
        f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="0" y2="{RATE_HEIGHT}"/>'
        for x in np.linspace(0, RATE_WIDTH, 5)[1:-1]
    )
    return (
        f'<svg class="rate" viewBox="-4 0 {RATE_WIDTH + 8} {RATE_HEIGHT}" role="img" aria-label="{caption}">'
        f'<rect class="track" x="0" y="{y - thickness / 2:g}" width="{RATE_WIDTH}" height="{thickness}" rx="2"/>{grid}'
        f'<rect class="bar-{html.escape(role)}" x="0" y="{y - thickness / 2:g}" width="{RATE_WIDTH * rate:.1f}" '
        f'height="{thickness}" rx="2"/>'
        f'<path class="whisker" d="M{low:.1f} {y - 5:g}v10M{low:.1f} {y:g}H{high:.1f}M{high:.1f} {y - 5:g}v10"/></svg>'
    )


def rate_axis() -> str:
    """Scale that stands above a column of `rate_bar`."""
    labels = []
    for percent, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end")):
        x = RATE_WIDTH * percent / 100
        labels.append(f'<text class="tick" x="{x:g}" y="12" text-anchor="{anchor}">{percent}</text>')
    return (
        f'<svg class="rate" viewBox="-4 0 {RATE_WIDTH + 8} 16" role="img" aria-label="scale from 0 to 100 percent">'
        + "".join(labels)
        + "</svg>"
    )


def line_chart(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Lines over a common x; the first is the main one. Needs at least one series with a point."""
    x_all = np.concatenate([each.x for each in series])
    y_all = np.concatenate([each.y for each in series])
    is_log = bool(y_all.min() > 0 and y_all.max() / y_all.min() > LOG_RATIO)
    x_axis = _Axis(*_padded(x_all.min(), x_all.max(), 0.0), LEFT, WIDTH - RIGHT)
    y_low, y_high = (
        (y_all.min() / 1.1, y_all.max() * 1.1) if is_log else _padded(min(0.0, y_all.min()), y_all.max(), 0.05)
    )
    y_axis = _Axis(float(y_low), float(y_high), HEIGHT - BOTTOM, TOP, is_log)
    parts = [_axes(x_axis, y_axis, x_label, f"{y_label}, logarithmic" if is_log else y_label)]
    for place, each in enumerate(series):
        parts += _line(each, LINE_STYLES[place % len(LINE_STYLES)], x_axis, y_axis)
    parts.append(_legend([each.name for each in series]))
    label = f"{y_label} over {x_label}: " + "; ".join(f"{each.name} ends at {each.y[-1]:.3g}" for each in series)
    return _svg("".join(parts), label)


def _line(series: Series, style: str, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """A line, over its faint originals where it had to be averaged, with dots where points are few."""
    if len(series.x) > DRAWN_POINTS:
        stride = -(-len(series.x) // FAINT_POINTS)
        faint = _path(x_axis.pixel(series.x[::stride]), y_axis.pixel(series.y[::stride]))
        x, y = (_group_means(values) for values in (series.x, series.y))
        drawn = _path(x_axis.pixel(x), y_axis.pixel(y))
        return [f'<path class="faint" d="{faint}"/>', f'<path class="{style}" d="{drawn}"/>']
    pixels = list(zip(x_axis.pixel(series.x), y_axis.pixel(series.y), strict=True))
    line = f'<path class="{style}" d="{_path(*map(np.array, zip(*pixels, strict=True)))}"/>'
    if len(pixels) > DRAWN_POINTS // 3:
        return [line]
    return [line, *(f'<circle class="{style}-dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in pixels)]


def _group_means(values: Values) -> Values:
    return np.array([group.mean() for group in np.array_split(values, DRAWN_POINTS)])


def histogram(values: npt.ArrayLike, marks: Mapping[str, float], unit: str, what: str) -> str:
    """How often values of each size occurred, with vertical marks. Needs at least one finite value.

    Args:
        values: Any shape [unit].
        marks: Name to value, for example percentiles [unit].
        unit: Of the values.
        what: What was counted.
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    cut = min(float(finite.max()), TAIL_CUT * float(np.percentile(finite, 99)))
    low, high = _padded(float(finite.min()), max(cut, float(finite.min())), 0.02)
    counts, edges = np.histogram(finite, bins=BINS, range=(low, high))
    x_axis = _Axis(low, high, LEFT, WIDTH - RIGHT)
    y_axis = _Axis(0.0, float(counts.max()) * 1.08, HEIGHT - BOTTOM, TOP)
    bars = []
    for count, left, right in zip(counts, x_axis.pixel(edges[:-1]), x_axis.pixel(edges[1:]), strict=True):
        if count:
            top = float(y_axis.pixel(count))
            size = f'width="{max(right - left - 1, 1):.1f}" height="{HEIGHT - BOTTOM - top:.1f}"'
            bars.append(f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" {size}/>')
    words = [f"{name} {value:.3g} {unit}" for name, value in marks.items()]
    lines = [
        f'<line class="mark mark-{place}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        for place, x in enumerate(x_axis.pixel(list(marks.values())))
        if x <= WIDTH - RIGHT
    ]
    beyond = int((finite > high).sum())
    label = f"{unit} ({beyond} of {finite.size:,} beyond, up to {finite.max():.3g})" if beyond else unit
    body = "".join([_axes(x_axis, y_axis, label, what), *bars, *lines, _mark_legend(words)])
    return _svg(body, f"histogram of {what} over {label}: {', '.join(words)}")


class Gain(NamedTuple):
    """One judged update; values that are not finite are not drawn."""

    gain: float
    lower_bound: float
    second: float
    """By another estimator."""
    accepted: bool


def gain_chart(gains: Sequence[Gain], x_label: str, y_label: str) -> str:
    """Gains in their order, each a dot with a line down to its lower bound. Needs at least one finite gain."""
    drawn = [value for each in gains for value in each[:3] if math.isfinite(value)]
    room = 0.1 * max(max(drawn) - min(drawn), max(map(abs, drawn)), SMALLEST_DRAWN)
    x_axis = _Axis(0.0, len(gains) + 1.0, LEFT, WIDTH - RIGHT)
    y_axis = _Axis(min(0.0, *drawn) - room, max(0.0, *drawn) + room, HEIGHT - BOTTOM, TOP)
    zero = float(y_axis.pixel(0.0))
    parts = [
        _axes(x_axis, y_axis, x_label, y_label),
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero:.1f}" y2="{zero:.1f}"/>',
    ]
    for number, each in enumerate(gains, start=1):
        x, kind = float(x_axis.pixel(number)), "yes" if each.accepted else "no"
        if math.isfinite(each.gain) and math.isfinite(each.lower_bound):
            top, foot = (float(y_axis.pixel(value)) for value in (each.gain, each.lower_bound))
            parts.append(f'<line class="{kind}-line" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{foot:.1f}"/>')
            parts.append(f'<circle class="{kind}-dot" cx="{x:.1f}" cy="{top:.1f}" r="4"/>')
        if math.isfinite(each.second):
            y = float(y_axis.pixel(each.second))
            parts.append(f'<circle class="other-dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    accepted = sum(each.accepted for each in gains)
    return _svg("".join(parts), f"{y_label} of {len(gains)} updates, {accepted} of them accepted")


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high], about as many as wanted."""
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 times them where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            return inside
    return inside


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    """A range with some room above, and of some width even if all values are equal."""
    low, high = float(low), float(high)
    largest = max(abs(low), abs(high))
    if high - low <= 1e-9 * largest or largest < SMALLEST_DRAWN:
        room = 0.1 * largest if largest > SMALLEST_DRAWN else 1.0
        return low - room, high + room
    return low, high + (high - low) * share


def _axes(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> str:
    y_ticks = log_ticks(y_axis.low, y_axis.high) if y_axis.is_log else nice_ticks(y_axis.low, y_axis.high)
    parts = []
    for tick, y in zip(y_ticks, y_axis.pixel(y_ticks), strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{_number(tick)}</text>')
    x_ticks = nice_ticks(x_axis.low, x_axis.high)
    for tick, x in zip(x_ticks, x_axis.pixel(x_ticks), strict=True):
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="{anchor}">{_number(tick)}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="ink" x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    centre = (TOP + HEIGHT - BOTTOM) / 2
    place = f'x="14" y="{centre:g}" text-anchor="middle" transform="rotate(-90 14 {centre:g})"'
    parts.append(f'<text class="ink" {place}>{html.escape(y_label)}</text>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    """Names of lines, in a row above the chart."""
    parts, x = [], float(LEFT)
    for place, name in enumerate(names):
        style = LINE_STYLES[place % len(LINE_STYLES)]
        parts.append(f'<path class="{style}" d="M{x:.1f} 14h18"/>')
        parts.append(f'<text class="ink" x="{x + 24:.1f}" y="18">{html.escape(name)}</text>')
        x += 24 + LETTER_PX * len(name) + 20
    return "".join(parts)


def _mark_legend(words: Sequence[str]) -> str:
    parts, x = [], float(LEFT)
    for place, word in enumerate(words):
        parts.append(f'<line class="mark mark-{place}" x1="{x:.1f}" x2="{x:.1f}" y1="5" y2="21"/>')
        parts.append(f'<text class="ink" x="{x + 8:.1f}" y="18">{html.escape(word)}</text>')
        x += 8 + LETTER_PX * len(word) + 24
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _path(x: Values, y: Values) -> str:
    return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in zip(x, y, strict=True))


def _svg(body: str, label: str) -> str:
    attributes = f'class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}"'
    return f"<svg {attributes}>{body}</svg>"
