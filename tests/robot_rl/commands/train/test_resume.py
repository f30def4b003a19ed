"""A run that was killed, asked to stop, or diverged: what it leaves, and with what it goes on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.descent import Diverged
from robot_rl.learning.imitation import ImitationLearner
from robot_rl.run.checkpoint import load_training_state
from robot_rl.run.metrics import read_metrics
from robot_rl.run.training_loop import resume, train_imitation
from tests.robot_rl.commands.train.small_runs import OFTEN, ROOT, SHORT, SMALL, assert_same_tensors, prepared, train
from tests.robot_rl.toy_dataset import toy_episode, write_toy_dataset

pytestmark = pytest.mark.usefixtures("one_thread")


def final_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()


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


class Poisoned(ImitationLearner):
    def update(self, batch, step):
        return super().update({**batch, "action": batch["action"] * (float("nan") if step == 9 else 1.0)}, step)


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


def test_a_step_that_is_not_finite_is_not_taken_and_names_the_last_good_checkpoint(dataset: str, tmp_path: Path):
    learner, run = prepared(dataset, tmp_path / "run", Poisoned)
    with pytest.raises(Diverged, match=r"the policy: the loss is nan at step 10, .*newest checkpoint is .*00000006"):
        train_imitation(learner, run, Console(quiet=True))
    assert all(weight.isfinite().all() for weight in learner.state()["policy"].values())


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
