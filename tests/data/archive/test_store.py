import dataclasses
import glob
import os
import shutil
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from data.archive.lock import DatasetLocked, WriterLock
from data.archive.schema import DatasetError, encode_episode
from data.archive.store import DatasetMissing, DatasetStore
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec
from tests.data.recordings import LOSSLESS, SPEC, difference, episode


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "set")


def test_an_episode_reads_back_identical(url):
    stored = episode(seed=1, ticks=50)
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(stored)
    read = DatasetStore.open(url)
    assert read.episode_ids() == ["000000"]
    assert difference(read.read("000000"), stored) is None
    assert read.info("000000").result == stored.result


def test_a_jpeg_stream_keeps_its_stamps_and_nearly_its_colours(url):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    whole = episode(seed=1, ticks=8)
    spec = dataclasses.replace(SPEC, observations={"camera": ArraySpec(red.shape, "uint8", "rgb")})
    frames = len(whole.streams["camera"].stamps_ns)
    one = dataclasses.replace(
        whole,
        spec=spec,
        streams={"camera": Stream(whole.streams["camera"].stamps_ns, np.stack([red] * frames))},
        frame_index={"camera": whole.frame_index["camera"]},
    )
    with DatasetStore.create(url, spec) as store:
        assert store.codecs == {"camera": "jpeg:90"}
        store.append(one)
        read = store.read("000000")
    assert np.abs(read.streams["camera"].values.astype(int) - red).max() < 8
    assert (read.streams["camera"].stamps_ns == one.streams["camera"].stamps_ns).all()


def test_reading_some_streams_leaves_the_others_alone(url):
    stored = episode(seed=3, ticks=20)
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(stored)
        part = store.read("000000", ["wrist", "state"])
        assert list(part.streams) == list(part.spec.observations) == ["wrist", "state"]
        assert (part.per_tick("state") == stored.per_tick("state")).all()
        with pytest.raises(SpecMismatch, match="no stream 'lidar'"):
            store.read("000000", ["lidar"])


def test_compressed_frames_move_between_datasets_unchanged(url, tmp_path):
    with DatasetStore.create(url, SPEC) as store:
        store.append(episode(seed=1, ticks=30))
        encoded = store.read_encoded("000000")
        with DatasetStore.create(str(tmp_path / "copy"), SPEC) as copy:
            copy.append_encoded(encoded)
            again = copy.read_encoded("000000")
    for name in SPEC.images:
        frames = [encoded.streams[name].frame(i) for i in range(len(encoded.streams[name].stamps_ns))]
        assert [again.streams[name].frame(i) for i in range(len(frames))] == frames
    assert again.uuid == encoded.uuid


def test_any_snapshot_can_be_opened_again(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        snapshots = [store.append(episode(seed=seed, ticks=5)) for seed in range(3)]
        store.delete(["000001"])
        assert store.episode_ids() == ["000000", "000002"]
        store.append(episode(seed=9, ticks=5))
    assert DatasetStore.open(url).episode_ids() == ["000000", "000002", "000003"]
    for count, snapshot in enumerate(snapshots, start=1):
        old = DatasetStore.open(url, snapshot=snapshot)
        assert old.snapshot == snapshot
        assert len(old.episode_ids()) == count
        assert difference(old.read(f"{count - 1:06d}"), episode(seed=count - 1, ticks=5)) is None


def test_an_id_of_a_deleted_episode_never_comes_back(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(episode(seed=0, ticks=2))
        store.delete(["000000"])
        store.append(episode(seed=1, ticks=2))
        assert store.episode_ids() == ["000001"]


def test_several_episodes_are_one_transaction(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        before = len(store.history())
        store.append_encoded(*(encode_episode(episode(seed, 4), store.codecs, f"u{seed}") for seed in range(3)))
        assert len(store.history()) == before + 1
        assert [store.id_of(f"u{seed}") for seed in range(4)] == ["000000", "000001", "000002", None]


def test_deleted_frames_stay_in_history_until_garbage_is_collected_and_tags_outlive_it(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        kept = store.append(episode(seed=0, ticks=40))
        store.tag("kept")
        dropped = store.append(episode(seed=1, ticks=40))
        store.delete(["000000", "000001"])
        store.append(episode(seed=2, ticks=40))
        assert [each.id for each in store.history() if "kept" in each.tags] == [kept]
        assert len(DatasetStore.open(url, snapshot=dropped).episode_ids()) == 2
        nothing = store.collect_garbage(datetime.now(UTC) - timedelta(days=1))
        assert nothing.snapshots == nothing.chunks == 0
        report = store.collect_garbage(datetime.now(UTC) + timedelta(seconds=1))
        assert report.chunks > 0
        assert report.bytes > 0
    assert difference(DatasetStore.open(url).read("000002"), episode(seed=2, ticks=40)) is None
    assert difference(DatasetStore.open(url, snapshot="kept").read("000000"), episode(seed=0, ticks=40)) is None
    assert DatasetStore.open(url).tags() == {"kept": kept}
    with pytest.raises(DatasetError, match=f"no snapshot or tag '{dropped}'"):
        DatasetStore.open(url, snapshot=dropped)


def test_a_tag_is_given_once(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.tag("first")
        with pytest.raises(DatasetError, match="tag 'first' already"):
            store.tag("first")


def test_a_dataset_of_another_robot_is_refused_and_every_differing_field_named(url):
    DatasetStore.create(url, SPEC, LOSSLESS).close()
    observations = {**SPEC.observations, "state": ArraySpec((4,), "float32", "cm")}
    del observations["wrist"]
    other = dataclasses.replace(SPEC, name="other", observations=observations, control_hz=50.0)
    with pytest.raises(SpecMismatch) as refusal:
        DatasetStore.create(url, other)
    for field in ("name", "control_hz", "observations.state.shape", "observations.state.unit", "observations.wrist"):
        assert field in str(refusal.value)
    assert "dataset=" in str(refusal.value)
    with DatasetStore.open(url, writable=True) as store, pytest.raises(SpecMismatch):
        store.append(dataclasses.replace(episode(0, 3), spec=other))


def test_an_episode_that_contradicts_itself_is_refused_and_changes_nothing(url):
    good = episode(seed=0, ticks=6)
    broken = {
        "reward": dataclasses.replace(good, reward=good.reward[:-1]),
        "requested": dataclasses.replace(good, requested=good.requested.astype(np.float64)),
        "frame_index": dataclasses.replace(good, frame_index={**good.frame_index, "state": np.full(6, 99)}),
        "result.ticks": dataclasses.replace(good, result=dataclasses.replace(good.result, ticks=5)),
        "streams.state: missing": dataclasses.replace(good, streams={"force": good.streams["force"]}),
    }
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        before = store.snapshot
        for words, bad in broken.items():
            with pytest.raises(DatasetError, match=words):
                store.append(bad)
        assert DatasetStore.open(url).snapshot == before


def test_a_missing_dataset_names_its_path_and_the_command_that_makes_it(url):
    with pytest.raises(DatasetMissing, match=f"no dataset at {url}.*robot-rl collect dataset={url}"):
        DatasetStore.open(url)
    assert not os.path.exists(url)
    os.makedirs(url)
    with pytest.raises(DatasetMissing):
        DatasetStore.open(url)


def test_an_unknown_place_codec_stream_or_episode_is_named(url):
    with pytest.raises(DatasetError, match="no scheme 'ftp'"):
        DatasetStore.open("ftp://host/set")
    with pytest.raises(DatasetError, match="no bucket"):
        DatasetStore.open("s3://")
    with pytest.raises(DatasetError, match="'state', which is no camera stream; cameras: camera, wrist"):
        DatasetStore.create(url, SPEC, {"state": "png"})
    with pytest.raises(DatasetError, match="stream name 'a/b'"):
        DatasetStore.create(url, dataclasses.replace(SPEC, observations={"a/b": SPEC.observations["state"]}))
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(episode(0, 1))
        with pytest.raises(DatasetError, match=r"no episode '000007' in dataset .*: it has 1, 000000 to 000000"):
            store.read("000007")
        with pytest.raises(DatasetError, match="no episode 'x'"):
            store.delete(["x"])


def test_one_writer_at_a_time_and_the_second_is_told_who_the_first_is(url):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        with pytest.raises(DatasetLocked, match=f"process {os.getpid()} on .* since "):
            DatasetStore.open(url, writable=True)
        reader = DatasetStore.open(url)
        store.append(episode(0, 3))
        assert reader.episode_ids() == []
        with pytest.raises(DatasetError, match="open for reading"):
            reader.append(episode(0, 3))
    DatasetStore.open(url, writable=True).close()


def test_a_failed_open_gives_the_lock_back(url):
    DatasetStore.create(url, SPEC, LOSSLESS).close()
    with pytest.raises(SpecMismatch):
        DatasetStore.create(url, dataclasses.replace(SPEC, name="other"))
    WriterLock.acquire(DatasetStore.open(url)._location.lock_path).release()


def test_a_dataset_whose_making_was_interrupted_is_completed(url):
    import icechunk

    os.makedirs(f"{url}/icechunk")
    icechunk.Repository.create(icechunk.local_filesystem_storage(f"{url}/icechunk"))
    with pytest.raises(DatasetError):
        DatasetStore.open(url)
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        assert store.episode_ids() == []


def _damage(path, damage):
    if damage == "gone":
        os.unlink(path)
    elif damage == "a bit flipped":
        with open(path, "r+b") as file:
            data = bytearray(file.read())
            data[len(data) // 2] ^= 1
            file.seek(0)
            file.write(data)
    else:
        os.truncate(path, 0 if damage == "emptied" else os.path.getsize(path) // 2)


DAMAGES = ["halved", "emptied", "gone"]


@pytest.mark.parametrize("damage", [*DAMAGES, "a bit flipped"])
def test_any_damaged_chunk_is_an_error_in_one_line_and_never_wrong_data(url, damage):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(episode(seed=5, ticks=400))
    paths = glob.glob(f"{url}/icechunk/chunks/*")
    assert len(paths) > 10
    for path in paths:
        shutil.move(path, f"{path}.good")
        shutil.copy(f"{path}.good", path)
        _damage(path, damage)
        with pytest.raises(DatasetError) as error:
            DatasetStore.open(url).read("000000")
        assert url in str(error.value)
        assert "\n" not in str(error.value)
        shutil.move(f"{path}.good", path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["manifests", "snapshots", "refs"])
def test_damaged_book_keeping_is_an_error_in_one_line(url, folder, damage):
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(episode(seed=5, ticks=40))
    for path in glob.glob(f"{url}/icechunk/{folder}/**", recursive=True):
        if os.path.isfile(path):
            _damage(path, damage)
    with pytest.raises(DatasetError) as error:
        DatasetStore.open(url).read("000000")
    assert url in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_that_json_cannot_hold_come_back(url):
    whole = episode(seed=0, ticks=3)
    odd = EpisodeResult(Outcome.FAILURE, True, False, "", 3, float("nan"), float("-inf"), {"worst": float("inf")})
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        store.append(dataclasses.replace(whole, result=odd))
        read = store.info("000000").result
    assert np.isnan(read.reward_sum)
    assert read.reward_max == float("-inf")
    assert read.cadence == {"worst": float("inf")}


@pytest.mark.skipif("ROBOT_RL_TEST_S3" not in os.environ, reason="set ROBOT_RL_TEST_S3=s3://bucket/prefix and AWS_*")
def test_an_object_store_keeps_episodes_as_a_directory_does(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    url = f"{os.environ['ROBOT_RL_TEST_S3']}/{uuid.uuid4().hex}"
    with pytest.raises(DatasetMissing):
        DatasetStore.open(url)
    with DatasetStore.create(url, SPEC, LOSSLESS) as store:
        first = store.append(episode(0, 20))
        # Another machine has no part in the local lock.
        elsewhere = DatasetStore.open(url, writable=True, lock=store._lock)
        elsewhere.append(episode(1, 20))
        store.append(episode(2, 20))
    store = DatasetStore.open(url)
    assert [difference(store.read(each), episode(int(each), 20)) for each in store.episode_ids()] == [None] * 3
    assert DatasetStore.open(url, snapshot=first).episode_ids() == ["000000"]


DTYPES = st.sampled_from(["float32", "float64", "int64", "uint8", "uint16", "bool"])


@st.composite
def episodes(draw):
    ticks = draw(st.integers(0, 5))
    shapes = {
        f"s{i}": draw(stn.array_shapes(min_dims=0, max_dims=3, max_side=3)) for i in range(draw(st.integers(0, 3)))
    }
    observations = {name: ArraySpec(shape, draw(DTYPES), "1") for name, shape in shapes.items()}
    for i in range(draw(st.integers(0, 2))):
        observations[f"camera.{i}"] = ArraySpec((draw(st.integers(1, 4)), draw(st.integers(1, 4)), 3), "uint8", "rgb")
    size = draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    spec = RobotSpec("any", observations, ArraySpec((size,), dtype, "m"), (ActionKind.POSITION,) * size, 10.0)
    streams, index = {}, {}
    for name, each in observations.items():
        frames = draw(st.integers(min(ticks, 1), max(ticks, 1)))
        stamps = np.array(sorted(draw(st.sets(st.integers(0, 2**62), min_size=frames, max_size=frames))), np.int64)
        streams[name] = Stream(stamps, draw(stn.arrays(each.dtype, (frames, *each.shape))))
        index[name] = np.array(
            draw(st.lists(st.integers(0, max(frames - 1, 0)), min_size=ticks, max_size=ticks)), np.int64
        )
    columns = {
        "stamps_ns": draw(stn.arrays(np.int64, ticks)),
        "requested": draw(stn.arrays(dtype, (ticks, size))),
        "applied": draw(stn.arrays(dtype, (ticks, size))),
        "source": draw(stn.arrays(np.uint8, ticks)),
        "reward": draw(stn.arrays(np.float32, ticks)),
        "filter_reasons": draw(stn.arrays(np.uint32, ticks)),
    }
    outcome = draw(st.sampled_from(Outcome))
    result = EpisodeResult(outcome, draw(st.booleans()), draw(st.booleans()), draw(st.text(max_size=8)), ticks)
    header = EpisodeHeader(draw(st.text(max_size=8)), "o", "", draw(st.integers(0, 2**63)), "", "1")
    return Episode(spec=spec, header=header, result=result, streams=streams, frame_index=index, **columns)


@settings(max_examples=40, deadline=None)
@given(stored=episodes(), lossless=st.sampled_from(["png", "raw"]))
def test_whatever_an_episode_holds_comes_back_to_the_bit(tmp_path_factory, stored: Episode, lossless: str):
    url = str(tmp_path_factory.mktemp("any") / "set")
    with DatasetStore.create(url, stored.spec, dict.fromkeys(stored.spec.images, lossless)) as store:
        store.append(stored)
    assert difference(DatasetStore.open(url).read("000000"), stored) is None
