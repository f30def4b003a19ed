"""Sessions: what is kept, what is done again, what ends them, and what a crash left behind."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from data.archive.store import DatasetStore
from data.recorder.recovery import recoverable
from robot_rl.commands.collect import collect
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.runtime.meeting import Meeting, RolloutSettings
from robot_rl.sessions.session import Session, offer_recovery
from robot_rl.sessions.setup import TaskSettings, judge_of
from tests.robot_rl.rollout_fakes import BrakingFilter, ListSink, SeekingPolicy, Slider, TimelineOperator

ROOT = Path(__file__).resolve().parents[3]


def session(timeline=None, policy=None, robot=None) -> Session:
    robot = robot or Slider()
    operator, policy, sink = TimelineOperator(timeline), policy or SeekingPolicy(), ListSink()
    task = TaskSettings(name="slide", max_ticks=40)
    return Session(
        Meeting(robot, policy, operator, judge_of(robot, task), SimulatedClock(), BrakingFilter(), sink),
        options=RolloutSettings(max_ticks=40),
        task=task,
        console=Console(file=io.StringIO()),
    )


class ClumsyOnce(TimelineOperator):
    """Wants the first episode done again, and is content with the rest."""

    def __init__(self):
        super().__init__()
        self.episodes = 0

    def reset(self, seed):
        super().reset(seed)
        self.timeline = {3: OperatorCommand(event=OperatorEvent.REDO)} if self.episodes == 0 else {}
        self.episodes += 1


def test_a_session_keeps_as_many_episodes_as_asked_for_with_consecutive_seeds():
    run = session()
    run.run(first_seed=7, episodes=3)
    assert len(run.results) == 3
    assert all(result.outcome is Outcome.SUCCESS for result in run.results)


def test_a_redone_episode_is_thrown_away_and_its_seed_is_used_again():
    robot = Slider()
    run = session(robot=robot)
    run.who = dataclasses.replace(run.who, operator=ClumsyOnce())
    seeds = []
    reset = robot.reset
    robot.reset = lambda seed: (seeds.append(seed), reset(seed))
    run.run(first_seed=5, episodes=2)
    assert seeds == [5, 5, 6]
    assert len(run.results) == 2


def test_stop_ends_the_session_and_keeps_the_episode_as_aborted():
    run = session({3: OperatorCommand(event=OperatorEvent.STOP)})
    run.run(first_seed=0, episodes=5)
    assert [result.outcome for result in run.results] == [Outcome.ABORTED]


def test_a_fault_ends_the_session_until_a_person_starts_it_again():
    run = session(robot=Slider(camera_freezes=2))
    with pytest.raises(RobotRLError, match="Look at the robot, then start the command again"):
        run.run(first_seed=0, episodes=5)
    assert len(run.results) == 1


def test_an_unknown_answer_about_recovery_is_refused(tmp_path):
    with pytest.raises(RobotRLError, match="recover=perhaps: wanted ask, yes or no"):
        offer_recovery(str(tmp_path), "perhaps", Console(file=io.StringIO()))


@pytest.mark.slow
def test_a_killed_collection_is_recovered_by_the_next_one(tmp_path):
    """The command itself, killed while it records in real time, then started again."""
    dataset = tmp_path / "reach"
    command = ["collect", f"dataset={dataset}", "task.name=reach-v3", "operator.skill=clean"]
    recorder = subprocess.Popen(
        [sys.executable, "-m", "robot_rl.cli", *command, "realtime=true", "rollout.after_success_ticks=10000"], cwd=ROOT
    )
    journal = dataset / "journal"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 20_000 for path in journal.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    recorder.kill()
    recorder.wait()
    assert len(recoverable(str(dataset), wait_s=60)) == 1
    assert collect([*command[1:], "episodes=1"]) == 0
    with DatasetStore.open(str(dataset)) as store:
        outcomes = [store.info(each).result.outcome for each in store.episode_ids()]
        first = store.read(store.episode_ids()[0])
    assert outcomes == [Outcome.ABORTED, Outcome.SUCCESS]
    assert len(first) > 0
    assert first.header.seed == 0
