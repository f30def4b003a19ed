"""What no body can have done, and what an arm did not do: motion in a stored episode against what its spec says of it.

Legend: `T` ticks in an episode, `N` frames of one stream, `A` action dimension.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data.archive.finding import Finding
from robot_rl.core.episode import Episode
from robot_rl.core.plausibility import Plausibility
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, FloatArray

LISTED = 5
"""Steps of one stream that are named; the others are counted."""
FAR_SPREADS = 1000.0
"""A value this many spreads from the median is a glitch: scaled by it, all others are the same number."""
SPREAD_PERCENTILES = (5.0, 95.0)
FOLLOWED_WITHIN_S = 0.5
"""An arm is at some command of the last half second, or it does not follow: ten times the lag of a usual driver."""
BEHIND_S = 0.1
"""By what the arm could do in this time it may be beside those commands, besides its margin: overshoot, droop."""
APART_S = 0.3
"""For so long it must be further away to be told: less is how an arm starts and stops."""
WAITED = 1 << 15
"""The command filter's bit for a command that waited for the arm (`hardware.safety.state.FilterReason.FOLLOWING`)."""


def check_speed(episode_id: str, episode: Episode, name: str) -> Iterator[Finding]:
    """Names the steps of a stream that no body can have made, where its spec says what one can do.

    Args:
        episode_id: For the findings.
        episode: Whose frames have the spec's shape.
        name: Of the stream.
    """
    stream, bound = episode.streams[name], Plausibility.for_spec(episode.spec.observations[name])
    if bound is None or len(stream.stamps_ns) < 2:
        return
    field = f"streams.{name}.values"
    wrong = np.flatnonzero(bound.beyond(stream.stamps_ns, stream.values))
    for frame in wrong[:LISTED].tolist():
        before = max(frame - 1, 0)
        words = bound.problem(
            stream.values[before], int(stream.stamps_ns[before]), stream.values[frame], int(stream.stamps_ns[frame])
        )
        yield Finding(episode_id, field, f"at {_place(episode, name, frame)} {words}", "what a body can do")
    if len(wrong) > LISTED:
        yield Finding(
            episode_id,
            field,
            f"{len(wrong) - LISTED} more such steps, the last at {_place(episode, name, int(wrong[-1]))}",
            "none",
        )


def check_spread(episode_id: str, episode: Episode, name: str) -> Iterator[Finding]:
    """Names a value so far from all others that it can only be a glitch, where the spec bounds no speed."""
    stream, spec = episode.streams[name], episode.spec.observations[name]
    state = np.issubdtype(stream.values.dtype, np.floating) and not spec.is_point_cloud
    if spec.max_speed is not None or not state or not len(stream.values):
        return
    values = stream.values.reshape(len(stream.values), -1).astype(np.float64)
    if not np.isfinite(values).all():
        return
    low, middle, high = np.percentile(values, [SPREAD_PERCENTILES[0], 50.0, SPREAD_PERCENTILES[1]], axis=0)
    spread = high - low
    far = (np.abs(values - middle) > FAR_SPREADS * spread) & (spread > 0.0)
    if far.any():
        frame, element = (int(each) for each in np.argwhere(far)[0])
        yield Finding(
            episode_id,
            f"streams.{name}.values",
            f"{values[frame, element]:g} in element {element} at {_place(episode, name, frame)}, "
            f"{np.count_nonzero(far)} such value(s)",
            f"values near {low[element]:g} to {high[element]:g}, where nine in ten are",
            warning=True,
        )


def _place(episode: Episode, name: str, frame: int) -> str:
    """The first tick that saw a frame."""
    [ticks] = np.nonzero(episode.frame_index[name] == frame)
    return f"tick {ticks[0]}" if len(ticks) else f"frame {frame}, which no tick saw,"


def check_waiting(episode_id: str, episode: Episode) -> Iterator[Finding]:
    """Says where the command waited for an arm that did not follow."""
    if episode.filter_reasons.shape != (len(episode),):
        return
    start, count = _longest((episode.filter_reasons & WAITED) != 0)
    waited_s = _duration_s(episode, start, count)
    if count and waited_s >= APART_S:
        yield Finding(
            episode_id,
            "applied",
            f"the command waited for the arm for {waited_s:.1f} s from tick {start}",
            "an arm that follows; look at the episode before learning from it",
            warning=True,
        )


def check_following(episode_id: str, episode: Episode, name: str) -> Iterator[Finding]:
    """Says where an arm was not where it had been told to be, by what a stream shows of the action's dimensions.

    A dimension that is a position is compared with the stream's element of the same name and unit. Wherever the arm
    lags, it is at some command of the last `FOLLOWED_WITHIN_S`; what counts is how far it is from all of them.
    """
    stream, action = episode.spec.observations[name], episode.spec.action
    bound = Plausibility.for_spec(stream)
    if bound is None or stream.is_pose or episode.applied.shape != (len(episode), *action.shape):
        return
    measured = episode.per_tick(name).reshape(len(episode), -1).astype(np.float64)
    window = max(1, round(FOLLOWED_WITHIN_S * episode.spec.control_hz))
    for dimension, kind in enumerate(episode.spec.action_kinds):
        element = _shown_by(episode, dimension, name) if kind is ActionKind.POSITION else None
        if element is None:
            continue
        away = _distance(measured[:, element], episode.applied[:, dimension].astype(np.float64), window)
        allowed = float(bound.max_speed[element] * BEHIND_S + bound.margin[element])
        start, count = _longest(away > allowed)
        apart_s = _duration_s(episode, start, count)
        if count and apart_s >= APART_S:
            worst = start + int(np.argmax(away[start : start + count]))
            yield Finding(
                episode_id,
                f"streams.{name}.values",
                f"'{action.names[dimension]}' is up to {away[worst]:.3g} {action.unit_of(dimension)} (tick {worst}) "
                f"from all that was applied in the {FOLLOWED_WITHIN_S:g} s before, and further than {allowed:.3g} "
                f"for {apart_s:.1f} s from tick {start}",
                "an arm that is where it is told to be; look at the episode before learning from it",
                warning=True,
            )


def _shown_by(episode: Episode, dimension: int, name: str) -> int | None:
    """The element of a stream that shows an action dimension: of the same name and unit."""
    stream, action = episode.spec.observations[name], episode.spec.action
    if not action.names or action.names[dimension] not in stream.names:
        return None
    element = stream.names.index(action.names[dimension])
    return element if stream.unit_of(element) == action.unit_of(dimension) else None


def _distance(measured: npt.NDArray[np.float64], applied: FloatArray, window: int) -> npt.NDArray[np.float64]:
    """How far each measured value is from the range of the commands of the ticks before it and its own. Shapes (T,)."""
    padded = np.concatenate([np.full(window, applied[0]), applied])
    recent = np.lib.stride_tricks.sliding_window_view(padded, window + 1)
    beyond: npt.NDArray[np.float64] = np.maximum(measured - recent.max(axis=1), recent.min(axis=1) - measured)
    return np.maximum(beyond, 0.0)


def _longest(where: AnyArray) -> tuple[int, int]:
    """First index and length of the longest run of True; (0, 0) if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(starts):
        return 0, 0
    best = int(np.argmax(lengths))
    return int(starts[best]), int(lengths[best])


def _duration_s(episode: Episode, start: int, count: int) -> float:
    if not count:
        return 0.0
    return float(episode.stamps_ns[start + count - 1] - episode.stamps_ns[start] + episode.spec.tick_ns) / NS_PER_S
