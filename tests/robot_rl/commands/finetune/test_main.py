"""Online RL as a command: what it keeps, what it learns from, what it refuses, and that a kill changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.archive.store import DatasetStore
from robot_rl.commands.finetune import loop
from robot_rl.commands.finetune.main import finetune
from robot_rl.core.episode import Source
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.learning.transitions import NoSignal
from robot_rl.run.checkpoint import load_policy, load_training_state, newest_checkpoint, read_record
from robot_rl.run.metrics import read_metrics
from tests.robot_rl.commands.finetune.finetune_runs import (
    EPISODES,
    quiet,
    record_dataset,
    settings,
    stored,
    weights,
)
from tests.robot_rl.toy_reach import ReachRobot

ROOT = Path(__file__).resolve().parents[4]


def test_a_run_leaves_a_policy_its_episodes_and_a_report(place):
    console = quiet()
    assert finetune(settings(place), console)
    run = place / "run"
    assert newest_checkpoint(run).name == "00000002"
    before, after = weights(place / "start"), weights(run)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("denoiser") for name in changed), "the encoder stays as imitation made it"
    assert load_policy(run).config.sigma_min == 0.1
    episodes = stored(run)
    assert [each.header.seed for each in episodes] == [*range(400_000, 400_000 + 2 * EPISODES)]
    provenance = read_record(run)["provenance"]
    with DatasetStore.open(str(run / "dataset")) as store:
        assert provenance["snapshot"] == store.snapshot
        assert len(store.history()) <= 2 + 2 + 1, "one transaction per iteration"
    assert provenance["environment_steps"] == sum(len(each) for each in episodes)
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["action_change"] > 0 and np.isfinite(line["kl_after"]) for line in lines)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stages"][-1]["episodes"] == EPISODES
    assert "iteration 2/2" in console.file.getvalue()
    assert finetune(settings(place), quiet()), "a finished run is left as it is"
    assert len(stored(run)) == 2 * EPISODES


def test_updates_that_made_the_policy_worse_are_taken_back_and_said_so(place, monkeypatch):
    batches = iter([(40.0, 40.0), (0.0, 40.0)])
    monkeypatch.setattr(loop, "_own", lambda outcomes: next(batches))
    console = quiet()
    assert finetune(settings(place), console)
    run = place / "run"
    first, second = read_metrics(run)
    assert (first.get("taken_back"), second["taken_back"]) == (None, 1.0)
    assert first["action_change"] == pytest.approx(second["action_change"]), "as far back as it went forward"
    before, after = weights(place / "start"), weights(run)
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert "taken back: significantly worse than the best so far" in console.file.getvalue()


def test_interventions_are_stored_as_the_operators_and_reach_imitation_but_no_surrogate(place, monkeypatch):
    seen = []
    original = loop.policy_segments

    def remember(policy, collected, reward):
        seen.extend(collected)
        return original(policy, collected, reward)

    monkeypatch.setattr(loop, "policy_segments", remember)
    finetune(settings(place, operator={"first": 4, "last": 7}), quiet())
    helped = [each for each in stored(place / "run") if len(each) > 7]
    assert helped
    for episode in helped:
        assert [*np.flatnonzero(episode.source == Source.OPERATOR)] == [4, 5, 6]
    for each in seen:
        assert all(each.episode.source[decision.tick] == Source.POLICY for decision in each.decisions)
    line = read_metrics(place / "run")[-1]
    assert line["operator_windows"] == sum((each.source == Source.OPERATOR).sum() for each in stored(place / "run"))
    assert line["imitation_loss"] > 0
    assert line["unaided_successes"] <= line["successes"]


KILLED = """
import os, signal, sys
from pathlib import Path
from robot_rl.commands.finetune import loop
from robot_rl.commands.finetune.main import finetune
from tests.robot_rl.commands.finetune.finetune_runs import quiet, settings
original, calls = loop.save_checkpoint, []
def save(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
loop.save_checkpoint = save
finetune(settings(Path(sys.argv[1]), operator={"first": 4, "last": 7}, dataset=sys.argv[2]), quiet())
"""
"""Dies after the second iteration's episodes are stored and learned from, before its checkpoint."""


def test_a_killed_run_ends_as_an_undisturbed_one_with_no_episode_twice(place, tmp_path):
    dataset = record_dataset(tmp_path / "demonstrations")
    child = subprocess.run([sys.executable, "-c", KILLED, str(place), dataset], cwd=ROOT, check=False)
    assert child.returncode == -9
    run = place / "run"
    assert newest_checkpoint(run).name == "00000001"
    assert len(stored(run)) == 8 + 2 * EPISODES
    # As if it had died a moment earlier once more: the first iteration's line is lost too.
    (run / "metrics.jsonl").write_text("")
    chosen = {"operator": {"first": 4, "last": 7}, "dataset": dataset}
    assert finetune(settings(place, **chosen), quiet())
    assert finetune(settings(place, **chosen, run=str(place / "whole")), quiet())
    one, other = weights(run), weights(place / "whole")
    assert all(torch.equal(one[name], other[name]) for name in one)
    states = [load_training_state(newest_checkpoint(place / name))["learner"] for name in ("run", "whole")]
    for mine, theirs in zip(*(state["operator_windows"] for state in states), strict=True):
        assert torch.equal(mine, theirs)
    mine, theirs = stored(run), stored(place / "whole")
    assert len(mine) == len(theirs) == 8 + 2 * EPISODES
    for first, second in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(first.applied, second.applied)
    assert [line["step"] for line in read_metrics(run)] == [1, 2]


def test_the_first_value_network_comes_from_the_dataset_and_the_users_is_left_alone(place, tmp_path):
    dataset = record_dataset(tmp_path / "demonstrations")
    with DatasetStore.open(dataset) as store:
        snapshot = store.snapshot
    finetune(settings(place, dataset=dataset), quiet())
    assert (place / "run" / "critic" / "report.json").exists()
    assert len(stored(place / "run")) == 8 + 2 * EPISODES
    with DatasetStore.open(dataset) as store:
        assert store.snapshot == snapshot


def test_a_one_step_student_is_left_beside_the_policy(place):
    finetune(settings(place, student=True), quiet())
    student = load_policy(place / "run" / "student")
    assert student.noise_shape[0] == 1
    assert read_record(place / "run" / "student")["provenance"]["environment_steps"] > 0


def test_a_dataset_without_failures_is_refused_by_name(place, tmp_path):
    with pytest.raises(NoSignal, match="all 4 episodes succeeded"):
        finetune(settings(place, dataset=record_dataset(tmp_path / "all", fail=False)), quiet())
    assert not (place / "run").exists(), "so that the corrected command may use the same directory"


def test_a_bundle_and_a_run_of_another_command_are_refused_by_name(place, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.onnx").touch()
    with pytest.raises(RobotRLError, match="exported bundle, which cannot learn: give the run"):
        finetune(settings(place, policy=str(tmp_path / "bundle")), quiet())
    (tmp_path / "improved").mkdir()
    (tmp_path / "improved" / "config.json").write_text('{"command": "improve"}')
    with pytest.raises(RobotRLError, match="is a run of robot-rl improve, wanted one of robot-rl finetune"):
        finetune(settings(place, run=str(tmp_path / "improved")), quiet())


def test_what_does_not_fit_is_refused_before_anything_moves(place, tmp_path):
    with pytest.raises(SpecMismatch):
        finetune(settings(place, robot={"name": "other"}), quiet())
    with DatasetStore.create(str(tmp_path / "other"), ReachRobot(name="other").spec):
        pass
    with pytest.raises(SpecMismatch):
        finetune(settings(place, dataset=str(tmp_path / "other")), quiet())
    wrong = settings(place)
    wrong.online.demonstration_weight = 1.0
    with pytest.raises(RobotRLError, match="demonstration_weight"):
        finetune(wrong, quiet())
    wrong = settings(place)
    wrong.online.sigma_min = 0.0
    with pytest.raises(RobotRLError, match="sigma_min is 0"):
        finetune(wrong, quiet())
    with pytest.raises(RobotRLError, match="no checkpoint"):
        finetune(settings(place, policy=str(tmp_path / "nothing")), quiet())
    assert not (place / "run").exists()


def test_a_run_is_not_resumed_with_other_settings(place):
    finetune(settings(place), quiet())
    with pytest.raises(RobotRLError, match="cannot be resumed"):
        finetune(settings(place, operator={"first": 3}), quiet())
    with pytest.raises(RobotRLError, match="choose another run"):
        finetune(settings(place, run=str(place / "start")), quiet())
