"""Each way of damaging an episode is found, named and explained; a good episode is left alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data.verify import Finding, check_episode
from robot_rl.types import (
    ActionKind,
    ArraySpec,
    Episode,
    EpisodeHeader,
    EpisodeResult,
    Outcome,
    RobotSpec,
    Source,
    Stream,
)

TICK_NS = 50_000_000
SPEC = RobotSpec(
    name="arm",
    observations={
        "state": ArraySpec((3,), "float32", "m", low=-1.0, high=1.0),
        "camera": ArraySpec((8, 6, 3), "uint8", "rgb"),
    },
    action=ArraySpec((2,), "float32", "m", low=-0.1, high=0.1),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=20.0,
)


def make_episode(ticks: int = 12, seed: int = 0) -> Episode:
    """State at every tick and a camera at half the rate, both a little older than the tick."""
    generator = np.random.default_rng(seed)
    stamps_ns = 10**9 + TICK_NS * np.arange(ticks, dtype=np.int64)
    frames = (ticks + 1) // 2
    action = generator.uniform(-0.1, 0.1, (ticks, 2)).astype(np.float32)
    reward = generator.uniform(0, 1, ticks).astype(np.float32)
    return Episode(
        spec=SPEC,
        header=EpisodeHeader("reach", "script", "", seed, "2026-01-01T00:00:00Z", "0"),
        result=EpisodeResult(
            Outcome.SUCCESS, True, False, "judge", ticks, float(reward.sum(dtype=np.float64)), float(reward.max())
        ),
        stamps_ns=stamps_ns,
        streams={
            "state": Stream(stamps_ns - 10**6, generator.uniform(-1, 1, (ticks, 3)).astype(np.float32)),
            "camera": Stream(stamps_ns[::2] - 10**7, generator.integers(0, 256, (frames, 8, 6, 3), dtype=np.uint8)),
        },
        frame_index={"state": np.arange(ticks), "camera": np.arange(ticks) // 2},
        requested=action,
        applied=action.copy(),
        source=np.full(ticks, Source.OPERATOR, dtype=np.uint8),
        reward=reward,
        filter_reasons=np.zeros(ticks, dtype=np.uint32),
    )


def with_value(episode: Episode, field: str, where: Any, value: Any) -> Episode:
    """A copy with some elements of a column overwritten."""
    column = getattr(episode, field).copy()
    column[where] = value
    return dataclasses.replace(episode, **{field: column})


def with_stream(episode: Episode, name: str, **changes: Any) -> Episode:
    stream = dataclasses.replace(episode.streams[name], **changes)
    return dataclasses.replace(episode, streams={**episode.streams, name: stream})


def with_index(episode: Episode, name: str, index: np.ndarray) -> Episode:
    return dataclasses.replace(episode, frame_index={**episode.frame_index, name: index})


def with_result(episode: Episode, **changes: Any) -> Episode:
    return dataclasses.replace(episode, result=dataclasses.replace(episode.result, **changes))


def overwritten(values: np.ndarray, where: Any, value: Any) -> np.ndarray:
    values = values.copy()
    values[where] = value
    return values


def swapped(values: np.ndarray, first: int, second: int) -> np.ndarray:
    return overwritten(values, [first, second], values[[second, first]])


Damage = Callable[[Episode], Episode]

DAMAGE: dict[str, tuple[Damage, str, str]] = {
    "two ticks at the same time": (
        lambda e: with_value(e, "stamps_ns", 5, e.stamps_ns[4]),
        "stamps_ns",
        "row 5",
    ),
    "a tick back in time": (lambda e: with_value(e, "stamps_ns", 5, 0), "stamps_ns", "at row 5"),
    "a requested action that is lost": (
        lambda e: dataclasses.replace(e, requested=e.requested[:-1]),
        "requested",
        "shape is (11, 2)",
    ),
    "a column that is one tick too long": (
        lambda e: dataclasses.replace(e, reward=np.append(e.reward, np.float32(0))),
        "reward",
        "shape is (13,)",
    ),
    "an action of another type": (
        lambda e: dataclasses.replace(e, applied=e.applied.astype(np.float64)),
        "applied",
        "dtype is float64",
    ),
    "an applied action that is NaN": (lambda e: with_value(e, "applied", (3, 1), np.nan), "applied", "nan at tick 3"),
    "an applied action beyond its bound": (
        lambda e: with_value(e, "applied", (3, 1), 0.2),
        "applied",
        "0.2 at tick 3 element [1] (1 of 12 ticks)",
    ),
    "a request that is NaN, unremarked": (
        lambda e: with_value(e, "requested", (7, 0), np.nan),
        "requested",
        "nan at tick 7",
    ),
    "an unknown source": (lambda e: with_value(e, "source", 2, 9), "source", "9 at tick 2"),
    "a reward that is NaN": (lambda e: with_value(e, "reward", 0, np.nan), "reward", "nan at tick 0"),
    "a lost tick count": (lambda e: with_result(e, ticks=11), "result.ticks", "11"),
    "terminated and truncated": (lambda e: with_result(e, truncated=True), "result", "both terminated and truncated"),
    "an episode without an end": (lambda e: with_result(e, terminated=False), "result", "neither terminated"),
    "a success that was cut off": (
        lambda e: with_result(e, terminated=False, truncated=True),
        "result",
        "a success that is truncated",
    ),
    "an abort that ended the task": (
        lambda e: with_result(e, outcome=Outcome.ABORTED),
        "result",
        "aborted but terminated",
    ),
    "a wrong sum of rewards": (lambda e: with_result(e, reward_sum=1e3), "result.reward_sum", "1000"),
    "a sum of rewards that is NaN": (lambda e: with_result(e, reward_sum=np.nan), "result.reward_sum", "nan"),
    "a wrong largest reward": (lambda e: with_result(e, reward_max=7.0), "result.reward_max", "7"),
    "frames out of order": (
        lambda e: with_stream(e, "camera", stamps_ns=swapped(e.streams["camera"].stamps_ns, 0, 1)),
        "streams.camera.stamps_ns",
        "at row 1",
    ),
    "a frame from the future": (
        lambda e: with_stream(e, "state", stamps_ns=e.streams["state"].stamps_ns + 2 * 10**6),
        "frame_index.state",
        "1000000 at tick 0 (12 of 12 ticks)",
    ),
    "a frame that is not there": (
        lambda e: with_index(e, "camera", overwritten(e.frame_index["camera"], 11, 6)),
        "frame_index.camera",
        "6 at tick 11",
    ),
    "a negative frame": (
        lambda e: with_index(e, "camera", overwritten(e.frame_index["camera"], 0, -1)),
        "frame_index.camera",
        "-1 at tick 0",
    ),
    "a tick that sees an older frame than the last": (
        lambda e: with_index(e, "camera", overwritten(e.frame_index["camera"], 9, 0)),
        "frame_index.camera",
        "0 at tick 9",
    ),
    "an index that is too short": (
        lambda e: with_index(e, "camera", e.frame_index["camera"][:-1]),
        "frame_index.camera",
        "shape is (11,)",
    ),
    "a stream that is missing": (
        lambda e: dataclasses.replace(e, streams={"state": e.streams["state"]}),
        "streams.camera",
        "missing",
    ),
    "a stream that nobody declared": (
        lambda e: dataclasses.replace(e, streams={**e.streams, "torque": e.streams["state"]}),
        "streams",
        "holds torque",
    ),
    "frames of another size": (
        lambda e: with_stream(e, "camera", values=e.streams["camera"].values[:, :4]),
        "streams.camera.values",
        "shape is (6, 4, 6, 3)",
    ),
    "one value too few": (
        lambda e: with_stream(e, "state", values=e.streams["state"].values[:-1]),
        "streams.state.values",
        "shape is (11, 3)",
    ),
    "a stream of another type": (
        lambda e: with_stream(e, "state", values=e.streams["state"].values.astype(np.float64)),
        "streams.state.values",
        "dtype is float64",
    ),
    "a state that is NaN": (
        lambda e: with_stream(e, "state", values=overwritten(e.streams["state"].values, (4, 2), np.nan)),
        "streams.state.values",
        "nan at frame 4 element [2]",
    ),
    "a state beyond its range": (
        lambda e: with_stream(e, "state", values=overwritten(e.streams["state"].values, (4, 2), 1.5)),
        "streams.state.values",
        "1.5 at frame 4",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(damage: str):
    change, field, what = DAMAGE[damage]
    findings = check_episode("000003", change(make_episode()))
    named = [finding for finding in findings if finding.field == field and what in finding.what]
    assert named, f"not found among {[str(finding) for finding in findings]}"
    assert named[0].episode == "000003"
    assert named[0].wanted
    assert not named[0].warning


@pytest.mark.parametrize("ticks", [1, 2, 50])
def test_a_good_episode_has_no_findings(ticks: int):
    assert check_episode("000000", make_episode(ticks)) == []


def test_an_empty_episode_is_a_finding_and_no_crash():
    empty = _without_ticks(make_episode())
    assert [finding.what for finding in check_episode("0", empty)][:1] == ["no ticks"]


def _without_ticks(episode: Episode) -> Episode:
    columns = ("stamps_ns", "requested", "applied", "source", "reward", "filter_reasons")
    return dataclasses.replace(
        episode,
        streams={name: Stream(stream.stamps_ns[:0], stream.values[:0]) for name, stream in episode.streams.items()},
        frame_index={name: index[:0] for name, index in episode.frame_index.items()},
        **{name: getattr(episode, name)[:0] for name in columns},
    )


def test_a_request_that_the_filter_refused_may_be_nan():
    episode = with_value(make_episode(), "requested", 7, np.nan)
    assert check_episode("0", with_value(episode, "filter_reasons", 7, 1)) == []


def test_a_bound_that_float32_rounds_up_is_still_the_bound():
    assert check_episode("0", with_value(make_episode(), "applied", (0, 0), np.float32(0.1))) == []


def test_a_long_pause_between_ticks_is_a_warning():
    episode = make_episode()
    late = with_value(episode, "stamps_ns", slice(6, None), episode.stamps_ns[6:] + 5 * TICK_NS)
    [finding] = check_episode("0", late)
    assert finding.warning
    assert "1 gap(s), the longest of 6.0 ticks after tick 5" in finding.what


def test_a_finding_reads_as_a_sentence():
    assert (
        str(Finding("000003", "applied", "nan at tick 3", "finite")) == "000003: applied: nan at tick 3; wanted finite"
    )
