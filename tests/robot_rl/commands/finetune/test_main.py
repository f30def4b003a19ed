"""Online RL as a command: what it keeps, what it learns from, what it refuses, and that a kill changes nothing."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.commands.finetune import loop
from robot_rl.commands.finetune.main import finetune
from robot_rl.commands.finetune.settings import FinetuneSettings
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Outcome, Source
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.learning.denoising_ppo import PpoConfig
from robot_rl.learning.offline.critic import CriticConfig
from robot_rl.learning.online.learner import OnlineConfig, OnlineLearner
from robot_rl.learning.online.value_learner import ValueConfig
from robot_rl.learning.transitions import NoSignal
from robot_rl.run.chains import KeptChains
from robot_rl.run.checkpoint import load_policy, load_training_state, newest_checkpoint, read_record, save_checkpoint
from robot_rl.run.metrics import read_metrics
from robot_rl.sessions.parallel import EpisodeCollector
from robot_rl.sessions.setup import TaskSettings
from tests.robot_rl.rollout_fakes import TimelineOperator
from tests.robot_rl.toy_reach import LIMITS, ReachRobot, StraightPolicy, reach_policy

ROOT = Path(__file__).resolve().parents[4]
EPISODES = 4


def settings(place: Path, operator=None, robot=None, **given) -> FinetuneSettings:
    """Two iterations of four episodes on the toy."""
    online = OnlineConfig(
        iterations=2,
        episodes_per_iteration=EPISODES,
        warmup_iterations=0,
        sampling_steps=4,
        sigma_min=0.1,
        sigma_max=0.5,
        ppo=PpoConfig(clip=0.2, epochs=2, batch_size=16, learning_rate=3e-4),
        value=ValueConfig(width=16, batch_size=16, epochs=2),
        imitation_batch_size=8,
        distillation_steps=2,
    )
    return FinetuneSettings(
        robot={"_target_": "tests.robot_rl.toy_reach.ReachRobot", **(robot or {})},
        limits=dict(LIMITS),
        operator={"_target_": "tests.robot_rl.toy_reach.GuidingOperator", **(operator or {})},
        task=TaskSettings("reach", 20),
        **{
            "policy": str(place / "start"),
            "run": str(place / "run"),
            "online": online,
            "critic": CriticConfig(steps=30, width=16, batch_size=16),
            "tracker": "none",
            **given,
        },
    )


def save_start(place: Path) -> None:
    policy = reach_policy(gain=1.5)
    kind = type(policy)
    record = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "config": policy.config.to_json(),
        "spec": policy.spec.to_json(),
        "provenance": {},
    }
    save_checkpoint(place / "start", 1, policy, {}, record)


@pytest.fixture
def place(tmp_path) -> Path:
    save_start(tmp_path)
    return tmp_path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def record_dataset(url: Path, succeed: bool = True, fail: bool = True) -> str:
    """Episodes of a policy that goes straight to the goal, cut short where they are to fail."""
    cases = [(20, range(4))] * succeed + [(1, range(50, 54))] * fail
    with DatasetStore.create(str(url), ReachRobot().spec) as store:
        for max_ticks, seeds in cases:
            session = settings(Path("."))
            session.task.max_ticks = max_ticks
            with EpisodeCollector(session) as collector:
                for each in collector.collect(StraightPolicy(), seeds):
                    store.append(each.episode)
    return str(url)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(run).state_dict()


def stored(run: Path):
    with DatasetStore.open(str(run / "dataset")) as store:
        return [store.read(each) for each in store.episode_ids()]


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
from tests.robot_rl.commands.finetune.test_main import finetune, quiet, settings
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


class Person(TimelineOperator):
    """Corrects a little, labels every episode, and stops in the episode `stops_in`."""

    name = "person"
    in_person = True
    stops_in: int | None = None
    notes: ClassVar[list[str]] = []
    episode = -1

    def __init__(self) -> None:
        super().__init__()
        type(self).notes, type(self).episode = [], -1

    def reset(self, seed):
        super().reset(seed)
        type(self).episode += 1
        end = OperatorCommand(event=OperatorEvent.END, outcome=[Outcome.SUCCESS, Outcome.FAILURE][self.episode % 2])
        if self.stops_in == self.episode:
            end = OperatorCommand(event=OperatorEvent.STOP)
        drive = OperatorCommand(action=np.zeros(2, np.float32))
        self.timeline = {3: drive, 4: drive, 8: end}

    def note(self, message):
        self.notes.append(message)


class Tireless(TimelineOperator):
    """Never gives back."""

    name = "tireless"
    drives_always = True


def with_a_person(place, **given):
    chosen = settings(place, **given)
    chosen.robot["_target_"] = "tests.robot_rl.toy_reach.UnjudgedReachRobot"
    chosen.operator = {"_target_": "tests.robot_rl.commands.finetune.test_main.Person"}
    chosen.recover = "yes"
    return chosen


@pytest.fixture
def hurried(monkeypatch):
    """Real time at once: the session's clock is simulated."""
    monkeypatch.setattr("robot_rl.sessions.live.HostClock", SimulatedClock)


def test_a_correction_session_stores_every_episode_learns_and_tells_the_person(place, hurried):
    assert finetune(with_a_person(place), quiet())
    episodes = stored(place / "run")
    assert len(episodes) == 2 * EPISODES
    assert [*np.flatnonzero(episodes[0].source == Source.OPERATOR)] == [3, 4]
    assert {each.result.outcome for each in episodes} == {Outcome.SUCCESS, Outcome.FAILURE}
    assert len({each.header.seed for each in episodes}) == 2 * EPISODES
    assert Person.notes[0] == f"0/{EPISODES} done: 0 unaided, 0 helped"
    assert Person.notes[EPISODES] == f"{EPISODES}/{EPISODES} done: 0 unaided, 2 helped"
    assert Person.notes[-1].startswith(f"{Person.notes[EPISODES]}; update 1 moved actions ")


def test_a_stopped_session_goes_on_in_the_middle_of_its_iteration(place, hurried, monkeypatch):
    console = quiet()
    monkeypatch.setattr(Person, "stops_in", EPISODES + 2)
    assert not finetune(with_a_person(place), console)
    monkeypatch.setattr(Person, "stops_in", None)
    assert "the same command goes on with them" in console.file.getvalue()
    assert newest_checkpoint(place / "run").name == "00000001"
    assert len(stored(place / "run")) == EPISODES + 3
    learned = []
    update = OnlineLearner.update
    monkeypatch.setattr(
        OnlineLearner, "update", lambda self, episodes, *more: learned.append(episodes) or update(self, episodes, *more)
    )
    console = quiet()
    assert finetune(with_a_person(place), console)
    assert f"goes on with 2 of {EPISODES} episodes" in console.file.getvalue()
    assert newest_checkpoint(place / "run").name == "00000002"
    everything = stored(place / "run")
    assert len(everything) == 2 * EPISODES + 1, "only the one that was stopped is beside the wanted ones"
    assert len({each.header.seed for each in everything}) == len(everything)
    assert [each.episode.header.seed for each in learned[0]] == [each.header.seed for each in everything[EPISODES:]]
    assert all(each.decisions for each in learned[0])
    assert read_metrics(place / "run")[-1]["collected"] == EPISODES, "the one that was stopped says nothing"


def test_chains_come_back_from_the_disk_as_they_were(place, hurried, monkeypatch):
    kept = []
    keep = KeptChains.keep
    monkeypatch.setattr(KeptChains, "keep", lambda self, *what: kept.append(what[1]) or keep(self, *what))
    monkeypatch.setattr(Person, "stops_in", 2)
    assert not finetune(with_a_person(place), quiet())
    fingerprint = kept[0].episode.header.policy
    found = KeptChains(place / "run" / "chains").episodes(0, place / "run" / "dataset", fingerprint)
    assert [each.episode.header.seed for each in found] == [each.episode.header.seed for each in kept]
    for one, other in zip(found, kept, strict=True):
        np.testing.assert_array_equal(one.episode.applied, other.episode.applied)
        assert [each.tick for each in one.decisions] == [each.tick for each in other.decisions]
        for mine, theirs in zip(one.decisions, other.decisions, strict=True):
            np.testing.assert_array_equal(mine.states, theirs.states)
    assert not KeptChains(place / "run" / "chains").episodes(0, place / "run" / "dataset", "another policy")


def test_ctrl_c_leaves_a_run_that_goes_on(place, hurried, monkeypatch):
    poll = Person.poll

    def interrupt(self, observation):
        if self.episode == 1 and self.polls == 5:
            raise KeyboardInterrupt
        return poll(self, observation)

    monkeypatch.setattr(Person, "poll", interrupt)
    assert not finetune(with_a_person(place), quiet())
    monkeypatch.setattr(Person, "poll", poll)
    assert [each.result.outcome for each in stored(place / "run")] == [Outcome.SUCCESS, Outcome.ABORTED]
    assert finetune(with_a_person(place), quiet())
    assert len(stored(place / "run")) == 2 * EPISODES + 1


def test_an_operator_who_never_lets_the_policy_drive_is_refused_with_the_next_step(place):
    chosen = settings(place)
    chosen.operator = {"_target_": "tests.robot_rl.commands.finetune.test_main.Tireless"}
    with pytest.raises(RobotRLError, match=r"'tireless' drives all the time.*operator=keyboard.*operator=corrector"):
        finetune(chosen, quiet())
    assert not (place / "run").exists()


def test_a_robot_that_cannot_judge_needs_somebody_beside_it(place):
    chosen = with_a_person(place)
    chosen.operator = {"_target_": "hardware.operators.simulated.absent.AbsentOperator"}
    with pytest.raises(RobotRLError, match="cannot tell success from failure"):
        finetune(chosen, quiet())
    chosen = with_a_person(place, workers=2)
    with pytest.raises(RobotRLError, match="in real time there is one robot"):
        finetune(chosen, quiet())
