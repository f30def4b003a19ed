"""`robot-rl data import` and `export`: foreign layouts there and back."""

import os
from pathlib import Path

import numpy as np
import pytest

from data.archive.store import DatasetStore
from robot_rl.commands.data.main import main
from robot_rl.core.episode import Outcome
from tests.data.foreign_datasets import EPISODE_ENDS, assert_byte_equal, pusht_arrays, write_source
from tests.robot_rl.commands.data.labelled_episodes import EPISODES, ids_of


@pytest.fixture
def pusht(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.zarr", pusht_arrays())


def test_import_then_export_gives_every_byte_back(pusht: Path, tmp_path: Path, capsys):
    dataset, copy = str(tmp_path / "pusht"), tmp_path / "copy.zarr"
    assert main(["import", "diffusion-policy", str(pusht), dataset]) == 0
    assert "outcome is success, stamps are row / 10 Hz" in capsys.readouterr().out
    assert main(["verify", dataset]) == 0
    assert main(["export", "diffusion-policy", dataset, str(copy)]) == 0
    assert_byte_equal(pusht, copy)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_real_human_demonstrations_give_every_byte_back(tmp_path: Path):
    source = os.environ.get("ROBOT_RL_PUSHT_ZARR")
    if not source:
        pytest.skip("ROBOT_RL_PUSHT_ZARR does not name the published Push-T demonstrations")
    dataset, copy = str(tmp_path / "pusht"), tmp_path / "copy.zarr"
    assert main(["import", "diffusion-policy", source, dataset]) == 0
    assert main(["verify", dataset]) == 0
    assert main(["export", "diffusion-policy", dataset, str(copy)]) == 0
    assert_byte_equal(Path(source), copy)


def test_an_import_large_enough_for_several_transactions_is_whole(pusht: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("robot_rl.commands.data.imports.TRANSACTION_BYTES", 1)
    assert main(["import", "diffusion-policy", str(pusht), str(tmp_path / "pusht")]) == 0
    with DatasetStore.open(str(tmp_path / "pusht")) as store:
        ticks = [store.info(each).result.ticks for each in store.episode_ids()]
    assert np.cumsum(ticks).tolist() == list(EPISODE_ENDS)


def test_a_failed_import_adds_nothing_and_can_be_repeated(pusht: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("robot_rl.commands.data.imports.TRANSACTION_BYTES", 1)
    arrays = pusht_arrays()
    arrays["img"][20, 0, 0, 0] = 0.5
    broken = write_source(tmp_path / "broken.zarr", arrays)
    assert main(["import", "diffusion-policy", str(broken), str(tmp_path / "pusht")]) == 2
    assert "data/img holds values" in capsys.readouterr().err
    assert ids_of(str(tmp_path / "pusht")) == []
    assert main(["import", "diffusion-policy", str(pusht), str(tmp_path / "pusht")]) == 0
    assert len(ids_of(str(tmp_path / "pusht"))) == len(EPISODE_ENDS)


def test_an_import_twice_needs_to_be_meant(pusht: Path, tmp_path: Path, capsys):
    command = ["import", "diffusion-policy", str(pusht), str(tmp_path / "pusht")]
    assert main(command) == 0
    assert main(command) == 2
    assert "holds 4 episodes already: add --append" in capsys.readouterr().err
    assert main([*command, "--append"]) == 0
    assert len(ids_of(str(tmp_path / "pusht"))) == 8


def test_an_import_into_another_robots_dataset_is_refused(pusht: Path, dataset: str, capsys):
    assert main(["import", "diffusion-policy", str(pusht), dataset, "--append"]) == 2
    assert "holds another robot than 'pusht'" in capsys.readouterr().err
    assert len(ids_of(dataset)) == EPISODES


def test_an_unknown_layout_asks_for_its_rate_and_then_imports(tmp_path: Path, capsys):
    arrays = {"action": np.zeros((31, 3), np.float32), "pose": np.ones((31, 4), np.float64)}
    source = write_source(tmp_path / "stack.zarr", arrays)
    dataset, copy = str(tmp_path / "stack"), tmp_path / "copy.zarr"
    command = ["import", "diffusion-policy", str(source), dataset]
    assert main(command) == 2
    assert "add --control-hz" in capsys.readouterr().err
    assert main([*command, "--control-hz", "20", "--action-kind", "rate", "--outcome", "failure"]) == 0
    with DatasetStore.open(dataset) as store:
        assert (store.spec.name, store.spec.control_hz) == ("stack", 20.0)
        assert store.info("000000").result.outcome is Outcome.FAILURE
    assert main(["export", "diffusion-policy", dataset, str(copy)]) == 0
    assert_byte_equal(source, copy)


def test_some_streams_and_episodes_can_be_exported(dataset: str, tmp_path: Path, capsys):
    target = tmp_path / "part.zarr"
    command = ["export", "diffusion-policy", dataset, str(target), "--streams", "state", "--outcome", "success"]
    assert main([*command, "--episodes", "0", "2-3"]) == 0
    assert "wrote 2 episodes, 24 rows" in capsys.readouterr().out
    assert {path.name for path in (target / "data").iterdir() if path.is_dir()} == {"state", "action"}
    assert main([*command[:3], str(tmp_path / "other.zarr"), "--streams", "depth"]) == 2
    assert "it has state, camera" in capsys.readouterr().err
    assert main(command) == 2
    assert "exists; remove it" in capsys.readouterr().err
