"""`robot-rl improve` with a person beside a robot that cannot judge itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.commands.improve.main import improve
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.episode import Outcome, Source
from robot_rl.core.errors import RobotRLError
from tests.robot_rl.commands.finetune.test_corrections import Person, Tireless
from tests.robot_rl.toy_improve import demonstrations, imitation_run, improve_settings

PERSON = {"_target_": f"{Person.__module__}.{Person.__qualname__}"}
UNJUDGED = {"_target_": "tests.robot_rl.toy_reach.UnjudgedReachRobot"}
ROLLOUTS = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    return demonstrations(tmp_path_factory.mktemp("live") / "demonstrations", 16)


@pytest.fixture(scope="module")
def imitation(dataset) -> str:
    return imitation_run(dataset, Path(dataset).parent / "imitation", steps=60)


@pytest.fixture
def session(imitation, dataset, tmp_path, monkeypatch):
    """Settings of a run in real time, whose clock is a simulated one so that it takes none."""
    monkeypatch.setattr("robot_rl.sessions.live.HostClock", SimulatedClock)

    def made(**more):
        values = {
            "rounds": 1,
            "rollouts": ROLLOUTS,
            "first_rollouts": False,
            "robot": dict(UNJUDGED),
            "operator": dict(PERSON),
        }
        settings = improve_settings(imitation, dataset, tmp_path / "run", **{**values, "recover": "yes", **more})
        settings.evaluate.episodes = None
        return settings

    return made


def rollouts(run: Path):
    with DatasetStore.open(str(run / "dataset")) as store:
        return [store.read(each) for each in store.episode_ids()][16:]


def spoken() -> Console:
    return Console(file=io.StringIO(), width=300)


def test_rollouts_are_a_session_with_the_person_and_the_control_arm_costs_no_robot_time(session, tmp_path):
    improve(session(), spoken())
    episodes = rollouts(tmp_path / "run")
    assert [each.result.outcome for each in episodes] == [Outcome.SUCCESS, Outcome.FAILURE] * 2
    assert [*np.flatnonzero(episodes[0].source == Source.OPERATOR)] == [3, 4]
    assert not (tmp_path / "run" / "control" / "dataset").exists()
    assert not (tmp_path / "run" / "evaluation").exists()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["name"] for row in summary["stages"]] == ["demonstrations", "imitation", "round 1", "control"]
    assert any("real time need a person" in note for note in summary["notes"])


def test_a_stopped_session_keeps_its_episodes_and_goes_on_with_the_next_seed(session, tmp_path, monkeypatch):
    monkeypatch.setattr(Person, "stops_in", 2)
    console = spoken()
    with pytest.raises(KeyboardInterrupt):
        improve(session(), console)
    assert f"stopped with 2 of {ROLLOUTS} episodes" in console.file.getvalue()
    assert len(rollouts(tmp_path / "run")) == 3
    monkeypatch.setattr(Person, "stops_in", None)
    improve(session(), spoken())
    episodes = rollouts(tmp_path / "run")
    assert [each.result.outcome is Outcome.ABORTED for each in episodes] == [False, False, True, False, False]
    seeds = [each.header.seed for each in episodes]
    assert seeds == [*range(seeds[0], seeds[0] + 5)]
    assert len({each.header.policy for each in episodes}) == 1
    before = len(episodes)
    improve(session(), spoken())
    assert len(rollouts(tmp_path / "run")) == before, "a finished run asks for no robot"


def test_what_a_person_cannot_do_is_refused_before_anything_is_written(session, tmp_path):
    chosen = session(workers=2)
    with pytest.raises(RobotRLError, match="workers is 2, but in real time there is one robot"):
        improve(chosen, spoken())
    chosen = session()
    chosen.evaluate.episodes = 10
    with pytest.raises(RobotRLError, match=r"evaluate\.episodes is 10, but this run is in real time.*robot-rl deploy"):
        improve(chosen, spoken())
    with pytest.raises(RobotRLError, match="realtime=false, but operator 'person' is a person: leave realtime out"):
        improve(session(realtime=False), spoken())
    tireless = {"_target_": f"{Tireless.__module__}.{Tireless.__qualname__}"}
    with pytest.raises(RobotRLError, match="'tireless' drives all the time"):
        improve(session(operator=tireless), spoken())
    assert not (tmp_path / "run").exists()


def test_a_simulated_run_still_rolls_out_its_control_arm_and_is_evaluated(imitation, dataset, tmp_path):
    settings = improve_settings(imitation, dataset, tmp_path / "run")
    settings.evaluate.episodes = None
    plan = settings.resolve(realtime=False)
    assert (plan.control, plan.evaluate.episodes) == ("own", 50)
    assert (settings.control, settings.evaluate.episodes, settings.realtime) == ("auto", None, None)
