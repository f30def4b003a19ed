import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from data.archive.store import DatasetStore
from policies.consistency import ConsistencyPolicy
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, MlpConfig
from robot_rl.commands.distill import main
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.learning.distillation import DistillationConfig, distillation_loss, draw_steps, teacher_chain
from robot_rl.run.checkpoint import load_policy, load_training_state, read_record, save_checkpoint
from robot_rl.run.metrics import read_metrics
from tests.robot_rl.commands.train.small_runs import assert_same_tensors
from tests.robot_rl.toy_dataset import SPEC, write_toy_dataset

ROOT = Path(__file__).parents[3]
SHORT = [
    "distillation.steps=24",
    "distillation.batch_size=32",
    "distillation.warmup_steps=5",
    "log.tracker=none",
    "log.every=4",
    "log.checkpoint_every=3",
    "device=cpu",
]


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
    outcomes = [Outcome.SUCCESS] * 4 + [Outcome.FAILURE] * 2 + [Outcome.ABORTED]
    return write_toy_dataset(tmp_path_factory.mktemp("datasets") / "toy", outcomes)


def toy_teacher(steps: int = 5, spec=SPEC, **fields) -> DiffusionPolicy:
    torch.manual_seed(0)
    mlp = MlpConfig(width=24, blocks=1, time_features=8)
    config = DiffusionPolicyConfig(("state",), horizon=4, mlp=mlp, sampling_steps=steps, prediction="sample", **fields)
    policy = DiffusionPolicy(spec, config)
    policy.set_statistics({"state": {"min": [-1] * 3, "max": [1] * 3}, "action": {"min": [-1] * 2, "max": [1] * 2}})
    return policy.eval()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("teacher")
    save(toy_teacher(), run)
    return run


def save(policy: DiffusionPolicy, run: Path) -> None:
    document = {
        "class": f"{type(policy).__module__}.{type(policy).__name__}",
        "config": policy.config.to_json(),
        "spec": policy.spec.to_json(),
        "provenance": {"snapshot": "demonstrations"},
    }
    save_checkpoint(run, 7, policy, {}, document)


def distil(dataset: str, teacher: Path, run: Path, *more: str) -> int:
    return main([f"dataset={dataset}", f"policy={teacher}", f"run={run}", *SHORT, *more])


def final_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()


def test_the_student_learns_where_the_teachers_chain_ends_and_says_how_near_it_is(dataset, teacher, tmp_path, capsys):
    more = ["distillation.steps=300", "distillation.learning_rate=3e-3", "log.checkpoint_every=300"]
    assert distil(dataset, teacher, tmp_path / "run", *more, "log.sample_every=100", "log.held_out_every=100") == 0
    metrics = read_metrics(tmp_path / "run")
    assert metrics[-1]["loss"] < 0.3 * metrics[0]["loss"]
    lines = [line for line in metrics if "held_out_distance" in line]
    assert lines[-1]["held_out_distance"] < lines[0]["held_out_distance"]
    assert {"held_out_distance_0", "held_out_distance_1"} <= lines[-1].keys()
    assert "from the teacher's chunks, per action dimension" in capsys.readouterr().out
    assert isinstance(load_policy(tmp_path / "run"), ConsistencyPolicy)


def test_a_checkpoint_names_the_teacher_and_every_kept_episode_is_seen(dataset, teacher, tmp_path):
    distil(dataset, teacher, tmp_path / "run")
    provenance = read_record(tmp_path / "run")["provenance"]
    with DatasetStore.open(dataset) as store:
        assert provenance["snapshot"] == store.snapshot
    assert provenance["episodes"] == 6
    assert provenance["teacher"]["fingerprint"] == toy_teacher().fingerprint()
    assert provenance["teacher"]["checkpoint"].endswith("00000007")
    assert provenance["teacher"]["provenance"] == {"snapshot": "demonstrations"}


def test_the_encoder_and_the_statistics_stay_the_teachers(dataset, tmp_path):
    policy = toy_teacher(state_features=6)
    save(policy, tmp_path / "teacher")
    distil(dataset, tmp_path / "teacher", tmp_path / "run")
    student, before = load_policy(tmp_path / "run").state_dict(), policy.state_dict()
    changed = {name for name in before if not torch.equal(before[name], student[name])}
    assert changed
    assert all(name.startswith("denoiser.") for name in changed)


KILLED_IN_THE_MIDDLE = textwrap.dedent(
    """
    import os, signal, sys
    import torch
    from robot_rl.learning.distillation import ConsistencyLearner
    from robot_rl.commands.distill import main

    torch.set_num_threads(1)
    update = ConsistencyLearner.update

    def dying(self, batch, step):
        if step == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, batch, step)

    ConsistencyLearner.update = dying
    main(sys.argv[1:])
    """
)


def test_a_run_killed_in_the_middle_equals_an_uninterrupted_one_bit_for_bit(dataset, teacher, tmp_path):
    distil(dataset, teacher, tmp_path / "straight")
    command = [f"dataset={dataset}", f"policy={teacher}", f"run={tmp_path / 'killed'}", *SHORT]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / "checkpoints" / "last").readlink() == Path("00000012")
    distil(dataset, teacher, tmp_path / "killed")
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "straight")
    states = [load_training_state(tmp_path / name / "checkpoints" / "last") for name in ("killed", "straight")]
    assert_same_tensors(*states)


def test_what_cannot_be_distilled_is_refused_with_the_way_out(dataset, teacher, tmp_path):
    save(toy_teacher(steps=1), tmp_path / "single")
    with pytest.raises(RobotRLError, match=r"acts in 1 step, so there is nothing to distil: sampling_steps=10"):
        distil(dataset, tmp_path / "single", tmp_path / "run")
    distil(dataset, teacher, tmp_path / "student")
    with pytest.raises(RobotRLError, match=r"one-step student already: distil its teacher, policy=.*00000007"):
        distil(dataset, tmp_path / "student", tmp_path / "run")


def test_a_dataset_of_another_robot_is_refused(dataset, tmp_path):
    save(toy_teacher(spec=dataclasses.replace(SPEC, control_hz=20.0)), tmp_path / "teacher")
    with pytest.raises(SpecMismatch, match="another robot than the teacher: control_hz differ"):
        distil(dataset, tmp_path / "teacher", tmp_path / "run")


def test_another_teacher_does_not_resume_the_run(dataset, teacher, tmp_path):
    distil(dataset, teacher, tmp_path / "run")
    other = toy_teacher()
    next(other.parameters()).data.add_(0.1)
    save(other, tmp_path / "other")
    with pytest.raises(RobotRLError, match=r"teacher\.fingerprint: the run has"):
        distil(dataset, tmp_path / "other", tmp_path / "run")


def test_the_chain_without_noise_is_that_of_the_teachers_means():
    policy = toy_teacher().with_exploration(5, 0.02, 0.1)
    condition = torch.randn(6, policy.encoder.output_size, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(6, 1, 4, 2, generator=torch.Generator().manual_seed(1))
    quiet = torch.cat([noise, torch.zeros(6, 4, 4, 2)], dim=1)
    torch.testing.assert_close(teacher_chain(policy, condition, noise), policy.denoise(condition, quiet).states)


def test_the_loss_reaches_the_student_only_and_is_zero_once_it_has_arrived():
    policy = toy_teacher(clean_clip=None)
    student = ConsistencyPolicy.from_teacher(policy)
    condition = torch.randn(6, policy.encoder.output_size, generator=torch.Generator().manual_seed(0))
    noise, generator = torch.randn(6, 1, 4, 2, generator=torch.Generator().manual_seed(1)), torch.Generator()
    distillation_loss(student, policy, condition, noise, generator).backward()
    assert all(weight.grad is None for weight in policy.parameters())
    assert any(weight.grad is not None for weight in student.denoiser.parameters())
    student.clean = lambda states, step, condition: teacher_chain(policy, condition, noise)[:, -1]
    assert float(distillation_loss(student, policy, condition, noise, generator)) == 0.0


def test_the_start_of_the_chain_is_drawn_as_often_as_asked_and_the_rest_evenly():
    step = draw_steps(20_000, 5, 0.6, torch.Generator().manual_seed(0))
    shares = torch.bincount(step, minlength=5) / 20_000
    assert shares.tolist() == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1], abs=0.02)
    assert draw_steps(50, 5, 1.0, torch.Generator().manual_seed(0)).eq(0).all()


@pytest.mark.parametrize(("field", "value"), [("first_share", 0.0), ("sigma_max", -1.0), ("steps", 0)])
def test_a_mistaken_setting_is_named(field, value):
    with pytest.raises(RobotRLError, match=rf"distillation\.{field} is"):
        DistillationConfig(**{field: value}).validate()
