import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from rich.console import Console

from data.archive.store import DatasetStore
from data.training.window_cache import WindowCache
from data.training.windows import BatchOrder, WindowDataset
from policies.diffusion import DiffusionPolicy
from robot_rl.commands.train.main import cache_root, main
from robot_rl.commands.train.plan import TrainSettings, make_plan, policy_settings
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.specs import ArraySpec
from robot_rl.learning.descent import Diverged
from robot_rl.learning.imitation import ImitationConfig, ImitationLearner
from robot_rl.run.checkpoint import load_policy, load_training_state, read_record
from robot_rl.run.metrics import read_metrics
from robot_rl.run.training_loop import BatchReader, LogSettings, TrainingRun, resume, train_imitation
from tests.robot_rl.toy_dataset import SPEC, toy_episode, write_toy_dataset

ROOT = Path(__file__).parents[4]
SMALL = [
    "policy.streams=[state]",
    "policy.observation_count=2",
    "policy.horizon=4",
    "policy.mlp.width=16",
    "policy.mlp.blocks=1",
]
SHORT = ["imitation.steps=24", "imitation.batch_size=32", "imitation.warmup_steps=5", "log.tracker=none", "log.every=4"]
OFTEN = ["log.checkpoint_every=3", "device=cpu"]


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are then made in one order, as in the other processes that these tests start."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    outcomes = [Outcome.SUCCESS] * 8 + [Outcome.FAILURE, Outcome.ABORTED]
    return write_toy_dataset(tmp_path_factory.mktemp("datasets") / "toy", outcomes)


def train(dataset: str, run: Path, *more: str) -> int:
    return main([f"dataset={dataset}", f"run={run}", *SMALL, *SHORT, *OFTEN, *more])


def final_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()


def assert_same_tensors(one, other) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_tensors(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_same_tensors(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


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


def test_the_same_command_again_does_nothing_when_the_run_is_finished(dataset: str, tmp_path: Path, capsys):
    train(dataset, tmp_path / "run")
    weights = final_weights(tmp_path / "run")
    assert train(dataset, tmp_path / "run") == 0
    assert "has its 24 steps already" in capsys.readouterr().out
    assert final_weights(tmp_path / "run") == weights


def test_a_run_killed_between_its_last_checkpoint_and_the_link_to_it_is_made_whole(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run")
    link = tmp_path / "run" / "checkpoints" / "last"
    link.unlink()
    link.symlink_to("00000021")
    train(dataset, tmp_path / "run")
    assert link.readlink() == Path("00000024")


KILLED_AGAIN_AND_AGAIN = textwrap.dedent(
    """
    import json, os, random, signal, sys, time
    import torch
    from robot_rl.run.checkpoint import load_policy, newest_checkpoint
    from robot_rl.commands.train.main import main
    from pathlib import Path

    torch.set_num_threads(1)
    run, commands = Path(sys.argv[1]), sys.argv[2:]
    moments = random.Random(0)

    def last_step(run):
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        whole = [line for line in lines if line.endswith("}")]
        return json.loads(whole[-1])["step"] if whole else 0

    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            os._exit(main(commands))
        # By progress and not by the clock, so that a fast and a slow machine are killed alike.
        newest = newest_checkpoint(run)
        step = (0 if newest is None else int(newest.name)) + moments.randrange(1, 40)
        ended = 0
        while not ended and last_step(run) < step:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.002)
        time.sleep(moments.random() * 0.01)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0, status
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        if newest_checkpoint(run) is not None:
            load_policy(run)
        if kills == 12:
            main(commands)
            break
    print("kills", kills)
    """
)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_equals_an_uninterrupted_one_bit_for_bit(dataset: str, tmp_path: Path):
    longer = ["imitation.steps=160", "log.held_out_every=80", "log.checkpoint_every=9"]
    train(dataset, tmp_path / "straight", *longer)
    run = tmp_path / "killed"
    command = [f"dataset={dataset}", f"run={run}", *SMALL, *SHORT, *OFTEN, *longer]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(run), *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "kills 0" not in done.stdout
    assert final_weights(run) == final_weights(tmp_path / "straight")
    last = "checkpoints/last"
    assert_same_tensors(load_training_state(run / last), load_training_state(tmp_path / "straight" / last))
    steps = [line["step"] for line in read_metrics(run)]
    assert steps == [line["step"] for line in read_metrics(tmp_path / "straight")]


class Interrupted(ImitationLearner):
    """Is sent a signal in the middle of a step."""

    at, kind = 7, signal.SIGTERM

    def update(self, batch, step):
        if step == self.at:
            os.kill(os.getpid(), self.kind)
        return super().update(batch, step)


class Diverging(ImitationLearner):
    def update(self, batch, step):
        return super().update(batch, step) * (float("nan") if step == 9 else 1.0)


def prepared(dataset: str, directory: Path, kind: type[ImitationLearner]) -> tuple[ImitationLearner, TrainingRun]:
    settings = TrainSettings(dataset=dataset, run=str(directory))
    settings.policy = {"_target_": "policies.diffusion.DiffusionPolicy", "streams": ["state"], "mlp": {"width": 16}}
    with DatasetStore.open(dataset) as store:
        plan = make_plan(settings, store)
        cache = WindowCache.build(store, plan.content, cache_root(dataset, None))
    torch.manual_seed(0)
    policy = DiffusionPolicy(SPEC, plan.policy_config)
    policy.set_statistics({"state": {"min": [-1] * 3, "max": [1] * 3}, "action": {"min": [-1] * 2, "max": [1] * 2}})
    config = ImitationConfig(steps=20, batch_size=16, warmup_steps=3)
    directory.mkdir()
    log = LogSettings(every=5, checkpoint_every=6, tracker="none")
    run = TrainingRun(directory, WindowDataset(cache, 2, 8), None, plan.record(policy), 2, log)
    return kind(policy, config, accelerate.Accelerator(cpu=True)), run


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_saves_the_step_it_interrupts_and_the_run_goes_on_from_there(
    dataset, tmp_path, kind, monkeypatch
):
    monkeypatch.setattr(Interrupted, "kind", kind)
    before = signal.getsignal(kind)
    assert not train_imitation(*prepared(dataset, tmp_path / "run", Interrupted), Console(quiet=True))
    assert signal.getsignal(kind) == before
    learner, run = prepared(dataset, tmp_path / "again", ImitationLearner)
    assert resume(learner, tmp_path / "run") == 8
    assert train_imitation(learner, run, Console(quiet=True))


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_last_good_checkpoint(dataset: str, tmp_path: Path):
    learner, run = prepared(dataset, tmp_path / "run", Diverging)
    with pytest.raises(Diverged, match=r"loss is nan at step 10: lower .*newest checkpoint is .*00000006"):
        train_imitation(learner, run, Console(quiet=True))


def test_metrics_beyond_the_last_checkpoint_are_forgotten_when_a_run_resumes(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run", "imitation.steps=24")
    folder = tmp_path / "run" / "checkpoints"
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 28, "loss": 9}\n{"step": 3')
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"steps": 24', '"steps": 28'))
    train(dataset, tmp_path / "run", "imitation.steps=28")
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [4, 8, 12, 16, 20, 24, 28]
    assert read_metrics(tmp_path / "run")[-1]["loss"] < 9
    assert (folder / "last").resolve().name == "00000028"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("imitation.learning_rate=0.5", r"imitation\.learning_rate: the run has 0\.001, this command 0\.5"),
        ("policy.horizon=2", r"policy\.horizon: the run has 4, this command 2"),
        ("data.action_source=requested", r"data\.action_source: the run has 'applied', this command 'requested'"),
    ],
)
def test_resuming_with_another_setting_is_refused_and_the_setting_named(dataset, tmp_path, change, message):
    train(dataset, tmp_path / "run")
    with pytest.raises(RobotRLError, match=message):
        train(dataset, tmp_path / "run", "policy.execute_horizon=1", change)


def test_a_run_from_before_a_setting_existed_is_resumed_at_the_settings_default(dataset, tmp_path):
    train(dataset, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    older = json.loads(config.read_text())
    for later in ("points", "auxiliary"):
        del older["policy"][later]
    config.write_text(json.dumps(older))
    assert train(dataset, tmp_path / "run") == 0
    config.write_text(json.dumps(older))
    message = r"policy\.auxiliary\.reconstruction: the run has 'nothing', this command 0\.5"
    with pytest.raises(RobotRLError, match=message):
        train(dataset, tmp_path / "run", "policy.auxiliary.reconstruction=0.5")


def test_what_changes_nothing_that_is_learned_may_change_on_resume(dataset: str, tmp_path: Path):
    train(dataset, tmp_path / "run")
    assert train(dataset, tmp_path / "run", "log.every=2", "readers=1", f"data.cache={tmp_path / 'elsewhere'}") == 0


def test_resuming_after_the_dataset_has_grown_is_refused_with_the_way_out(tmp_path: Path):
    dataset = write_toy_dataset(tmp_path / "toy", [Outcome.SUCCESS] * 3)
    train(dataset, tmp_path / "run")
    with DatasetStore.open(dataset, writable=True) as store:
        trained_on = store.snapshot
        store.append(toy_episode(9))
    with pytest.raises(
        RobotRLError, match=rf"dataset\.snapshot: the run has '{trained_on}'.*\n.*\nadd snapshot={trained_on}"
    ):
        train(dataset, tmp_path / "run")
    assert train(dataset, tmp_path / "run", f"snapshot={trained_on}") == 0


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
