"""Each way of damaging an episode is found, named and explained; a good episode is left alone."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.archive.digest import digest_of
from data.archive.schema import EncodedEpisode, encode_episode
from data.archive.store import DatasetStore
from data.archive.verify import Finding, check_episode, verify_dataset
from robot_rl.core.episode import Episode, Outcome, Stream
from tests.data.sound_episodes import SPEC, TICK_NS, make_episode


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


def three_episodes(directory: Path, codec: str) -> Path:
    """Each in a transaction of its own, and long enough that their chunks are files."""
    with DatasetStore.create(str(directory), SPEC, {"camera": codec}) as store:
        for seed in range(3):
            store.append(make_episode(100, seed))
    return directory


def findings_in(dataset: Path) -> list[Finding]:
    with DatasetStore.open(str(dataset)) as store:
        return [finding for _, findings in verify_dataset(store) for finding in findings]


def flipped(content: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]


def truncated(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def emptied(content: bytes, generator: random.Random) -> bytes:
    return b""


def removed(content: bytes, generator: random.Random) -> None:
    return None


@pytest.mark.parametrize(
    ("damage", "codec"),
    [
        (flipped, "jpeg:90"),
        (flipped, "png"),
        (flipped, "raw"),
        (truncated, "jpeg:90"),
        (emptied, "png"),
        (removed, "raw"),
    ],
)
def test_a_damaged_chunk_on_disk_is_reported_with_its_episode(tmp_path: Path, damage: Any, codec: str):
    dataset = three_episodes(tmp_path / "reach", codec)
    assert findings_in(dataset) == []
    chunks = sorted((dataset / "icechunk" / "chunks").iterdir())
    assert len(chunks) >= 3
    generator = random.Random(0)
    found: set[str] = set()
    for chunk in chunks:
        content = chunk.read_bytes()
        chunk.unlink()
        damaged = damage(content, generator)
        if damaged is not None:
            chunk.write_bytes(damaged)
        findings = findings_in(dataset)
        chunk.write_bytes(content)
        assert len(findings) == 1, f"{chunk.name}: {findings}"
        assert "cannot be read" in findings[0].what
        found.add(findings[0].episode)
    assert found == {"000000", "000001", "000002"}
    assert findings_in(dataset) == []


def test_damage_to_one_stream_hides_nothing_in_the_others(tmp_path: Path):
    episode = make_episode(200)
    broken = with_stream(episode, "state", values=overwritten(episode.streams["state"].values, (4, 2), np.nan))
    with DatasetStore.create(str(tmp_path / "reach"), SPEC, {"camera": "raw"}) as store:
        store.append(broken)
    for chunk in (tmp_path / "reach" / "icechunk" / "chunks").iterdir():
        content = chunk.read_bytes()
        chunk.write_bytes(content[:-9])
        fields = [finding.field for finding in findings_in(tmp_path / "reach")]
        chunk.write_bytes(content)
        if "streams.camera" in fields:
            assert fields == ["streams.state.values", "streams.camera"]
            return
    raise AssertionError("no chunk holds the camera")


class RememberedStore:
    """A store whose episode may have changed since its digest was taken."""

    spec = SPEC

    def __init__(self, written: EncodedEpisode, now: EncodedEpisode) -> None:
        self.digest = digest_of(written)
        self._now = now

    def episode_ids(self) -> list[str]:
        return ["000000"]

    def info(self, episode_id: str) -> "RememberedStore":
        return self

    def read_encoded(self, episode_id: str, streams: list[str]) -> EncodedEpisode:
        now = self._now.episode
        episode = dataclasses.replace(
            now,
            spec=now.spec.select(streams),
            streams={name: now.streams[name] for name in streams if name in now.streams},
            frame_index={name: now.frame_index[name] for name in streams},
        )
        compressed = {name: stream for name, stream in self._now.compressed.items() if name in streams}
        return dataclasses.replace(self._now, episode=episode, compressed=compressed)


def encoded(seed: int = 0) -> EncodedEpisode:
    return encode_episode(make_episode(seed=seed), {"camera": "png"}, uuid="recording")


def changes(encoded: EncodedEpisode) -> Iterator[EncodedEpisode]:
    """The episode with one thing in it changed so that it still makes sense, each part in turn."""

    def with_columns(**changed: Any) -> EncodedEpisode:
        return dataclasses.replace(encoded, episode=dataclasses.replace(episode, **changed))

    def with_camera(**changed: Any) -> EncodedEpisode:
        return dataclasses.replace(encoded, compressed={"camera": dataclasses.replace(camera, **changed)})

    episode, camera = encoded.episode, encoded.compressed["camera"]
    yield dataclasses.replace(encoded, uuid="other")
    yield with_columns(header=dataclasses.replace(episode.header, operator="scripT"))
    yield with_columns(result=dataclasses.replace(episode.result, outcome=Outcome.FAILURE))
    yield with_columns(spec=dataclasses.replace(episode.spec, control_hz=21.0))
    for name in ("stamps_ns", "requested", "applied", "source", "reward", "filter_reasons"):
        column = getattr(episode, name)
        yield with_columns(**{name: overwritten(column, -1, column[-1] + 1)})
    yield with_camera(stamps_ns=camera.stamps_ns - 1)
    yield with_camera(codec="jpeg:90")
    yield with_camera(data=overwritten(camera.data, 50, camera.data[50] ^ 1))
    yield with_camera(offsets=overwritten(camera.offsets, 1, 7))
    yield with_zeros(encoded)
    yield with_columns(frame_index={**episode.frame_index, "camera": episode.frame_index["camera"] * 0})


def with_zeros(encoded: EncodedEpisode) -> EncodedEpisode:
    streams = encoded.episode.streams
    state = dataclasses.replace(streams["state"], values=streams["state"].values * 0)
    return dataclasses.replace(
        encoded, episode=dataclasses.replace(encoded.episode, streams={**streams, "state": state})
    )


def test_the_digest_is_the_same_for_the_same_episode_and_another_for_every_change():
    digests = [digest_of(episode) for episode in (encoded(), *changes(encoded()))]
    assert digest_of(encoded()) == digests[0]
    assert all(first != second for first, second in itertools.combinations(digests, 2))


def test_the_digest_survives_storing(tmp_path: Path):
    with DatasetStore.create(str(tmp_path / "reach"), SPEC, {"camera": "png"}) as store:
        store.append_encoded(encoded())
    with DatasetStore.open(str(tmp_path / "reach")) as store:
        assert digest_of(store.read_encoded("000000")) == digest_of(encoded())


def test_a_change_that_raises_no_error_is_still_found():
    zeros = with_zeros(encoded())
    assert list(verify_dataset(RememberedStore(encoded(), encoded()))) == [("000000", [])]
    [(_, findings)] = verify_dataset(RememberedStore(encoded(), zeros))
    assert [finding.what for finding in findings] == ["its content is not what was written"]
