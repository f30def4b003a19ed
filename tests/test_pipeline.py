"""Every command on the simulated arm, one after the other, as in the README."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.archive.store import DatasetStore
from data.archive.verify import verify_dataset
from robot_rl import cli
from robot_rl.core.episode import Outcome

EPISODES = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


def robot_rl(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


@pytest.fixture(scope="module")
def dataset(place: Path) -> Path:
    robot_rl(
        "collect", f"dataset={place / 'reach'}", "task.name=reach-v3", f"episodes={EPISODES}", "operator.skill=clean"
    )
    return place / "reach"


@pytest.fixture(scope="module")
def bundle(place: Path, dataset: Path) -> Path:
    run = place / "run"
    robot_rl("train", f"dataset={dataset}", f"run={run}", "imitation.steps=60", "imitation.batch_size=32", "device=cpu")
    robot_rl("export", f"run={run}")
    return run / "bundle"


def test_collected_episodes_are_sound_successes_with_their_seeds(dataset):
    with DatasetStore.open(str(dataset)) as store:
        infos = [store.info(each) for each in store.episode_ids()]
        assert [info.header.seed for info in infos] == list(range(EPISODES))
        assert all(info.result.outcome is Outcome.SUCCESS for info in infos)
        assert not [finding for _, findings in verify_dataset(store) for finding in findings]


def test_a_second_session_goes_on_with_the_next_seed(dataset):
    robot_rl("collect", f"dataset={dataset}", "task.name=reach-v3", "episodes=1", "operator.skill=clean")
    with DatasetStore.open(str(dataset)) as store:
        assert store.info(store.episode_ids()[-1]).header.seed == EPISODES


def test_a_replayed_episode_is_the_same_again(place, dataset):
    again = place / "again"
    robot_rl("collect", f"dataset={again}", "task.name=reach-v3", f"replay={dataset}#2")
    with DatasetStore.open(str(dataset)) as store, DatasetStore.open(str(again)) as copy:
        first, second = store.read("000002"), copy.read("000000")
    np.testing.assert_array_equal(first.applied, second.applied)
    np.testing.assert_array_equal(first.per_tick("environment_state"), second.per_tick("environment_state"))


def test_evaluation_is_the_same_for_the_same_seeds_however_many_processes(place, bundle):
    documents = []
    for workers in (1, 2):
        output = place / f"eval-{workers}"
        robot_rl(
            "eval", "task.name=reach-v3", f"policy={bundle}", "episodes=3", f"workers={workers}", f"output={output}",
            "task.max_ticks=40", "video_episodes=0",
        )  # fmt: skip
        documents.append(json.loads((output / "eval.json").read_text()))
    assert documents[0]["rows"] == documents[1]["rows"]
    assert documents[0]["episodes"] == 3
    assert documents[0]["dataset_snapshot"]


def test_evaluation_films_where_it_can(place, bundle):
    output = place / "film"
    robot_rl(
        "eval", "task.name=reach-v3", f"policy={bundle}", "episodes=1", f"output={output}", "task.max_ticks=20",
        "video_episodes=1",
    )  # fmt: skip
    assert (output / "eval.mp4").stat().st_size > 1_000


def test_deploying_runs_in_real_time_and_records_the_policy(place, bundle):
    recorded = place / "deployed"
    robot_rl(
        "deploy", "task.name=reach-v3", f"policy={bundle}", f"dataset={recorded}", "episodes=1", "task.max_ticks=40"
    )
    with DatasetStore.open(str(recorded)) as store:
        episode = store.read(store.episode_ids()[0])
    assert episode.header.policy
    assert not episode.source.any(), "nobody but the policy acted"
    assert episode.result.cadence


def test_deploying_without_a_dataset_records_nothing(place, bundle):
    before = sorted(place.iterdir())
    robot_rl("deploy", "task.name=reach-v3", f"policy={bundle}", "episodes=1", "task.max_ticks=10")
    assert sorted(place.iterdir()) == before


def test_a_policy_for_another_robot_is_refused_by_name_before_anything_moves(bundle, capsys):
    assert cli.main(["eval", "robot=pusht", f"policy={bundle}", "episodes=1"]) == 2
    message = capsys.readouterr().err
    assert "wanted 'metaworld', robot has 'pusht'" in message
    assert "control_hz" in message


def test_a_dataset_of_another_robot_is_refused(dataset, capsys):
    assert cli.main(["collect", f"dataset={dataset}", "robot=pusht", "episodes=1"]) == 2
    assert "dataset has metaworld, robot has pusht" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_ends_with_a_summary_and_a_report(place, monkeypatch):
    monkeypatch.setitem(__import__("robot_rl.commands.demo", fromlist=["SIZES"]).SIZES, "quick", tiny())
    output = place / "demo"
    robot_rl("demo", f"output={output}", "size=quick")
    summary = json.loads((output / "summary.json").read_text())
    assert [stage["name"] for stage in summary["stages"]] == [
        "demonstrations",
        "training",
        "imitation",
        "round 1",
        "round 2",
        "control",
        "online, with interventions",
        "one step, ONNX without torch",
    ]
    assert summary["stages"][-1]["episodes"] == 2
    assert summary["gate_decisions"]
    assert (output / "report.html").stat().st_size > 10_000


def tiny():
    from robot_rl.commands.demo import Size

    learning = ("critic.steps=20", "dynamics.steps=20", "offline.batches=2", "offline.gate_every=1", "gate.starts=8")
    return Size(
        demonstrations=6,
        steps=20,
        episodes=2,
        improve=("rollouts=2", "imitation.steps=5", "second_estimator=false", *learning),
        finetune=("iterations=1", "episodes_per_iteration=2", "critic.steps=20"),
        distill=("distillation.steps=5",),
    )


@pytest.mark.slow
def test_the_demo_never_replaces_what_is_not_a_demo(place, capsys):
    other = place / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert cli.main(["demo", f"output={other}"]) == 2
    assert "not a demo" in capsys.readouterr().err
    assert (other / "thesis.txt").exists()
