import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

import robot_rl.run.checkpoint as checkpoint_module
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.run.checkpoint import (
    CheckpointError,
    load_policy,
    load_training_state,
    newest_checkpoint,
    read_record,
    repair_last,
    save_checkpoint,
)
from tests.robot_rl.toy_dataset import SPEC

CONFIG = DiffusionPolicyConfig(streams=("state",), mlp=MlpConfig(width=16, blocks=1))


def policy(seed: int) -> DiffusionPolicy:
    torch.manual_seed(seed)
    made = DiffusionPolicy(SPEC, CONFIG)
    made.set_statistics({"state": {"min": [-1] * 3, "max": [2] * 3}, "action": {"min": [-1, -2], "max": [1, 2]}})
    return made


def save(run: Path, step: int, acting: DiffusionPolicy | None = None) -> Path:
    record = {
        "class": "policies.diffusion.DiffusionPolicy",
        "config": CONFIG.to_json(),
        "spec": SPEC.select(("state",)).to_json(),
        "provenance": {"dataset": "datasets/toy", "snapshot": "S1"},
    }
    return save_checkpoint(run, step, acting or policy(step), {"weights": torch.arange(step)}, record)


def test_a_policy_comes_back_as_it_was_saved_statistics_included(tmp_path: Path):
    saved = policy(3)
    save(tmp_path, 10, saved)
    loaded = load_policy(tmp_path)
    observations = {"state": torch.rand(2, 2, 3)}
    noise = torch.randn(2, *saved.noise_shape)
    assert loaded.fingerprint() == saved.fingerprint()
    assert not loaded.training
    assert torch.equal(loaded.sample(observations, noise), saved.eval().sample(observations, noise))


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/last", "checkpoints/00000020"])
def test_a_run_its_checkpoints_folder_and_a_checkpoint_all_name_a_policy(tmp_path: Path, place: str):
    save(tmp_path, 10)
    save(tmp_path, 20)
    assert load_policy(tmp_path / place).fingerprint() == policy(20).fingerprint()


def test_an_older_checkpoint_still_acts_but_only_the_newest_can_be_trained_on(tmp_path: Path):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    assert load_policy(older).fingerprint() == policy(10).fingerprint()
    assert load_training_state(newest)["weights"].tolist() == list(range(20))
    with pytest.raises(CheckpointError, match=r"training_state\.pt"):
        load_training_state(older)


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path: Path):
    save(tmp_path, 10)
    record = read_record(tmp_path)
    assert record["provenance"] == {"dataset": "datasets/toy", "snapshot": "S1"}
    assert record["step"] == 10


def test_a_write_that_fails_leaves_the_checkpoint_before_and_nothing_else(tmp_path: Path, monkeypatch):
    save(tmp_path, 10)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot write .*00000020.*No space left.*one before is untouched"):
        save(tmp_path, 20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000010", "last"]
    assert load_policy(tmp_path).fingerprint() == policy(10).fingerprint()
    assert load_training_state(tmp_path / "checkpoints" / "00000010")["weights"].numel() == 10


def test_a_checkpoint_whose_link_was_never_moved_is_still_the_newest(tmp_path: Path):
    save(tmp_path, 10)
    save(tmp_path, 20)
    link = tmp_path / "checkpoints" / "last"
    link.unlink()
    link.symlink_to("00000010")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "00000020"


def test_last_is_repaired_when_its_writer_was_killed_before_it_could_point_there(tmp_path: Path):
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    link = tmp_path / "checkpoints" / "last"
    link.unlink()
    link.symlink_to("00000010")
    repair_last(tmp_path)
    assert link.resolve() == newest.resolve()


def test_a_moved_run_still_acts(tmp_path: Path):
    save(tmp_path / "old", 10)
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert load_policy(tmp_path / "new" / "checkpoints" / "last").fingerprint() == policy(10).fingerprint()


@pytest.mark.parametrize("place", ["nowhere", "empty", "empty/checkpoints"])
def test_no_checkpoint_names_the_path_and_the_command_that_makes_one(tmp_path: Path, place: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"no checkpoint in .*{place}: make one with `robot-rl train"):
        load_policy(tmp_path / place)


@pytest.mark.parametrize(
    "name", ["os.system", "robot_rl.cli.main", "policies.diffusion.Absent", "policies.absent.X", "X"]
)
def test_a_checkpoint_cannot_choose_what_code_runs(tmp_path: Path, name: str):
    path = save(tmp_path, 10) / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class": name}))
    with pytest.raises(CheckpointError, match="policy class"):
        load_policy(tmp_path)


@pytest.fixture
def own_policy(tmp_path: Path, monkeypatch) -> Path:
    """A run whose checkpoint names classes of a package of the user's own; gives back its `policy.json`."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "policy.py").write_text(
        "from torch import nn\n"
        "from policies.diffusion import DiffusionPolicy\n"
        "class Mine(DiffusionPolicy): pass\n"
        "class Untold(nn.Module):\n"
        "    def __init__(self, spec, config): super().__init__()\n"
        "plain = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield save(tmp_path / "run", 10) / "policy.json"
    for name in ("my_lab", "my_lab.policy"):
        sys.modules.pop(name, None)


def of_class(path: Path, name: str) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class": name}))
    return path.parent


def test_a_policy_of_ones_own_package_loads_only_if_the_user_allowed_the_package(own_policy: Path, monkeypatch):
    checkpoint = of_class(own_policy, "my_lab.policy.Mine")
    with pytest.raises(CheckpointError, match=r"refused.*ROBOT_RL_POLICY_PACKAGES=my_lab"):
        load_policy(checkpoint)
    monkeypatch.setenv("ROBOT_RL_POLICY_PACKAGES", "their_lab")
    with pytest.raises(CheckpointError, match="ROBOT_RL_POLICY_PACKAGES=their_lab,my_lab"):
        load_policy(checkpoint)
    assert "my_lab.policy" not in sys.modules
    monkeypatch.setenv("ROBOT_RL_POLICY_PACKAGES", "their_lab, my_lab")
    assert type(load_policy(checkpoint)).__qualname__ == "Mine"


def test_a_policy_class_of_the_wrong_shape_is_told_what_is_wanted(own_policy: Path, monkeypatch):
    monkeypatch.setenv("ROBOT_RL_POLICY_PACKAGES", "my_lab")
    with pytest.raises(CheckpointError, match=r"my_lab\.policy\.plain' is no torch\.nn\.Module"):
        load_policy(of_class(own_policy, "my_lab.policy.plain"))
    with pytest.raises(CheckpointError, match="Untold does not say what its config is"):
        load_policy(of_class(own_policy, "my_lab.policy.Untold"))


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 100), Path.unlink], ids=["cut short", "missing"])
def test_damaged_weights_are_named(tmp_path: Path, damage):
    damage(save(tmp_path, 10) / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot read .*weights\.safetensors"):
        load_policy(tmp_path)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path):
    path = save(tmp_path, 10) / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(CheckpointError, match="version 99, this software reads"):
        load_policy(tmp_path)


def test_weights_are_as_readable_as_the_rest_of_a_checkpoint(tmp_path: Path):
    modes = {path.name: path.stat().st_mode for path in save(tmp_path, 10).iterdir()}
    assert modes["weights.safetensors"] == modes["policy.json"]
