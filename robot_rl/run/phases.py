"""The directory of a long command, in phases that each leave a product, so that a kill costs one phase at most.

run/config.json                 what the command decided; the same command again must agree
run/<phase>/phase.json          the phase's facts and seconds; there only when the phase is done
run/<phase>/...                 whatever the phase made

A phase is a function of the run's seeds and of earlier products. One that has its product is loaded, one without is
done again from its start; what resumes by itself, such as a training run, works in its own directory instead.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from policies.bundle import MODEL_FILE
from robot_rl.core.errors import RobotRLError
from robot_rl.core.files import atomic_directory, write_whole
from robot_rl.run.checkpoint import resolve_checkpoint
from robot_rl.run.identity import CONFIG_FILE, refuse_another_identity

PHASE_FILE = "phase.json"
Work = Callable[[Path], Mapping[str, Any]]
"""Fills the directory it is given and returns facts that `json` can write."""


@dataclass(frozen=True)
class Phase:
    """What a finished phase left.

    Attributes:
        name: Path below the run, for example `round-0/critic`.
        directory: Its product.
        facts: What its work returned, as read back from JSON.
        seconds: Wall time of the attempt that finished it [s].
    """

    name: str
    directory: Path
    facts: Mapping[str, Any]
    seconds: float


class StageRun:
    """A run directory whose phases are done once.

    Args:
        directory: Of the run; made if absent.
        identity: All that decides the products, as JSON.
        console: Where phases are announced.
        defaults: What the identity is where nobody decides, see `refuse_another_identity`.

    Raises:
        RobotRLError: The run was begun as another, or something else is in the directory.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        console: Console,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.console = console
        self.phases: list[Phase] = []
        """Finished phases, in the order in which this command asked for them."""
        if (directory / CONFIG_FILE).exists():
            _refuse_other_command(directory, identity)
            refuse_another_identity(directory, identity, defaults)
        elif directory.exists() and any(directory.iterdir()):
            raise RobotRLError(f"{directory} holds something that is not a run of this command: choose another run=...")
        else:
            write_whole(directory / CONFIG_FILE, json.dumps(identity, indent=2))

    def is_done(self, name: str) -> bool:
        """Whether a phase has its product."""
        return (self.directory / name / PHASE_FILE).exists()

    def phase(self, name: str, work: Work) -> Phase:
        """Does a phase unless it is done; its product appears whole or not at all."""
        final = self.directory / name

        def whole() -> None:
            # Only an earlier version of this software, or a hand, can have left a folder without its facts.
            if final.exists():
                shutil.rmtree(final)
            with atomic_directory(final) as partial:
                self._timed(partial, work)

        return self._once(name, whole)

    def resumable_phase(self, name: str, work: Work) -> Phase:
        """Does a phase that resumes by itself in its own directory, which is kept between attempts."""
        return self._once(name, lambda: self._timed(self.directory / name, work))

    def _once(self, name: str, do: Callable[[], None]) -> Phase:
        if self.is_done(name):
            phase = self._read(name)
            self.console.print(f"{name}: done before, {phase.seconds:.1f} s", style="dim")
        else:
            self.console.print(f"{name} ...", style="bold")
            do()
            phase = self._read(name)
        self.phases.append(phase)
        return phase

    def _timed(self, directory: Path, work: Work) -> None:
        begun = time.perf_counter()
        facts = dict(work(directory))
        document = {"facts": facts, "seconds": time.perf_counter() - begun}
        write_whole(directory / PHASE_FILE, json.dumps(document, indent=2))

    def _read(self, name: str) -> Phase:
        path = self.directory / name / PHASE_FILE
        try:
            document = json.loads(path.read_text())
            return Phase(name, path.parent, document["facts"], float(document["seconds"]))
        except (OSError, ValueError, KeyError) as error:
            raise RobotRLError(f"cannot read {path}: {error}. Delete {path.parent} to do this phase again") from error


def _refuse_other_command(directory: Path, identity: Mapping[str, Any]) -> None:
    """Only runs in phases name their command; a run of `robot-rl train` does not."""
    other = json.loads((directory / CONFIG_FILE).read_text()).get("command", "train")
    mine = identity.get("command", other)
    if other != mine:
        raise RobotRLError(
            f"{directory} is a run of robot-rl {other}, wanted one of robot-rl {mine} or a directory that is not there "
            "yet: choose another run=..."
        )


def checkpoint_to_improve(policy: str) -> Path:
    """The checkpoint that a run or directory names.

    Raises:
        RobotRLError: It is an exported bundle, which cannot learn.
        CheckpointError: There is none.
    """
    if (Path(policy) / MODEL_FILE).is_file():
        raise RobotRLError(
            f"policy={policy} is an exported bundle, which cannot learn: give the run that it was exported from"
        )
    return resolve_checkpoint(Path(policy))
