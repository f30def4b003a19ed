"""`robot-rl data`: every verb on a real dataset on disk, and what it says to a mistake."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data.archive.store import DatasetStore
from robot_rl.commands.data.console import UsageError
from robot_rl.commands.data.main import main, select_episodes
from robot_rl.commands.data.table import Row, driven_by, size_words, table, time_words
from robot_rl.core.episode import Outcome
from tests.data.sound_episodes import SPEC, make_episode
from tests.robot_rl.commands.data.labelled_episodes import EPISODES, ids_of


def test_help_answers_without_importing_anything_heavy():
    code = (
        "import sys; from robot_rl.commands.data.main import main; main(['--help']); main(['export', '--help']);"
        "sys.exit(bool({'numpy.random', 'zarr', 'icechunk', 'rerun', 'torch', 'rich', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: verb"),
        (["list"], "choose from"),
        (["ls"], "required: dataset"),
        (["gc", "x"], "--older-than"),
        (["gc", "x", "--older-than", "30"], "for example 30d"),
        (["import", "rlds", "a", "b"], "diffusion-policy"),
        (["import", "diffusion-policy", "a", "b", "--control-hz", "0"], "no positive number"),
        (["import", "diffusion-policy", "a", "b", "--outcome", "good"], "success"),
    ],
)
def test_a_mistyped_command_says_what_was_wanted(argv: list[str], message: str, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["ls"],
        ["show", "0"],
        ["verify"],
        ["delete", "0", "--yes"],
        ["tag"],
        ["tag", "v1"],
        ["history"],
        ["gc", "--older-than", "1d"],
        ["recover"],
    ],
)
def test_a_dataset_that_is_not_there_is_named_and_not_made(argv: list[str], tmp_path: Path, capsys):
    missing = tmp_path / "missing"
    assert main([argv[0], str(missing), *argv[1:]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"robot-rl data {argv[0]}: no dataset at {missing}" in error
    assert not missing.exists()


def test_ls_shows_every_episode_and_the_totals(dataset: str, capsys):
    assert main(["ls", dataset]) == 0
    shown = capsys.readouterr().out
    [row] = [line for line in shown.splitlines() if line.startswith("000002")]
    assert row.split()[:7] == ["000002", "reach", "failure", "12", "0.6", "operator", "25"]
    assert "2026-01-01 00:00" in row
    assert "camera: 8 x 6 x 3 uint8 [rgb], png" in shown
    assert "4 episodes (3 success, 1 failure), 2.4 s" in shown
    assert f"snapshot {DatasetStore.open(dataset).snapshot}" in shown


def test_ls_keeps_ids_and_outcomes_whole_in_a_narrow_terminal(dataset: str):
    with DatasetStore.open(dataset) as store:
        rows = [
            Row(
                "000000",
                "a-task-with-a-long-name",
                "success",
                250,
                12.5,
                0.25,
                123456,
                "somebody",
                "2026-01-01T00:00:00",
            )
        ]
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(table(store, rows))
    [row] = [line for line in console.export_text().splitlines() if line.startswith("000000")]
    assert len(row) <= 80
    for whole in ("000000", "success", "250", "12.5", "operator 25 %", "123456"):
        assert whole in row


def test_ls_for_machines_is_json_with_the_same_facts(dataset: str, capsys):
    main(["tag", dataset, "v1"])
    capsys.readouterr()
    assert main(["ls", dataset, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tags"] == {"v1": document["snapshot"]}
    assert document["spec"] == json.loads(json.dumps(SPEC.to_json()))
    assert [row["operator_share"] for row in document["episodes"]] == [1.0, 1.0, 0.25, 1.0]
    assert {row["ticks"] for row in document["episodes"]} == {12}


def test_ls_of_an_empty_dataset_says_so(tmp_path: Path, capsys):
    DatasetStore.create(str(tmp_path / "new"), SPEC).close()
    assert main(["ls", str(tmp_path / "new")]) == 0
    assert "0 episodes, 0.0 s, 0 B" in capsys.readouterr().out


def test_ls_shows_a_damaged_episode_beside_the_others(dataset: str, capsys):
    damage_numbers_of_one_episode(dataset)
    assert main(["ls", dataset]) == 0
    shown = capsys.readouterr().out
    assert "damaged" in shown
    assert sum(line.startswith("00000") for line in shown.splitlines()) == EPISODES


def damage_numbers_of_one_episode(url: str) -> None:
    """Loses the smallest files, which say where an episode's numbers are, one by one till an episode is unreadable."""
    for path in sorted(Path(url).glob("icechunk/manifests/*"), key=lambda path: path.stat().st_size):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with DatasetStore.open(url) as store:
            if any(_unreadable(store, each) for each in store.episode_ids()):
                return
        path.write_bytes(content)
    raise AssertionError("no manifest matters to the ticks")


def _unreadable(store: DatasetStore, episode_id: str) -> bool:
    try:
        store.read(episode_id, [])
    except Exception:
        return True
    return False


def test_verify_is_quiet_about_sound_data(dataset: str, capsys):
    assert main(["verify", dataset]) == 0
    assert capsys.readouterr().out == "4 episodes read: nothing wrong\n"


def test_verify_reports_and_returns_one(dataset: str, capsys):
    broken = make_episode(seed=9)
    broken.applied[3, 1] = np.nan
    with DatasetStore.open(dataset, writable=True) as store:
        store.append(broken)
    assert main(["verify", dataset]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "error 000004: applied: nan at tick 3 element [1] (1 of 12 ticks); wanted finite",
        "5 episodes read: 1 finding in 1 of them",
    ]
    assert main(["verify", dataset, "0-3"]) == 0


def test_verify_can_leave_warnings_out(tmp_path: Path, capsys):
    episode = make_episode()
    late = dataclasses.replace(episode, stamps_ns=episode.stamps_ns + 10**9 * (np.arange(12) > 5))
    with DatasetStore.create(str(tmp_path / "slow"), SPEC) as store:
        store.append(late)
    assert main(["verify", str(tmp_path / "slow")]) == 1
    assert "warning 000000: stamps_ns: 1 gap(s)" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "slow"), "--errors-only"]) == 0


def test_deleted_episodes_are_gone_but_an_older_snapshot_keeps_them(dataset: str, capsys):
    before = DatasetStore.open(dataset).snapshot
    assert main(["delete", dataset, "1", "2-3", "--yes"]) == 0
    assert f"snapshot {before} still holds them" in capsys.readouterr().out
    assert ids_of(dataset) == ["000000"]
    assert main(["ls", dataset, "--snapshot", before]) == 0
    assert "4 episodes" in capsys.readouterr().out


def test_an_unknown_episode_deletes_nothing_and_says_what_is_there(dataset: str, capsys):
    assert main(["delete", dataset, "1", "17", "--yes"]) == 2
    assert "no episode '17' in the dataset: it has 4, 000000 to 000003" in capsys.readouterr().err
    assert len(ids_of(dataset)) == EPISODES


def test_delete_asks_a_person_and_refuses_where_nobody_is(dataset: str, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", _Terminal("n\n"))
    assert main(["delete", dataset, "1"]) == 2
    assert "delete 1 episode(s), 000001" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", _Terminal("y\n", there=False))
    assert main(["delete", dataset, "1"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert len(ids_of(dataset)) == EPISODES
    monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
    assert main(["delete", dataset, "1"]) == 0
    assert ids_of(dataset) == ["000000", "000002", "000003"]


class _Terminal:
    def __init__(self, answer: str, there: bool = True) -> None:
        self.answer, self.there = answer, there

    def isatty(self) -> bool:
        return self.there

    def readline(self) -> str:
        return self.answer


def test_a_tag_names_a_state_that_can_be_opened_again(dataset: str, capsys):
    assert main(["tag", dataset, "v1"]) == 0
    main(["delete", dataset, "0", "--yes"])
    capsys.readouterr()
    assert main(["ls", dataset, "--snapshot", "v1"]) == 0
    assert "4 episodes" in capsys.readouterr().out
    assert main(["tag", dataset]) == 0
    assert capsys.readouterr().out.startswith("v1  ")
    assert main(["tag", dataset, "v1"]) == 2
    assert "has a tag 'v1' already" in capsys.readouterr().err


def test_history_lists_every_change_newest_first(dataset: str, capsys):
    main(["delete", dataset, "0", "--yes"])
    main(["tag", dataset, "v1"])
    capsys.readouterr()
    assert main(["history", dataset]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "delete 000000" in lines[1]
    assert "v1" in lines[1]
    assert "episode 000003" in lines[2]


def test_garbage_collection_forgets_deleted_episodes_but_not_tagged_ones(dataset: str, capsys):
    untagged = DatasetStore.open(dataset).snapshot
    main(["delete", dataset, "3", "--yes"])
    main(["tag", dataset, "keep"])
    main(["delete", dataset, "2", "--yes"])
    assert main(["gc", dataset, "--older-than", "0d"]) == 0
    capsys.readouterr()
    assert ids_of(dataset) == ["000000", "000001"]
    with DatasetStore.open(dataset, snapshot="keep") as store:
        assert store.read("000002").result.outcome is Outcome.FAILURE
    assert main(["ls", dataset, "--snapshot", untagged]) == 2
    assert f"no snapshot or tag '{untagged}'" in capsys.readouterr().err
    assert main(["verify", dataset]) == 0


def test_garbage_collection_keeps_what_is_younger(dataset: str):
    before = DatasetStore.open(dataset).snapshot
    main(["delete", dataset, "3", "--yes"])
    assert main(["gc", dataset, "--older-than", "30d"]) == 0
    assert len(DatasetStore.open(dataset, snapshot=before).episode_ids()) == EPISODES


def test_a_writer_elsewhere_is_a_clear_message(dataset: str, capsys):
    with DatasetStore.open(dataset, writable=True):
        assert main(["delete", dataset, "0", "--yes"]) == 2
    assert "is being written by process" in capsys.readouterr().err


CRASH = """
import os, signal, sys, time
from data.recorder.writer import EpisodeWriter
from tests.data.recordings import SPEC, header, steps
with EpisodeWriter(sys.argv[1], SPEC) as writer:
    writer.begin(SPEC, header(1))
    for step in steps(1, 7):
        writer.append(step)
    while writer.acknowledged < 7:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_recording_that_a_crash_left_behind_is_recovered_as_aborted(tmp_path: Path, capsys):
    url = str(tmp_path / "toy")
    assert subprocess.run([sys.executable, "-c", CRASH, url], check=False).returncode == -9
    assert main(["recover", url]) == 0
    assert "7 ticks: episode 000000, aborted" in capsys.readouterr().out
    assert DatasetStore.open(url).info("000000").result.outcome is Outcome.ABORTED
    assert main(["recover", url]) == 0
    assert "nothing to recover" in capsys.readouterr().out


@given(numbers=st.sets(st.integers(0, 40), min_size=1), first=st.integers(0, 45), length=st.integers(0, 10))
def test_a_range_selects_what_is_there_between_its_ends(numbers: set[int], first: int, length: int):
    ids = [f"{number:06d}" for number in sorted(numbers)]
    wanted = [f"{number:06d}" for number in range(first, first + length + 1) if number in numbers]
    if wanted:
        assert select_episodes([f"{first}-{first + length}"], ids) == wanted
    else:
        with pytest.raises(UsageError, match=f"{ids[0]} to {ids[-1]}"):
            select_episodes([f"{first}-{first + length}"], ids)


def test_episodes_are_named_by_number_id_range_or_last_and_come_once_each():
    ids = ["000000", "000002", "000005", "000007"]
    assert select_episodes(["last", "000002", "2", "0-4"], ids) == ["000000", "000002", "000007"]
    for word in ("x", "-1", "3-1", "1.5", "", "3"):
        with pytest.raises(UsageError, match=f"no episode '{word}'"):
            select_episodes([word], ids)
    with pytest.raises(UsageError, match="it is empty"):
        select_episodes(["last"], [])


def test_numbers_read_well():
    assert [size_words(size) for size in (0, 999, 73_400, 999_950, 38_400_000, 2e9)] == [
        "0 B",
        "999 B",
        "73.4 kB",
        "1.0 MB",
        "38.4 MB",
        "2.0 GB",
    ]
    assert [time_words(seconds) for seconds in (0, 119, 2565, 36_000)] == ["0.0 s", "119.0 s", "42.8 min", "10.00 h"]
    assert [driven_by(share) for share in (0.0, 0.001, 0.25, 0.9999, 1.0)] == [
        "policy",
        "operator 1 %",
        "operator 25 %",
        "operator 99 %",
        "operator",
    ]
