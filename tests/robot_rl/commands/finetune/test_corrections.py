"""Correction sessions of `robot-rl finetune`: a person beside the robot who takes over, labels and stops."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from robot_rl.commands.finetune.main import finetune
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Outcome, Source
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import OperatorCommand, OperatorEvent
from robot_rl.learning.online.learner import OnlineLearner
from robot_rl.run.chains import KeptChains
from robot_rl.run.checkpoint import newest_checkpoint
from robot_rl.run.metrics import read_metrics
from tests.robot_rl.commands.finetune.finetune_runs import (
    EPISODES,
    quiet,
    settings,
    stored,
)
from tests.robot_rl.rollout_fakes import TimelineOperator


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
    chosen.operator = {"_target_": "tests.robot_rl.commands.finetune.test_corrections.Person"}
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
    chosen.operator = {"_target_": "tests.robot_rl.commands.finetune.test_corrections.Tireless"}
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
