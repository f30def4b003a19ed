import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.archive.store import DatasetStore
from data.training.windows import BatchOrder
from robot_rl.commands.train.main import main
from robot_rl.commands.train.plan import policy_settings
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.specs import ArraySpec
from robot_rl.learning.imitation import ImitationConfig, ImitationLearner
from robot_rl.run.checkpoint import load_policy, read_record
from robot_rl.run.metrics import read_metrics
from robot_rl.run.training_loop import BatchReader
from tests.robot_rl.commands.train.small_runs import OFTEN, ROOT, SHORT, SMALL, prepared, train
from tests.robot_rl.toy_dataset import SPEC

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_learns_and_leaves_a_policy_that_acts(dataset: str, tmp_path: Path, capsys):
    assert (
        train(
            dataset, tmp_path / "run", "imitation.steps=400", "imitation.learning_rate=3e-3", "log.checkpoint_every=200"
        )
        == 0
    )
    metrics = read_metrics(tmp_path / "run")
    assert metrics[-1]["held_out_action_error"] < 0.3
    assert metrics[-1]["held_out_loss"] < 0.5 * metrics[0]["loss"]
    states = torch.tensor([[[0.98, -0.2, 0.5], [1.0, 0.0, 0.5]]])
    sampled = load_policy(tmp_path / "run").sample({"state": states}, torch.zeros(1, 10, 4, 2))
    assert sampled[0, 0].tolist() == pytest.approx([0.6, 0.1], abs=0.1)
    assert f"next     robot-rl export run={tmp_path / 'run'}" in capsys.readouterr().out


def test_every_checkpoint_says_which_snapshot_it_learned_from(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run")
    with DatasetStore.open(dataset) as store:
        snapshot = store.snapshot
    checkpoints = [path for path in (tmp_path / "run" / "checkpoints").iterdir() if not path.is_symlink()]
    assert len(checkpoints) == 8
    for path in checkpoints:
        provenance = read_record(path)["provenance"]
        assert (provenance["dataset"], provenance["snapshot"], provenance["episodes"]) == (dataset, snapshot, 8)


def test_episodes_that_are_left_out_are_counted_on_the_screen(dataset: str, tmp_path: Path, capsys):
    train(dataset, tmp_path / "run", "imitation.steps=1")
    assert "8 of 10 episodes (left out: 1 failure, 1 aborted)" in capsys.readouterr().out
    train(dataset, tmp_path / "more", "imitation.steps=1", "data.outcomes=[success,failure]")
    assert "9 of 10 episodes (left out: 1 aborted)" in capsys.readouterr().out


def test_every_line_of_metrics_has_what_the_report_reads(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run", "log.held_out_every=12")
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    assert all(
        {"step", "loss", "learning_rate", "samples_per_second", "data_wait_share"} <= line.keys() for line in lines
    )
    assert [line["step"] for line in lines if "held_out_loss" in line] == [12, 24]
    assert all(0 <= line["data_wait_share"] <= 1 for line in lines)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("imitation.stepz=3", r"unknown setting 'imitation\.stepz'.*"),
        ("policy.horizonn=3", r"unknown setting .*horizonn.*did you mean horizon"),
        ("imitation.steps=many", r"steps"),
        ("policy.streams=[stat]", r"no stream 'stat' on robot 'toy'; it has state, camera"),
        ("policy.denoiser=tree", r"policy\.denoiser is 'tree', wanted one of mlp, unet"),
        ("data.outcomes=[won]", r"data\.outcomes has 'won', wanted any of success, failure, aborted"),
        ("data.outcomes=[]", r"nothing to learn from"),
        ("data.held_out_fraction=1.5", r"held-out fraction is 1\.5"),
        ("data.action_source=wanted", r"data\.action_source is 'wanted', wanted applied or requested"),
        ("imitation.mixed_precision=fp8", r"imitation\.mixed_precision is 'fp8', wanted one of no, bf16, fp16"),
        ("imitation.batch_size=0", r"imitation\.batch_size is 0, wanted more than 0"),
        ("device=tpu", r"device is 'tpu', wanted auto, cpu or cuda"),
        ("log.tracker=paper", r"tracker is 'paper', wanted one of tensorboard, wandb, none"),
        ("snapshot=NOSUCH", r"NOSUCH"),
        ("policy._target_=os.system", r"policy class 'os\.system' is not in the package 'policies': refused"),
    ],
)
def test_a_mistaken_setting_is_named_before_anything_is_written(dataset, tmp_path, override, message):
    with pytest.raises(RobotRLError, match=message):
        train(dataset, tmp_path / "run", override)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said_so(dataset: str, tmp_path: Path):
    with pytest.raises(RobotRLError, match=r"device=cuda, but torch sees no GPU"):
        train(dataset, tmp_path / "run", "device=cuda")


def test_wandb_that_is_not_installed_is_said_so(dataset: str, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RobotRLError, match="pip install wandb"):
        train(dataset, tmp_path / "run", "log.tracker=wandb")


def test_tensorboard_files_are_written(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run", "log.tracker=tensorboard")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_a_policy_with_a_camera_trains_on_shrunken_frames_and_runs_on_the_cameras_own(dataset: str, tmp_path: Path):
    camera = ["policy.camera.image_size=[16,20]", "policy.camera.crop=[12,16]", "policy.streams=[cameras,state]"]
    arguments = [*SMALL[1:], *SHORT, *OFTEN, *camera, "imitation.steps=3", "policy=diffusion_mlp_image"]
    assert main([f"dataset={dataset}", f"run={tmp_path / 'run'}", *arguments, f"data.cache={tmp_path / 'cache'}"]) == 0
    frames = next((tmp_path / "cache").glob("*/stream.camera.npy"))
    assert np.load(frames, mmap_mode="r").shape[1:] == (16, 20, 3)
    policy = load_policy(tmp_path / "run")
    assert policy.config.streams == ("camera", "state")
    observations = {"camera": torch.zeros(1, 2, 150, 180, 3, dtype=torch.uint8), "state": torch.zeros(1, 2, 3)}
    assert policy.sample(observations, torch.zeros(1, *policy.noise_shape)).shape == (1, 4, 2)


def test_groups_of_streams_stand_for_every_stream_of_their_kind():
    settings = {"_target_": "policies.diffusion.DiffusionPolicy"}
    assert policy_settings(settings | {"streams": ["low_dimensional"]}, SPEC)[1].streams == ("state",)
    assert policy_settings(settings | {"streams": ["cameras", "state"]}, SPEC)[1].streams == ("camera", "state")
    with pytest.raises(SpecMismatch, match="no stream 'image'"):
        policy_settings(settings | {"streams": ["image"]}, SPEC)


def test_a_point_cloud_is_no_low_dimensional_stream():
    settings = {"_target_": "policies.diffusion.DiffusionPolicy"}
    clouds = {"near": ArraySpec((16, 3), "float32", "m xyz"), "far": ArraySpec((8, 6), "float32", "m xyz, rgb")}
    spec = dataclasses.replace(SPEC, observations={**SPEC.observations, **clouds})
    for group, expected in (("low_dimensional", ("state",)), ("point_clouds", ("near", "far"))):
        assert policy_settings(settings | {"streams": [group]}, spec)[1].streams == expected


def test_processes_share_a_batch_without_overlap(dataset: str, tmp_path: Path):
    _, run = prepared(dataset, tmp_path / "run", ImitationLearner)

    def actions(process: int, processes: int) -> list[list[torch.Tensor]]:
        order = BatchOrder(len(run.dataset), 8, seed=3)
        reader = BatchReader(
            run.dataset, order, 5, 9, torch.device("cpu"), process=process, processes=processes, threads=3
        )
        with reader:
            return [[*reader.take()["action"]] for _ in range(5, 9)]

    whole, first, second = actions(0, 1), actions(0, 2), actions(1, 2)
    for together, one, other in zip(whole, first, second, strict=True):
        shared = [each for pair in zip(one, other, strict=True) for each in pair]
        assert all(torch.equal(left, right) for left, right in zip(together, shared, strict=True))


def test_the_learning_rate_rises_then_falls_to_nothing():
    config = ImitationConfig(steps=100, learning_rate=1.0, warmup_steps=10)
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_the_average_begins_as_the_policy_itself_and_slows_to_its_limit():
    config = ImitationConfig(ema_power=0.75, ema_max=0.999)
    assert config.ema_decay_at(0) == 0.0
    assert config.ema_decay_at(1) == pytest.approx(1 - 2**-0.75)
    assert config.ema_decay_at(10**6) == 0.999


def test_bfloat16_trains_and_its_weights_stay_float32(dataset: str, tmp_path: Path):
    assert train(dataset, tmp_path / "run", "imitation.mixed_precision=bf16") == 0
    assert {value.dtype for value in load_policy(tmp_path / "run").parameters()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_train_one_policy(dataset: str, tmp_path: Path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [f"dataset={dataset}", f"run={tmp_path / 'run'}", *SMALL, *SHORT, *OFTEN]
    done = subprocess.run(
        [*launch, "-m", "robot_rl.cli", "train", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stdout
    train(dataset, tmp_path / "alone", "imitation.steps=24")
    apart = [line["loss"] for line in read_metrics(tmp_path / "run")]
    alone = [line["loss"] for line in read_metrics(tmp_path / "alone")]
    assert np.mean(apart) == pytest.approx(np.mean(alone), rel=0.2)
