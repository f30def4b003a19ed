"""The Diffusion Policy layout survives a round trip byte for byte, and bad input is refused in words."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr

from data.archive.verify import check_episode
from data.convert.diffusion_policy import (
    PUSHT,
    UNKNOWN_SEED,
    ConversionError,
    Facts,
    derive_layout,
    episodes_of,
    is_pusht,
    layout_for,
    open_archive,
    write_archive,
)
from robot_rl.core.episode import Outcome
from robot_rl.core.specs import ActionKind
from tests.data.foreign_datasets import EPISODE_ENDS, arrays_of, assert_byte_equal, pusht_arrays, write_source


@pytest.fixture
def pusht(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.zarr", pusht_arrays())


def test_reading_and_writing_again_gives_the_same_bytes(pusht: Path, tmp_path: Path):
    with open_archive(pusht) as archive:
        rows = write_archive(tmp_path / "copy.zarr", PUSHT, episodes_of(archive, PUSHT, Facts("pusht")))
    assert rows == EPISODE_ENDS[-1]
    assert_byte_equal(pusht, tmp_path / "copy.zarr")


def test_what_is_written_is_zarr_v2_compressed_and_chunked_as_that_project_does(pusht: Path, tmp_path: Path):
    with open_archive(pusht) as archive:
        write_archive(tmp_path / "copy.zarr", PUSHT, episodes_of(archive, PUSHT, Facts("pusht")))
    image = zarr.open_group(tmp_path / "copy.zarr", mode="r")["data/img"]
    assert image.metadata.zarr_format == 2
    assert image.chunks == (EPISODE_ENDS[0], 96, 96, 3)
    assert image.metadata.compressor.get_config() == {
        "id": "blosc",
        "cname": "zstd",
        "clevel": 5,
        "shuffle": 2,
        "blocksize": 0,
    }


def test_episodes_end_where_the_source_says_and_hold_its_rows(pusht: Path):
    source = arrays_of(pusht)
    with open_archive(pusht) as archive:
        episodes = list(episodes_of(archive, PUSHT, Facts("pusht")))
    for episode, (start, end) in zip(episodes, pairwise((0, *EPISODE_ENDS)), strict=True):
        assert len(episode) == end - start
        np.testing.assert_array_equal(episode.applied, source["data/action"][start:end])
        np.testing.assert_array_equal(episode.requested, source["data/action"][start:end])
        np.testing.assert_array_equal(episode.per_tick("state"), source["data/state"][start:end])
        np.testing.assert_array_equal(episode.per_tick("image"), source["data/img"][start:end])


def test_imported_episodes_pass_verification(pusht: Path):
    with open_archive(pusht) as archive:
        for number, episode in enumerate(episodes_of(archive, PUSHT, Facts("pusht"))):
            assert check_episode(f"{number:06d}", episode) == []


def test_stamps_are_rows_over_rate_and_the_header_says_that_there_was_no_clock(pusht: Path):
    with open_archive(pusht) as archive:
        episode = next(episodes_of(archive, PUSHT, Facts("pusht")))
    np.testing.assert_array_equal(episode.stamps_ns, 100_000_000 * np.arange(7))
    assert "row / control_hz" in episode.header.software_version
    assert (episode.header.operator, episode.header.seed, episode.header.started_at) == (
        "human",
        UNKNOWN_SEED,
        "unknown",
    )


def test_stamps_do_not_drift_at_a_rate_that_divides_badly(tmp_path: Path):
    source = write_source(tmp_path / "source.zarr", {"action": np.zeros((30_000, 1), np.float32)}, (30_000,))
    with open_archive(source) as archive:
        layout = derive_layout(archive, robot="arm", control_hz=30.0, kind=ActionKind.POSITION)
        episode = next(episodes_of(archive, layout, Facts("reach")))
    assert episode.stamps_ns[-30] == 999_000_000_000 // 1
    assert check_episode("0", episode) == []


@pytest.mark.parametrize(
    ("outcome", "terminated", "truncated"),
    [(Outcome.SUCCESS, True, False), (Outcome.FAILURE, True, False), (Outcome.ABORTED, False, True)],
)
def test_the_outcome_is_what_the_importer_says(pusht: Path, outcome: Outcome, terminated: bool, truncated: bool):
    with open_archive(pusht) as archive:
        result = next(episodes_of(archive, PUSHT, Facts("pusht", outcome=outcome))).result
    assert (result.outcome, result.terminated, result.truncated) == (outcome, terminated, truncated)


def test_push_t_is_recognised_by_its_arrays(pusht: Path, tmp_path: Path):
    with open_archive(pusht) as archive:
        assert is_pusht(archive)
    arrays = pusht_arrays()
    del arrays["keypoint"]
    with open_archive(write_source(tmp_path / "other.zarr", arrays)) as archive:
        assert not is_pusht(archive)


def test_an_imported_push_t_fits_the_simulated_robot():
    pytest.importorskip("gym_pusht", reason="the simulated Push-T is not installed")
    from hardware.sim import pusht

    assert PUSHT.spec == pusht.PushTRobot(image=True).spec


def test_another_dataset_gets_a_spec_from_its_shapes(tmp_path: Path):
    arrays = {
        "action": np.zeros((31, 7), np.float64),
        "pose": np.ones((31, 4), np.float64),
        "camera": np.full((31, 6, 8, 3), 9, np.uint8),
        "gripper": np.zeros(31, np.float32),
    }
    source = write_source(tmp_path / "source.zarr", arrays)
    with open_archive(source) as archive:
        layout = derive_layout(archive, robot="arm", control_hz=20.0, kind=ActionKind.RATE)
        episodes = list(episodes_of(archive, layout, Facts("stack")))
    assert layout.spec.images == ("camera",)
    assert layout.spec.observations["pose"].dtype == "float64"
    assert layout.spec.observations["gripper"].shape == ()
    assert layout.spec.action_kinds == (ActionKind.RATE,) * 7
    assert [finding for episode in episodes for finding in check_episode("0", episode)] == []
    write_archive(tmp_path / "copy.zarr", layout_for(layout.spec), episodes)
    assert_byte_equal(source, tmp_path / "copy.zarr")


def test_float_images_of_another_dataset_are_restored_when_asked_for(tmp_path: Path):
    arrays = {"action": np.zeros((31, 2), np.float32), "camera": np.full((31, 6, 8, 3), 200, np.float32)}
    source = write_source(tmp_path / "source.zarr", arrays)
    with open_archive(source) as archive:
        layout = derive_layout(archive, robot="arm", control_hz=20.0, kind=ActionKind.RATE)
        episodes = list(episodes_of(archive, layout, Facts("stack")))
    assert episodes[0].streams["camera"].values.dtype == np.uint8
    write_archive(tmp_path / "copy.zarr", layout_for(layout.spec, image_dtype="float32"), episodes)
    assert_byte_equal(source, tmp_path / "copy.zarr")


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan, -0.0])
def test_an_image_value_that_uint8_cannot_hold_is_refused(tmp_path: Path, value: float):
    arrays = pusht_arrays()
    arrays["img"][3, 0, 0, 0] = value
    with (
        open_archive(write_source(tmp_path / "source.zarr", arrays)) as archive,
        pytest.raises(ConversionError, match=r"data/img holds values in .* whole numbers 0-255"),
    ):
        list(episodes_of(archive, PUSHT, Facts("pusht")))


def test_some_streams_can_be_kept_and_an_unknown_one_lists_the_others(pusht: Path):
    with open_archive(pusht) as archive:
        kept = derive_layout(archive, robot="x", control_hz=10.0, kind=ActionKind.POSITION, streams=("state",))
        assert list(kept.spec.observations) == ["state"]
        with pytest.raises(ConversionError, match="no data/depth; it has img, keypoint, n_contacts, state"):
            derive_layout(archive, robot="x", control_hz=10.0, kind=ActionKind.POSITION, streams=("depth",))


def test_a_zip_of_a_dataset_is_read_as_the_directory_is(pusht: Path, tmp_path: Path):
    zipped = Path(shutil.make_archive(str(tmp_path / "source"), "zip", pusht))
    with open_archive(zipped) as archive:
        write_archive(tmp_path / "copy.zarr", PUSHT, episodes_of(archive, PUSHT, Facts("pusht")))
    assert_byte_equal(pusht, tmp_path / "copy.zarr")


def test_exporting_requested_actions_writes_those(pusht: Path, tmp_path: Path):
    with open_archive(pusht) as archive:
        episodes = list(episodes_of(archive, PUSHT, Facts("pusht")))
    for episode in episodes:
        episode.applied[:] = 0
    write_archive(tmp_path / "copy.zarr", PUSHT, episodes, action="requested")
    np.testing.assert_array_equal(arrays_of(tmp_path / "copy.zarr")["data/action"], arrays_of(pusht)["data/action"])


def test_an_export_that_fails_leaves_nothing_behind(pusht: Path, tmp_path: Path):
    target = tmp_path / "out" / "copy.zarr"

    def failing():
        with open_archive(pusht) as archive:
            yield next(episodes_of(archive, PUSHT, Facts("pusht")))
        raise ConversionError("the disk is full")

    with pytest.raises(ConversionError, match="the disk is full"):
        write_archive(target, PUSHT, failing())
    assert list(target.parent.iterdir()) == []


def test_an_export_never_overwrites(pusht: Path):
    with pytest.raises(ConversionError, match="exists; remove it or export to another directory"):
        write_archive(pusht, PUSHT, [])


def test_an_export_of_nothing_is_refused(tmp_path: Path):
    with pytest.raises(ConversionError, match="no episode to export"):
        write_archive(tmp_path / "copy.zarr", PUSHT, [])
    assert not (tmp_path / "copy.zarr").exists()


@pytest.mark.parametrize("episode_ends", [(7, 5, 31), (0, 31), (7, 7, 31), (12, 30), (12, 32)])
def test_episode_ends_that_contradict_the_arrays_are_refused(tmp_path: Path, episode_ends: tuple[int, ...]):
    source = write_source(tmp_path / "source.zarr", {"action": np.zeros((31, 2), np.float32)}, episode_ends)
    with pytest.raises(ConversionError, match=r"episode_ends is|the last episode ends at"):
        open_archive(source)


def test_what_is_not_in_the_layout_is_refused_in_words(tmp_path: Path):
    with pytest.raises(ConversionError, match="does not exist"):
        open_archive(tmp_path / "missing.zarr")
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(ConversionError, match=r"a file that is no .zip"):
        open_archive(tmp_path / "note.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConversionError, match="cannot be opened as zarr"):
        open_archive(tmp_path / "empty")
    zarr.open_group(tmp_path / "bare.zarr", mode="w", zarr_format=2)
    with pytest.raises(ConversionError, match="no group 'data'"):
        open_archive(tmp_path / "bare.zarr")
    with pytest.raises(ConversionError, match="no data/action; it has state"):
        open_archive(write_source(tmp_path / "noaction.zarr", {"state": np.zeros((31, 2), np.float32)}))


def test_a_damaged_chunk_names_the_rows_and_the_array(pusht: Path):
    chunk = pusht / "data" / "state" / "1.0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with (
        open_archive(pusht) as archive,
        pytest.raises(ConversionError, match="rows 0-6 of data/state cannot be decoded"),
    ):
        list(episodes_of(archive, PUSHT, Facts("pusht")))
