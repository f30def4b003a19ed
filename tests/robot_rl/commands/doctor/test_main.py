"""`robot-rl doctor`: checks and their probes, the robot, and what is told."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from robot_rl.commands.doctor import main as doctor
from robot_rl.commands.doctor import probes
from robot_rl.commands.doctor.findings import Check, Finding, ProbeFailed, ProbeRefused, Status, run_probe
from robot_rl.core.errors import HelpRequested, RobotRLError
from tests.robot_rl.commands.doctor.files_here import files

MS = 1_000_000
ROOT = Path(__file__).resolve().parents[4]


def test_a_check_that_crashes_is_itself_a_finding():
    def crash() -> Finding:
        raise ZeroDivisionError("by nothing")

    optional, required = Check("x", crash).run(), Check("x", crash, required=True).run()
    assert (optional.status, optional.is_blocking) == (Status.WARN, False)
    assert (required.status, required.is_blocking) == (Status.MISSING, True)
    assert "ZeroDivisionError: by nothing" in required.detail
    assert required.remedy


def test_only_a_missing_required_thing_blocks():
    assert [
        Finding("x", status, "", required=required).is_blocking
        for status in Status
        for required in (False, True)
    ] == [False, False, False, False, False, True]  # fmt: skip


def probe_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    (tmp_path / "a_probe.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "a_probe"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
        ("raise ImportError('libEGL.so.1: cannot open')", "ImportError: libEGL.so.1: cannot open"),
        ("raise ValueError('no such key\\n    full_key: a\\n    object: b')", "ValueError: no such key"),
        ("print('hello')", "gave no answer"),
        ("print('[1]')", "no JSON object"),
        ('print(\'{"error": "no OpenGL"}\')', "no OpenGL"),
    ],
)
def test_a_probe_that_dies_hangs_or_babbles_does_not_take_the_doctor_along(tmp_path, monkeypatch, code, words):
    module = probe_module(tmp_path, monkeypatch, code)
    with pytest.raises(ProbeFailed, match=words):
        run_probe(module, [], timeout_s=0.5 if "sleep" in code else 30)


def test_a_probe_answers_with_its_last_line(tmp_path, monkeypatch):
    code = "import sys; print('a library says hello'); print('{\"word\": \"' + sys.argv[1] + '\"}')"
    assert run_probe(probe_module(tmp_path, monkeypatch, code), ["yes"], timeout_s=30) == {"word": "yes"}


def test_settings_are_read_without_hydra():
    settings = doctor.parse(["directory=/data", "seconds=0.5"])
    assert (settings.directory, settings.seconds) == ("/data", 0.5)
    assert settings.robot == "metaworld,pusht"


@pytest.mark.parametrize("argument", ["speed=1", "directory", "--verbose"])
def test_an_unknown_setting_lists_the_valid_ones(argument):
    with pytest.raises(RobotRLError, match=r"robot=\.\.\., directory=\.\.\., seconds=\.\.\., move=\.\.\., --json"):
        doctor.parse([argument])


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_seconds_must_be_positive(seconds):
    with pytest.raises(RobotRLError, match="wanted a positive number"):
        doctor.parse([f"seconds={seconds}"])


def test_help_lists_every_setting():
    with pytest.raises(HelpRequested, match=r"(?s)robot.*directory.*seconds.*move"):
        doctor.parse(["--help"])


def test_an_unknown_robot_lists_those_that_exist(tmp_path, monkeypatch):
    files(tmp_path, {"robot/pusht.yaml": "", "robot/metaworld.yaml": ""})
    monkeypatch.setenv("ROBOT_RL_CONFIGS", "")
    monkeypatch.setattr(doctor, "CONFIGS", tmp_path)
    with pytest.raises(RobotRLError, match="no robot 'pusth'; configs/robot/ holds metaworld, pusht"):
        doctor.parse(["robot=pusth"])


GOOD = Finding("torch", Status.OK, "2.13.0", required=True)
OPTIONAL = Finding("cameras", Status.MISSING, "none", "plug one in")
BLOCKING = Finding("disk", Status.MISSING, "read-only", "choose another disk", required=True)


def shown(findings: list[Finding], width: int = 60) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    assert doctor.show(findings, console) == findings
    return console.export_text()


def test_the_verdict_names_what_is_missing_and_remedies_stand_below():
    text = shown([GOOD, OPTIONAL, BLOCKING])
    assert "Not ready for the simulated path; missing: disk." in text
    assert "-> plug one in" in text
    assert "Ready for the simulated path. 1 optional line" in shown([GOOD, OPTIONAL])


def test_the_spinner_does_not_hide_the_terminal_from_its_check(monkeypatch):
    class Screen(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stdin", screen)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((100, 40)))
    found = [check for check in doctor.checks(doctor.DoctorSettings(robot="")) if check.name == "terminal"]
    console = Console(file=screen, force_terminal=True, width=100)
    assert doctor.show((check.run() for check in found), console)[0].status is Status.OK


def test_long_details_wrap_within_their_column():
    lines = shown([Finding("x", Status.WARN, "word " * 40, "do " * 40)]).splitlines()
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * 29) for line in lines[1:10])


def one_check(monkeypatch: pytest.MonkeyPatch, finding: Finding) -> None:
    checks = [Check(finding.name, lambda: finding, finding.required)]
    monkeypatch.setattr(doctor, "checks", lambda settings: checks)


def test_the_exit_status_is_1_only_for_a_missing_required_thing(monkeypatch, capsys):
    for finding, status in ((GOOD, 0), (OPTIONAL, 0), (BLOCKING, 1)):
        one_check(monkeypatch, finding)
        assert doctor.main(["--json"]) == status
        document = json.loads(capsys.readouterr().out)
        assert document == {"ready": status == 0, "findings": [finding.to_json()]}
        assert doctor.main([]) == status
        assert finding.name in capsys.readouterr().out


def test_the_contract_check_speaks_through_the_doctor(monkeypatch):
    good = {"violations": [], "seconds": 1.5, "driven": True}
    answers = iter([good, {**good, "violations": ["reset(7) differs", "lies"]}])
    monkeypatch.setattr(doctor, "run_probe", lambda *_: next(answers))
    assert doctor.robot("a").status is Status.OK
    broken = doctor.robot("b")
    assert broken.status is Status.MISSING
    assert "reset(7) differs; lies" in broken.detail


def test_a_simulated_robot_is_put_through_the_contract():
    finding = doctor.robot("pusht")
    assert (finding.status, finding.remedy) == (Status.OK, "")
    assert "keeps the contract" in finding.detail


def configured_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A robot of somebody else's package that leaves a file behind when it moves; its path."""
    moved = tmp_path / "moved"
    code = f"""
from pathlib import Path
from hardware.sim.pusht import PushTRobot
class Arm(PushTRobot):
    def apply(self, action):
        Path({str(moved)!r}).touch()
        return super().apply(action)
"""
    files(tmp_path, {"my_arm.py": code})
    yaml = (ROOT / "configs/robot/pusht.yaml").read_text().replace("hardware.sim.pusht.PushTRobot", "my_arm.Arm")
    files(tmp_path, {"configs/robot/arm.yaml": yaml})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ROBOT_RL_CONFIGS", str(tmp_path / "configs"))
    return moved


def test_a_robot_that_is_no_simulation_is_not_moved_unless_the_user_says_so(tmp_path, monkeypatch):
    moved = configured_arm(tmp_path, monkeypatch)
    answer = doctor.PROBES["robot"]("arm", "no")
    assert (answer["driven"], answer["violations"], moved.exists()) == (False, [], False)
    assert doctor.PROBES["robot"]("arm", "yes")["driven"]
    assert moved.exists()


def test_a_robot_that_was_not_driven_is_a_warning_that_says_how(monkeypatch):
    monkeypatch.setattr(doctor, "run_probe", lambda *_: {"violations": [], "seconds": 1.0, "driven": False})
    finding = doctor.robot("ur5")
    assert finding.status is Status.WARN
    assert "robot-rl doctor robot=ur5 move=yes" in finding.remedy


def test_move_is_yes_or_no():
    assert doctor.parse(["move=yes"]).move == "yes"
    with pytest.raises(RobotRLError, match="wanted yes or no"):
        doctor.parse(["move=1"])


def test_a_robot_whose_yaml_is_incomplete_is_told_in_its_own_words(monkeypatch):
    def refuse(*_: object) -> dict:
        raise ProbeRefused("limits.max_step is missing")

    monkeypatch.setattr(doctor, "run_probe", refuse)
    finding = doctor.robot("a")
    assert (finding.status, finding.detail) == (Status.MISSING, "limits.max_step is missing")


def test_missing_gl_names_the_package_and_blocks_nothing(monkeypatch):
    def crash(*_: object) -> dict:
        raise ProbeFailed("its process was killed by SIGSEGV")

    monkeypatch.setattr(doctor, "run_probe", crash)
    finding = Check("Meta-World cameras", doctor.rendering).run()
    assert finding.status is Status.MISSING
    assert not finding.is_blocking
    assert "libegl1" in finding.remedy


def test_torch_multiplies_rightly_here():
    assert probes.torch_facts()["threads"] >= 1


def test_the_doctor_itself_loads_no_torch():
    code = "import sys, robot_rl.commands.doctor.main; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_probes_answer_for_real(tmp_path):
    assert run_probe("robot_rl.commands.doctor.probes", ["onnxruntime"], 60)["providers"]
    assert run_probe("robot_rl.commands.doctor.probes", ["video"], 60)["encoder"] == "libx264"
    assert set(run_probe("robot_rl.commands.doctor.probes", ["realtime"], 60)) == {"permitted"}
    assert run_probe("robot_rl.commands.doctor.probes", ["camera", str(tmp_path / "video0")], 60) == {"opened": False}


def test_every_check_of_this_machine_gives_a_finding():
    settings = doctor.DoctorSettings(robot="", seconds=0.05)
    quick = [check for check in doctor.checks(settings) if check.name not in {"Meta-World cameras", "torch", "GPU"}]
    findings = [check.run() for check in quick]
    assert not [finding for finding in findings if finding.detail.startswith("the check failed")]
    assert np.unique([finding.name for finding in findings]).size == len(findings)
