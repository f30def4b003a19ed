"""Phases that are done once, whatever happens between and inside them."""

import json
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from robot_rl.core.errors import RobotRLError
from robot_rl.run.phases import StageRun

DECISIONS = {"seed": 3, "critic": {"steps": 10}}
QUIET = Console(quiet=True)


def a_run(directory: Path, decisions=DECISIONS) -> StageRun:
    return StageRun(directory, decisions, QUIET)


class CountingWork:
    def __init__(self, facts=None, error: BaseException | None = None) -> None:
        self.calls, self._facts, self._error = 0, facts or {}, error

    def __call__(self, directory: Path):
        self.calls += 1
        (directory / "product").write_text("half" if self._error else "whole")
        if self._error:
            raise self._error
        return self._facts


def test_a_phase_is_done_once_and_its_facts_are_read_back(tmp_path):
    work = CountingWork({"loss": 0.25, "kept": [1, 2]})
    first = a_run(tmp_path / "run").phase("round-0/critic", work)
    again = a_run(tmp_path / "run").phase("round-0/critic", work)
    assert work.calls == 1
    assert first == again
    assert again.facts == {"loss": 0.25, "kept": [1, 2]}
    assert (again.directory / "product").read_text() == "whole"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RobotRLError("no")])
def test_a_phase_that_is_interrupted_leaves_nothing_and_is_done_again(tmp_path, error):
    with pytest.raises(type(error)):
        a_run(tmp_path / "run").phase("critic", CountingWork(error=error))
    assert not (tmp_path / "run" / "critic").exists()
    assert a_run(tmp_path / "run").phase("critic", CountingWork({"ok": True})).facts == {"ok": True}


def test_a_resumable_phase_finds_what_it_left(tmp_path):
    def work(directory: Path):
        done = directory / "steps"
        directory.mkdir(parents=True, exist_ok=True)
        before = int(done.read_text()) if done.exists() else 0
        done.write_text(str(before + 1))
        if before == 0:
            raise KeyboardInterrupt
        return {"steps": before + 1}

    with pytest.raises(KeyboardInterrupt):
        a_run(tmp_path / "run").resumable_phase("imitation", work)
    assert not a_run(tmp_path / "run").is_done("imitation")
    assert a_run(tmp_path / "run").resumable_phase("imitation", work).facts == {"steps": 2}


def test_another_decision_is_refused_and_named(tmp_path):
    a_run(tmp_path / "run")
    with pytest.raises(RobotRLError, match=r"critic\.steps: the run has 10, this command 20"):
        a_run(tmp_path / "run", {"seed": 3, "critic": {"steps": 20}})


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RobotRLError, match="not a run of this command"):
        a_run(tmp_path)


def test_a_damaged_product_is_named_with_the_remedy(tmp_path):
    a_run(tmp_path / "run").phase("critic", CountingWork())
    (tmp_path / "run" / "critic" / "phase.json").write_text("{")
    with pytest.raises(RobotRLError, match=r"cannot read .*phase\.json.* Delete .*critic to do this phase again"):
        a_run(tmp_path / "run").phase("critic", CountingWork())


def three_phases(directory: Path, moment: int) -> None:
    """Kills its own process when it has passed as many places where a kill may come; 0 is never."""
    passed = 0

    def may_die() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    run, total = a_run(directory), 0
    for number in range(3):

        def work(place: Path, before: int = total):
            may_die()
            for part in range(2):
                (place / f"part-{part}").write_text(str(before + part))
                may_die()
            return {"total": before + 1}

        may_die()
        total = run.phase(f"round-{number}/sum", work).facts["total"]
    may_die()


def in_another_process(directory: Path, moment: int) -> int:
    child = os.fork()
    if child == 0:
        three_phases(directory, moment)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def product(run: Path) -> dict[str, str]:
    found = {}
    for path in sorted(run.rglob("*")):
        if path.is_file():
            document = path.read_text()
            name = str(path.relative_to(run))
            found[name] = json.dumps(json.loads(document)["facts"]) if path.name == "phase.json" else document
    return found


def test_a_run_killed_between_and_inside_phases_ends_with_the_same_products(tmp_path):
    assert in_another_process(tmp_path / "straight", 0) == 0
    for first in range(1, 14):
        run = tmp_path / f"killed-{first}"
        assert in_another_process(run, first) == -signal.SIGKILL
        assert all((place / "phase.json").exists() for place in run.glob("round-*/sum"))
        assert in_another_process(run, 3) == -signal.SIGKILL or first == 13
        assert in_another_process(run, 0) == 0
        assert product(run) == product(tmp_path / "straight")
