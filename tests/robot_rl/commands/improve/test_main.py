"""`robot-rl improve` on a tiny world: its products, its refusals, and what a kill leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from data.archive.store import DatasetMissing, DatasetStore
from robot_rl import cli
from robot_rl.commands.improve import steps
from robot_rl.commands.improve.main import improve
from robot_rl.core.decision import REFUSED, REIMITATION, ROUND, read_decisions
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError, SpecMismatch
from robot_rl.run.checkpoint import CheckpointError, load_policy, read_record
from robot_rl.run.dataset import NoDemonstrations, append_rollouts, copy_demonstrations
from tests.robot_rl.commands.improve.improve_runs import QUIET, assert_same_weights, infos_of, short, weights
from tests.robot_rl.toy_improve import improve_settings
from tests.robot_rl.toy_reach import SPEC

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def done(place, dataset, imitation) -> Path:
    """A finished run of two rounds."""
    improve(improve_settings(imitation, dataset, place / "run"), QUIET)
    return place / "run"


def snapshot_of(url: str | Path) -> str:
    with DatasetStore.open(str(url)) as store:
        return store.snapshot


def test_the_run_is_a_policy_that_says_where_it_comes_from_and_how_it_was_chosen(done, imitation):
    provenance = read_record(done)["provenance"]
    assert provenance["dataset"] == str(done / "dataset")
    assert provenance["snapshot"] == snapshot_of(done / "dataset")
    assert provenance["parent"].startswith(imitation)
    assert provenance["parent_policy"] == load_policy(imitation).fingerprint()
    assert "the gate's reference after its last decision" in provenance["rule"]
    assert load_policy(done).fingerprint() == load_policy(provenance["chosen"]).fingerprint()


def test_the_users_dataset_is_only_read_and_the_runs_own_grows_by_every_rollout(done, dataset):
    assert len(infos_of(dataset)) == 24
    infos = infos_of(done / "dataset")
    assert len(infos) == 24 + 3 * 8
    assert [info.header.seed for info in infos[24:]] == [*range(500_016, 500_024), *range(500_000, 500_016)]
    assert len({info.uuid for info in infos}) == len(infos)
    assert len({info.header.policy for info in infos[24:]}) in (1, 2, 3)


def test_the_control_arm_spends_as_many_episodes_and_steps_without_a_gate(done):
    own = infos_of(done / "control" / "dataset")
    assert sorted(info.header.seed for info in own[24:]) == [*range(500_000, 500_024)]
    for number in (1, 2):
        steps = [
            json.loads((done / arm / f"round-{number}" / "imitation" / "phase.json").read_text())["facts"]["steps"]
            for arm in ("", "control")
        ]
        assert steps[0] == steps[1]
    assert "success-only" in read_record(done / "control")["provenance"]["rule"]


def test_every_decision_is_kept_with_its_round_and_the_second_estimators_gain(done):
    decisions = read_decisions(done / "gate.jsonl")
    judged = [each for each in decisions if each.rule != REFUSED]
    assert [each.evidence[ROUND] for each in decisions] == sorted(each.evidence[ROUND] for each in decisions)
    assert {each.evidence[ROUND] for each in decisions} == {1.0, 2.0}
    assert sum(REIMITATION in each.evidence for each in decisions) == 2
    assert judged
    assert all("second_gain" in each.evidence for each in judged)


def test_the_report_shows_every_stage_beside_the_control_arm_and_every_decision(done):
    summary = json.loads((done / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["stages"]}
    assert [*rows] == ["demonstrations", "imitation", "round 1", "round 2", "control"]
    assert rows["control"]["role"] == "baseline"
    assert all(rows[name]["episodes"] == 4 and rows[name]["interval"] for name in [*rows][1:])
    ticks = sum(info.result.ticks for info in infos_of(done / "dataset")[24:])
    assert rows["round 1"]["environment_steps"] + rows["round 2"]["environment_steps"] == ticks
    assert len(summary["gate_decisions"]) == len(read_decisions(done / "gate.jsonl"))
    assert {"critic, round 1", "critic, round 2"} <= summary["diagnostics"].keys()
    page = (done / "report.html").read_text()
    assert "updates accepted" in page
    assert "Round 2, imitated again" in page
    assert "Gain, second estimator" in page


def test_no_policy_of_the_run_has_other_statistics_or_another_encoder_than_the_imitation(done, imitation):
    parent = weights(Path(imitation))
    for each in (done, done / "control", done / "round-1/imitation", done / "round-2/offline"):
        found = weights(each)
        for name in parent:
            if name.startswith(("normalizer", "encoder")):
                assert torch.equal(found[name], parent[name]), (each, name)


def test_the_same_command_again_does_nothing_but_write_the_report(done, dataset, imitation):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("phase.json")}
    improve(improve_settings(imitation, dataset, done), QUIET)
    assert {path: path.stat().st_mtime_ns for path in done.rglob("phase.json")} == before


def test_a_reimitation_whose_gate_was_killed_is_judged_on_the_data_the_round_began_with(place, dataset, imitation):
    run = place / "judged-again"
    product = run / "round-1" / "imitation-gate"
    improve(short(imitation, dataset, run), QUIET)
    straight = json.loads((product / "phase.json").read_text())["facts"]
    shutil.rmtree(product)
    improve(short(imitation, dataset, run), QUIET)
    assert json.loads((product / "phase.json").read_text())["facts"] == straight


def test_aborted_demonstrations_are_left_out_and_counted(place, dataset):
    mixed = place / "mixed"
    with DatasetStore.open(dataset) as source, DatasetStore.create(str(mixed), source.spec) as target:
        episodes = [source.read(each) for each in source.episode_ids()[:4]]
        aborted = dataclasses.replace(episodes[0].result, outcome=Outcome.ABORTED)
        for episode in [dataclasses.replace(episodes[0], result=aborted), *episodes[1:]]:
            target.append(episode)
    with DatasetStore.open(str(mixed)) as source:
        first = copy_demonstrations(source, place / "copied", source.spec)
        assert first["left_out"] == {"aborted": 1}
        assert sum(first["copied"].values()) == 3
        assert copy_demonstrations(source, place / "copied", source.spec) == first


def test_an_empty_dataset_is_refused(place, imitation):
    with DatasetStore.create(str(place / "empty"), SPEC):
        pass
    with pytest.raises(NoDemonstrations, match=r"has no episodes, wanted episodes labelled success or failure"):
        improve(short(imitation, str(place / "empty"), place / "from-empty"), QUIET)


def test_rollouts_that_are_stored_already_are_not_collected_again(place, dataset):
    with DatasetStore.open(dataset) as source:
        copy_demonstrations(source, place / "resumed", source.spec)
        episodes = [source.read(each) for each in source.episode_ids()[:3]]
    asked: list[int] = []

    def collect(seeds):
        asked.extend(seeds)
        return [episodes[seed] for seed in seeds]

    append_rollouts(place / "resumed", "policy", [0, 1], collect)
    facts = append_rollouts(place / "resumed", "policy", [0, 1, 2], collect)
    assert asked == [0, 1, 2]
    assert facts["episodes"] == 3
    assert append_rollouts(place / "resumed", "policy", [0, 1, 2], collect) == facts


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rounds": 0}, RobotRLError, r"rounds is 0, wanted at least 1"),
        ({"control": "some"}, RobotRLError, r"control is 'some', wanted one of own, grown, none"),
        ({"device": "tpu"}, RobotRLError, r"device is 'tpu', wanted one of auto, cpu, cuda"),
        ({"gate": {"rule": "hope"}}, RobotRLError, r"gate\.rule is 'hope', wanted one of paired, paper"),
        ({"critic": {"expectile": 2.0}}, RobotRLError, r"critic\.expectile is 2\.0"),
        (
            {"evaluate": {"seed": 499_999, "episodes": 4}},
            RobotRLError,
            r"seed 500000 would be evaluated .*rollout_seed",
        ),
        ({"evaluate": {"seed": 20, "episodes": 4}}, RobotRLError, r"seed 20 would be evaluated .*demonstrations"),
        ({"policy": "/nowhere"}, CheckpointError, r"no checkpoint in /nowhere"),
        ({"dataset": "/nowhere"}, DatasetMissing, r"no dataset at /nowhere"),
        ({"robot": {"name": "other"}}, SpecMismatch, r"does not fit robot 'other':\n.*name"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(place, dataset, imitation, change, error, message):
    settings = improve_settings(imitation, dataset, place / "mistaken")
    for name, value in change.items():
        now = getattr(settings, name)
        if isinstance(value, dict):
            new = {**now, **value} if isinstance(now, dict) else dataclasses.replace(now, **value)
        else:
            new = value
        setattr(settings, name, new)
    with pytest.raises(error, match=message):
        improve(settings, QUIET)
    assert not (place / "mistaken").exists()


def test_a_dataset_of_another_robot_than_the_one_that_rolls_out_is_refused(place, dataset, imitation):
    other = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, low=-0.2))
    with DatasetStore.open(dataset) as source, DatasetStore.create(str(place / "other"), other) as target:
        target.append(dataclasses.replace(source.read(source.episode_ids()[0]), spec=other))
    with pytest.raises(SpecMismatch, match=r"does not fit robot .reach.(.|\n)*action\.low: dataset has -0\.2"):
        improve(short(imitation, str(place / "other"), place / "from-other"), QUIET)


def test_other_settings_on_resume_are_refused_and_named(done, dataset, imitation):
    settings = improve_settings(imitation, dataset, done)
    settings.offline.ppo.clip = 0.3
    with pytest.raises(RobotRLError, match=r"offline\.ppo\.clip: the run has 0\.1, this command 0\.3"):
        improve(settings, QUIET)


def test_every_nested_setting_can_be_overridden_on_the_command_line(capsys):
    assert cli.main(["improve", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(setting in shown for setting in ("expectile: 0.7", "clip: 0.1", "sigma_min"))
    wrong = ["improve", "policy=a", "dataset=b", "run=c", "offline.ppo.klip=0.2"]
    assert cli.main(wrong) == 2
    assert "unknown setting 'offline.ppo.klip': did you mean offline.ppo.clip" in capsys.readouterr().err


def test_asked_to_stop_in_reimitation_the_command_stops_and_goes_on_later(place, dataset, imitation, monkeypatch):
    run, train = place / "stopped", steps.train
    monkeypatch.setattr(steps, "train", lambda settings, quiet: False)
    with pytest.raises(KeyboardInterrupt):
        improve(short(imitation, dataset, run), QUIET)
    assert not (run / "round-1" / "imitation" / "phase.json").exists()
    monkeypatch.setattr(steps, "train", train)
    improve(short(imitation, dataset, run), QUIET)
    assert (run / "report.html").exists()


KILLED_AT_MOMENTS = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path

    import torch
    from rich.console import Console

    from data.archive.store import DatasetStore
    from robot_rl.commands.improve import round as rounds
    from robot_rl.commands.improve import steps
    from robot_rl.commands.improve.main import improve
    from robot_rl.run.phases import StageRun
    from tests.robot_rl.commands.improve.improve_runs import short

    imitation, dataset, run, *moments = sys.argv[1:]
    torch.set_num_threads(1)
    left = 0

    def passed():
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner, name):
        inner = getattr(owner, name)

        def wrapped(*arguments, **more):
            passed()
            result = inner(*arguments, **more)
            passed()
            return result

        setattr(owner, name, wrapped)

    around(StageRun, "_timed")
    around(DatasetStore, "append_encoded")
    around(steps, "save_checkpoint")
    around(rounds, "append_decision")

    # This process only forks: the store's threads would not outlive it.
    for moment in moments:
        left = int(moment)
        child = os.fork()
        if child == 0:
            improve(short(imitation, dataset, Path(run)), Console(quiet=True))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
)


def improve_killed(imitation: str, dataset: str, run: Path, *moments: int) -> list[int]:
    """Exit status of each attempt, killed when it has passed so many moments; 0 is never."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_MOMENTS, imitation, dataset, str(run), *map(str, moments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [*map(int, done.stdout.split())]


@pytest.mark.slow
def test_a_run_killed_at_many_moments_ends_as_an_uninterrupted_one(place, dataset, imitation):
    straight, killed = place / "straight", place / "killed"
    assert improve_killed(imitation, dataset, straight, 0) == [0]
    ends = improve_killed(imitation, dataset, killed, 2, 5, 7, 6, 8, 5, 6, 4, 0)
    assert ends[-1] == 0, ends
    assert ends.count(-signal.SIGKILL) >= 5, ends
    assert_same_weights(straight, killed)
    one, other = (read_decisions(run / "gate.jsonl") for run in (straight, killed))
    assert [each.to_json() for each in one] == [each.to_json() for each in other]
    mine, theirs = ([info.uuid for info in infos_of(run / "dataset")] for run in (straight, killed))
    assert mine == theirs
