"""`robot-rl data show`: a recording for the viewer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from data.archive.store import DatasetStore
from robot_rl.commands.data.main import main
from tests.data.sound_episodes import SPEC, make_episode


def test_show_writes_a_recording_with_the_frames_as_they_were_stored(dataset: str, tmp_path: Path, capsys):
    chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed")
    target = tmp_path / "episode.rrd"
    assert main(["show", dataset, "2", "--save", str(target)]) == 0
    assert f"rerun {target}" in capsys.readouterr().out
    parts = {
        part.entity_path: part.to_record_batch() for part in chunk.RrdReader(target).stream() if not part.is_static
    }
    rows = {path: batch.num_rows for path, batch in parts.items()}
    assert rows["/observation/camera"] == 6
    for path in ("observation/state", "action/requested", "action/applied", "reward", "source", "age_ms/camera"):
        assert rows[f"/{path}"] == 12, path
    shown = [
        bytes(np.asarray(blob[0], np.uint8)) for blob in parts["/observation/camera"]["EncodedImage:blob"].to_pylist()
    ]
    stored = DatasetStore.open(dataset).read_encoded("000002").streams["camera"]
    assert shown == [stored.frame(index) for index in range(6)]


def test_show_says_why_the_filter_acted(tmp_path: Path):
    chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed")
    from hardware.safety.filter import FilterReason

    episode = make_episode()
    episode.filter_reasons[4] = FilterReason.VELOCITY | FilterReason.JERK
    with DatasetStore.create(str(tmp_path / "fast"), SPEC, {"camera": "raw"}) as store:
        store.append(episode)
    assert main(["show", str(tmp_path / "fast"), "last", "--save", str(tmp_path / "fast.rrd")]) == 0
    [words] = [part for part in chunk.RrdReader(tmp_path / "fast.rrd").stream() if part.entity_path == "/filter"]
    batch = words.to_record_batch()
    assert batch["TextLog:text"].to_pylist() == [["velocity, jerk"]]
    assert batch["tick"].to_pylist() == [4]


def test_show_without_a_display_says_what_to_do(dataset: str, monkeypatch, capsys):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["show", dataset, "0"]) == 2
    assert "--save episode.rrd" in capsys.readouterr().err


def test_show_without_rerun_names_the_package(dataset: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["show", dataset, "0", "--save", str(tmp_path / "x.rrd")]) == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_show_never_overwrites_and_names_a_missing_directory(dataset: str, tmp_path: Path, capsys):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    (tmp_path / "x.rrd").write_text("mine")
    assert main(["show", dataset, "0", "--save", str(tmp_path / "x.rrd")]) == 2
    assert "exists; remove it" in capsys.readouterr().err
    assert main(["show", dataset, "0", "--save", str(tmp_path / "no" / "x.rrd")]) == 2
    assert f"there is no directory {tmp_path / 'no'}" in capsys.readouterr().err
    assert (tmp_path / "x.rrd").read_text() == "mine"


def test_show_takes_one_episode(dataset: str, capsys):
    assert main(["show", dataset, "1-2"]) == 2
    assert "more than one episode" in capsys.readouterr().err
