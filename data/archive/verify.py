"""Every way in which a stored episode can contradict itself, its spec or the calendar of its own stamps.

Nothing here repairs: a finding says which episode and field, what is there and what was wanted.

Legend: `T` ticks in an episode, `N` frames of one stream, `A` action dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.archive.digest import digest_of
from data.archive.finding import Finding
from data.archive.schema import EncodedEpisode, decode_episode
from data.archive.verify_motion import check_following, check_speed, check_spread, check_waiting
from robot_rl.core.episode import Episode, Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, ArraySpec

if TYPE_CHECKING:
    from data.archive.store import DatasetStore

GAP_TICKS = 3.0
"""A longer pause between two ticks is reported: the control loop stalled or ticks were lost."""
REWARD_TOLERANCE = 1e-3
"""Between the stored sum and the sum over ticks, relative; the one is float64, the other float32."""


def verify_dataset(store: DatasetStore, ids: Sequence[str] | None = None) -> Iterator[tuple[str, list[Finding]]]:
    """Reads everything of some episodes, one stream at a time, and yields each id with its findings.

    Args:
        store: Opened at any snapshot.
        ids: All episodes when None.
    """
    for episode_id in store.episode_ids() if ids is None else ids:
        yield episode_id, list(_verify_stored(store, episode_id))


def _verify_stored(store: DatasetStore, episode_id: str) -> Iterator[Finding]:
    parts: list[EncodedEpisode] = []
    for streams in ([], *([name] for name in store.spec.observations)):
        field = f"streams.{streams[0]}" if streams else "episode"
        try:
            part = _in_memory(store.read_encoded(episode_id, streams))
            episode = decode_episode(part)
        # Damage surfaces as whatever the codec, zarr or Icechunk raises, and all of it means the same here.
        except Exception as error:
            yield Finding(episode_id, field, f"cannot be read: {_words(error)}", "readable data")
            if streams:
                continue
            return
        parts.append(part)
        if streams:
            yield from check_stream(episode_id, episode, streams[0])
        else:
            yield from check_ticks(episode_id, episode)
    if len(parts) == 1 + len(store.spec.observations):
        yield from _check_digest(store, episode_id, parts)


def _in_memory(episode: EncodedEpisode) -> EncodedEpisode:
    """The same with compressed frames read once and for all."""
    compressed = {
        name: dataclasses.replace(stream, data=stream.data[0 : len(stream.data)])
        for name, stream in episode.compressed.items()
    }
    return dataclasses.replace(episode, compressed=compressed)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RobotRLError) else f"{type(error).__name__}: {error}"


def _check_digest(store: DatasetStore, episode_id: str, parts: Sequence[EncodedEpisode]) -> Iterator[Finding]:
    """Whether the ticks (the first part) and every stream (one part each) are what was written."""
    whole = dataclasses.replace(
        parts[0].episode,
        spec=store.spec,
        streams={name: stream for part in parts for name, stream in part.episode.streams.items()},
        frame_index={name: index for part in parts for name, index in part.episode.frame_index.items()},
    )
    compressed = {name: stream for part in parts for name, stream in part.compressed.items()}
    written = store.info(episode_id).digest
    if written and digest_of(EncodedEpisode(parts[0].uuid, whole, compressed)) != written:
        yield Finding(episode_id, "episode", "its content is not what was written", f"SHA-256 {written[:12]}...")


def check_episode(episode_id: str, episode: Episode) -> list[Finding]:
    """Every finding in an episode held in memory."""
    findings = list(check_ticks(episode_id, episode))
    for name in episode.spec.observations:
        findings += check_stream(episode_id, episode, name)
    extra = sorted(set(episode.streams) - set(episode.spec.observations))
    if extra:
        findings.append(Finding(episode_id, "streams", f"holds {', '.join(extra)}", "only streams of the spec"))
    return findings


def check_ticks(episode_id: str, episode: Episode) -> Iterator[Finding]:
    """Findings in what is recorded per tick and per episode, streams aside."""
    ticks = len(episode)
    if ticks == 0:
        yield Finding(episode_id, "stamps_ns", "no ticks", "at least one")
        return
    yield from _check_lengths(episode_id, episode)
    yield from _ascending(episode_id, "stamps_ns", episode.stamps_ns)
    yield from _check_gaps(episode_id, episode)
    yield from _check_actions(episode_id, episode)
    yield from check_waiting(episode_id, episode)
    known = [int(source) for source in Source]
    yield from _where(
        episode_id, "source", ~np.isin(episode.source, known), episode.source, f"one of {known}", unit="tick"
    )
    yield from _where(episode_id, "reward", ~np.isfinite(episode.reward), episode.reward, "finite", unit="tick")
    yield from _check_result(episode_id, episode)


def _check_lengths(episode_id: str, episode: Episode) -> Iterator[Finding]:
    ticks, actions = len(episode), episode.spec.action
    for name, wanted in (
        ("requested", (ticks, *actions.shape)),
        ("applied", (ticks, *actions.shape)),
        ("source", (ticks,)),
        ("reward", (ticks,)),
        ("filter_reasons", (ticks,)),
    ):
        column: AnyArray = getattr(episode, name)
        if column.shape != wanted:
            yield Finding(episode_id, name, f"shape is {column.shape}", f"{wanted}")
        if name in ("requested", "applied") and column.dtype != np.dtype(actions.dtype):
            yield Finding(episode_id, name, f"dtype is {column.dtype}", actions.dtype)


def _check_gaps(episode_id: str, episode: Episode) -> Iterator[Finding]:
    steps = np.diff(episode.stamps_ns) / episode.spec.tick_ns
    long = np.flatnonzero(steps > GAP_TICKS)
    if len(long):
        worst = long[np.argmax(steps[long])]
        yield Finding(
            episode_id,
            "stamps_ns",
            f"{len(long)} gap(s), the longest of {steps[worst]:.1f} ticks after tick {worst}",
            f"at most {GAP_TICKS:.0f} ticks of {episode.spec.tick_ns / 1e6:.1f} ms between stamps",
            warning=True,
        )


def _check_actions(episode_id: str, episode: Episode) -> Iterator[Finding]:
    applied, requested = episode.applied, episode.requested
    if applied.shape != (len(episode), *episode.spec.action.shape) or requested.shape != applied.shape:
        return
    broken = ~np.isfinite(applied)
    yield from _where(episode_id, "applied", broken, applied, "finite", unit="tick")
    yield from _check_bounds(episode_id, "applied", applied, episode.spec.action, broken, unit="tick")
    # A request that is not finite is what happened when a policy failed, but then the command filter said so.
    if episode.filter_reasons.shape == (len(episode),):
        silent = ~np.isfinite(requested) & (episode.filter_reasons == 0)[:, None]
        yield from _where(episode_id, "requested", silent, requested, "finite, or a filter reason", unit="tick")


def _check_bounds(
    episode_id: str, field: str, values: AnyArray, spec: ArraySpec, broken: npt.NDArray[np.bool_], unit: str
) -> Iterator[Finding]:
    if spec.low is None and spec.high is None:
        return
    # In the dtype of the values: 0.1 as float32 is above 0.1 as float64.
    low, high = (bound.astype(values.dtype) for bound in spec.bounds())
    outside = ((values < low) | (values > high)) & ~broken
    yield from _where(episode_id, field, outside, values, f"within {spec.low} to {spec.high}", unit=unit)


def _check_result(episode_id: str, episode: Episode) -> Iterator[Finding]:
    result, ticks = episode.result, len(episode)
    if result.ticks != ticks:
        yield Finding(episode_id, "result.ticks", str(result.ticks), f"{ticks}, the number of stamps")
    if result.terminated and result.truncated:
        yield Finding(episode_id, "result", "both terminated and truncated", "one of them")
    if not result.terminated and not result.truncated:
        yield Finding(episode_id, "result", "neither terminated nor truncated", "one of them")
    if result.outcome is Outcome.SUCCESS and not result.terminated:
        yield Finding(episode_id, "result", "a success that is truncated", "terminated: success ends the task")
    if result.outcome is Outcome.ABORTED and result.terminated:
        yield Finding(episode_id, "result", "aborted but terminated", "truncated: an abort comes from outside")
    if episode.reward.shape != (ticks,) or not np.isfinite(episode.reward).all():
        return
    total = float(episode.reward.sum(dtype=np.float64))
    scale = max(1.0, float(np.abs(episode.reward).sum(dtype=np.float64)))
    # Written this way round, NaN is a finding.
    if not abs(result.reward_sum - total) <= REWARD_TOLERANCE * scale:
        yield Finding(episode_id, "result.reward_sum", f"{result.reward_sum:g}", f"{total:g}, the sum over ticks")
    highest = float(episode.reward.max())
    if not abs(result.reward_max - highest) <= REWARD_TOLERANCE * max(1.0, abs(highest)):
        yield Finding(episode_id, "result.reward_max", f"{result.reward_max:g}", f"{highest:g}, the largest tick's")


def check_stream(episode_id: str, episode: Episode, name: str) -> Iterator[Finding]:
    """Findings in one stream's frames, their stamps and the frame that each tick saw."""
    field = f"streams.{name}"
    if name not in episode.streams or name not in episode.frame_index:
        yield Finding(episode_id, field, "missing", "every stream of the spec")
        return
    stream, spec = episode.streams[name], episode.spec.observations[name]
    frames = len(stream.stamps_ns)
    yield from _ascending(episode_id, f"{field}.stamps_ns", stream.stamps_ns)
    yield from _check_frame_index(episode_id, episode, name)
    if stream.values.shape != (frames, *spec.shape):
        yield Finding(episode_id, f"{field}.values", f"shape is {stream.values.shape}", f"{(frames, *spec.shape)}")
        return
    if stream.values.dtype != np.dtype(spec.dtype):
        yield Finding(episode_id, f"{field}.values", f"dtype is {stream.values.dtype}", spec.dtype)
    if np.issubdtype(stream.values.dtype, np.floating):
        broken = ~np.isfinite(stream.values)
        yield from _where(episode_id, f"{field}.values", broken, stream.values, "finite", unit="frame")
        yield from _check_bounds(episode_id, f"{field}.values", stream.values, spec, broken, unit="frame")
    if _are_frames(episode, name):
        yield from check_speed(episode_id, episode, name)
        yield from check_spread(episode_id, episode, name)
        yield from check_following(episode_id, episode, name)


def _are_frames(episode: Episode, name: str) -> bool:
    """Whether every tick saw a frame of a stream, so that what it saw can be looked at."""
    frames, index = len(episode.streams[name].stamps_ns), episode.frame_index[name]
    return index.shape == episode.stamps_ns.shape and len(index) > 0 and 0 <= index.min() <= index.max() < frames


def _check_frame_index(episode_id: str, episode: Episode, name: str) -> Iterator[Finding]:
    field, stream, index = f"frame_index.{name}", episode.streams[name], episode.frame_index[name]
    frames = len(stream.stamps_ns)
    if index.shape != episode.stamps_ns.shape:
        yield Finding(episode_id, field, f"shape is {index.shape}", f"{episode.stamps_ns.shape}")
        return
    outside = (index < 0) | (index >= frames)
    yield from _where(episode_id, field, outside, index, f"0 to {frames - 1}, the frames there are", unit="tick")
    if outside.any():
        return
    ages_ns = episode.age_ns(name)
    yield from _where(
        episode_id, field, ages_ns < 0, -ages_ns, "frames no newer than their tick (ns after it)", unit="tick"
    )
    back = np.diff(index) < 0
    yield from _where(episode_id, field, np.concatenate([[False], back]), index, "never an older frame", unit="tick")


def _ascending(episode_id: str, field: str, stamps_ns: npt.NDArray[np.int64]) -> Iterator[Finding]:
    wrong = np.concatenate([[False], np.diff(stamps_ns) <= 0]) if len(stamps_ns) else np.zeros(0, dtype=bool)
    yield from _where(episode_id, field, wrong, stamps_ns, "strictly ascending stamps", unit="row")


def _where(
    episode_id: str, field: str, wrong: npt.NDArray[np.bool_], values: AnyArray, wanted: str, *, unit: str
) -> Iterator[Finding]:
    """One finding for all the wrong places of an array, naming the first."""
    if not wrong.any():
        return
    rows = np.any(wrong.reshape(wrong.shape[0], -1), axis=1)
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{unit} {first[0]}" + (f" element {list(first[1:])}" if len(first) > 1 else "")
    yield Finding(
        episode_id,
        field,
        f"{values[first]!s} at {place} ({np.count_nonzero(rows)} of {wrong.shape[0]} {unit}s)",
        wanted,
    )
