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

from robot_rl.commands.doctor import machine, probes, software
from robot_rl.commands.doctor import main as doctor
from robot_rl.commands.doctor.findings import Check, Finding, ProbeFailed, ProbeRefused, Status, run_probe
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import HelpRequested, RobotRLError

MS = 1_000_000
ROOT = Path(__file__).resolve().parents[4]


def files(root: Path, contents: dict[str, str]) -> Path:
    """A file system root that holds only what is given."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


class LateClock(SimulatedClock):
    """Virtual time that wakes late by the next of some delays."""

    def __init__(self, delays_ms: list[float]) -> None:
        super().__init__()
        self._delays_ms = list(delays_ms)

    def sleep_until_ns(self, deadline_ns: int) -> None:
        super().sleep_until_ns(deadline_ns + round(self._delays_ms.pop(0) * MS))


class FakeCamera:
    """Delivers a frame every `period_ms` of virtual time, for `frames` frames."""

    def __init__(self, period_ms: float, frames: int) -> None:
        self.now, self._period, self._left = 0, round(period_ms * MS), frames

    def read(self) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self.now += self._period
        return True

    def rate(self, frames: int = 30, timeout_s: float = 10.0) -> dict:
        return probes.measured_rate(self.read, frames, timeout_s, lambda: self.now)


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


def test_a_camera_that_delivers_half_of_what_it_reports_is_measured():
    rate = FakeCamera(period_ms=1000 / 15, frames=100).rate()
    assert rate["fps"] == pytest.approx(15.0, abs=0.01)
    assert rate["worst_gap_ms"] == pytest.approx(66.7, abs=0.1)


def test_a_camera_that_stops_delivering_has_no_rate():
    assert FakeCamera(period_ms=30, frames=3).rate()["fps"] is None
    assert FakeCamera(period_ms=30, frames=0).rate()["fps"] is None


def test_a_slow_camera_is_given_up_at_the_timeout():
    camera = FakeCamera(period_ms=1000, frames=1000)
    assert camera.rate(timeout_s=12.0)["frames"] == 7
    assert camera.now <= 13_000 * MS


def camera_root(tmp_path: Path) -> Path:
    return files(
        tmp_path,
        {
            "dev/video0": "",
            "dev/video1": "",
            "dev/video10": "",
            "dev/video2": "",
            "sys/class/video4linux/video0/index": "0\n",
            "sys/class/video4linux/video1/index": "1\n",
            "sys/class/video4linux/video2/index": "0\n",
        },
    )


def test_metadata_nodes_are_not_taken_for_cameras(tmp_path):
    names = [Path(device).name for device in machine.capture_devices(camera_root(tmp_path))]
    assert names == ["video0", "video2", "video10"]


def test_every_camera_is_told_with_its_true_rate_and_the_remedy_of_the_worst(tmp_path):
    answers = {
        "video0": {"opened": True, "size": [640, 480], "fps": 29.9, "reported_fps": 30.0, "worst_gap_ms": 35.0},
        "video2": {"opened": True, "size": [1280, 720], "fps": 14.8, "reported_fps": 30.0, "worst_gap_ms": 70.0},
        "video10": {"opened": False},
    }
    finding = machine.cameras(camera_root(tmp_path), lambda device: answers[Path(device).name])
    assert finding.status is Status.WARN
    assert "640x480, 29.9 Hz measured, 30.0 reported" in finding.detail
    assert "1280x720, 14.8 Hz measured" in finding.detail
    assert "video10: cannot be opened" in finding.detail
    assert "exposure" in finding.remedy
    assert "fuser" in finding.remedy


def test_a_camera_whose_driver_hangs_is_a_finding(tmp_path):
    def hang(device: str) -> dict:
        raise ProbeFailed("no answer within 30 s")

    root = files(tmp_path, {"dev/video0": ""})
    finding = machine.cameras(root, hang)
    assert finding.status is Status.WARN
    assert "no answer within 30 s" in finding.detail


def test_no_camera_is_missing_but_blocks_nothing(tmp_path):
    finding = machine.cameras(tmp_path)
    assert finding.status is Status.MISSING
    assert not finding.is_blocking
    assert "simulated robots need none" in finding.detail


def forbid(path: Path, mode: int) -> None:
    path.chmod(mode)
    if os.access(path, os.W_OK):
        pytest.skip("this user may open everything, whatever its mode")


def test_a_camera_without_permission_names_the_group(tmp_path):
    root = files(tmp_path, {"dev/video0": ""})
    forbid(root / "dev/video0", 0)
    assert "usermod -aG video" in machine.cameras(root).remedy


def timing_of(delays_ms: list[float]) -> Finding:
    return machine.timing(lambda: probes.timing_facts("2", LateClock(delays_ms)))


def test_timing_tells_lateness_and_warns_when_late():
    on_time = timing_of([0.05] * 200)
    assert on_time.status is Status.OK
    assert "p50 0.050, p99 0.050, max 0.050 ms, 0 missed" in on_time.detail
    late = timing_of([0.05] * 190 + [6.0] * 10)
    assert late.status is Status.WARN
    assert "max 6.000 ms, 0 missed" in late.detail


def test_a_stall_of_the_machine_is_told_as_missed_deadlines():
    stalled = timing_of([0.05] * 100 + [35.0] + [0.05] * 100)
    assert stalled.status is Status.WARN
    assert " 4 missed" in stalled.detail


def test_realtime_scheduling_names_the_limits_file():
    assert machine.realtime(lambda: {"permitted": True}).status is Status.OK
    refused = machine.realtime(lambda: {"permitted": False})
    assert refused.status is Status.WARN
    assert "/etc/security/limits.d/" in refused.remedy


@pytest.mark.parametrize(("governor", "status"), [("performance", Status.OK), ("powersave", Status.WARN)])
def test_a_saving_governor_is_named_with_its_remedy(tmp_path, monkeypatch, governor, status):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    root = files(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": f"{governor}\n"})
    finding = machine.processor(root)
    assert finding.status is status
    assert f"4 cores, {os.uname().machine}, governor {governor}" in finding.detail
    assert ("cpupower" in finding.remedy) == (status is Status.WARN)


@pytest.mark.parametrize(("available_kb", "status"), [(16_000_000, Status.OK), (1_000_000, Status.WARN)])
def test_little_memory_is_a_warning(tmp_path, available_kb, status):
    root = files(tmp_path, {"proc/meminfo": f"MemTotal: 32000000 kB\nMemAvailable: {available_kb} kB\n"})
    assert machine.memory(root).status is status


def test_the_disk_is_measured_and_left_as_it_was(tmp_path):
    finding = machine.disk(tmp_path / "not" / "yet" / "there", test_mb=2)
    assert finding.status in {Status.OK, Status.WARN}
    assert "MB/s written and synced" in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_disk_is_missing(tmp_path):
    forbid(tmp_path, 0o500)
    assert machine.disk(tmp_path / "datasets", test_mb=1).status is Status.MISSING


def test_only_gamepads_and_space_mice_count_as_input_devices(tmp_path):
    root = files(
        tmp_path,
        {
            "dev/input/event0": "",
            "dev/input/event4": "",
            "dev/hidraw0": "",
            "dev/hidraw1": "",
            "sys/class/input/event0/device/name": "AT keyboard",
            "sys/class/input/event0/device/capabilities/key": "fffffffffffffffe",
            "sys/class/input/event0/device/capabilities/abs": "0",
            "sys/class/input/event4/device/name": "X-Box pad",
            "sys/class/input/event4/device/capabilities/key": "7cdb000000000000 0 0 0 0",
            "sys/class/input/event4/device/capabilities/abs": "3003f",
            "sys/class/hidraw/hidraw0/device/uevent": "HID_ID=0003:0000046D:0000C52B\nHID_NAME=Receiver\n",
            "sys/class/hidraw/hidraw1/device/uevent": "HID_ID=0003:0000256F:0000C635\nHID_NAME=Puck\n",
        },
    )
    found = doctor.input_devices(root)
    assert [(each.kind, each.name, each.path.name) for each in found] == [
        ("gamepad", "X-Box pad", "event4"),
        ("SpaceMouse", "Puck", "hidraw1"),
    ]
    assert machine.input_devices(found).status is Status.OK
    assert machine.input_devices(doctor.input_devices(tmp_path / "empty")).status is Status.MISSING


def test_an_input_device_that_may_not_be_read_is_named_with_its_remedy():
    devices = [
        machine.InputDevice("gamepad", "Pad", Path("/dev/input/event4"), True, "join the group"),
        machine.InputDevice("SpaceMouse", "Puck", Path("/dev/hidraw1"), False, "write a udev rule"),
    ]
    finding = machine.input_devices(devices)
    assert finding.status is Status.WARN
    assert finding.detail == "gamepad Pad, /dev/input/event4: readable; SpaceMouse Puck, /dev/hidraw1: no permission"
    assert finding.remedy == "SpaceMouse: write a udev rule"


@pytest.mark.parametrize(
    ("is_terminal", "size", "encoding", "status"),
    [
        (True, (120, 40), "utf-8", Status.OK),
        (False, (120, 40), "utf-8", Status.WARN),
        (True, (60, 20), "utf-8", Status.WARN),
        (True, (120, 40), "ascii", Status.WARN),
    ],
)
def test_a_terminal_must_be_one_be_large_and_speak_utf8(is_terminal, size, encoding, status):
    finding = machine.terminal({"TERM": "xterm-256color"}, is_terminal, size, encoding)
    assert finding.status is status
    assert bool(finding.remedy) == (status is not Status.OK)


def test_an_old_python_is_refused():
    assert software.python((3, 10, 12)).status is Status.MISSING
    assert software.python((3, 11, 0)).status is Status.OK


LOCK = """# a comment
numpy==2.4.6   # with a reason
torch==2.13.0
pywin32==306 ; sys_platform == "win32"
"""


def test_packages_are_compared_with_what_is_pinned(tmp_path):
    files(tmp_path, {"requirements.txt": LOCK, "requirements.lock": LOCK})

    def status(installed: dict[str, str], only_needed: bool) -> Finding:
        return software.packages(tmp_path, installed.get, only_needed)

    good = status({"numpy": "2.4.6", "torch": "2.13.0+cpu"}, True)
    assert (good.status, good.detail) == (Status.OK, "all 2 of requirements.txt as pinned")
    other = status({"numpy": "2.5.0", "torch": "2.13.0"}, True)
    assert (other.status, other.detail) == (Status.WARN, "other than pinned: numpy 2.5.0 (pinned 2.4.6)")
    assert "requirements.lock" in other.remedy
    assert status({"torch": "2.13.0"}, True).status is Status.MISSING
    assert status({"torch": "2.13.0"}, False).status is Status.WARN


def test_a_plain_install_without_a_lock_is_no_fault(tmp_path):
    assert software.packages(tmp_path).status is Status.OK


@pytest.mark.parametrize("line", ["numpy>=2", "numpy", "num py=="])
def test_a_line_that_pins_nothing_is_named(tmp_path, line):
    files(tmp_path, {"requirements.lock": line})
    with pytest.raises(RobotRLError, match=r"requirements\.lock"):
        software.pinned_versions(tmp_path / "requirements.lock")


def fail() -> dict:
    raise ProbeFailed("ModuleNotFoundError: No module named 'torch'")


def test_torch_and_its_gpu_are_told_apart(tmp_path):
    cpu = {"version": "2.13.0+cpu", "cuda_build": None, "devices": [], "threads": 8}
    blind = {"version": "2.13.0", "cuda_build": "13.0", "devices": [], "threads": 8}
    card = {"version": "2.13.0", "cuda_build": "13.0", "devices": ["NVIDIA A", "NVIDIA B"], "threads": 8}
    with_driver = files(tmp_path, {"proc/driver/nvidia/version": "NVRM 580"})
    assert software.torch(fail).status is Status.MISSING
    assert software.torch(lambda: cpu).detail == "2.13.0+cpu on CPU with 8 threads"
    assert software.gpu(lambda: cpu, tmp_path / "bare").status is Status.MISSING
    assert "CPU build" in software.gpu(lambda: cpu, with_driver).detail
    assert "sees no GPU" in software.gpu(lambda: blind, with_driver).detail
    assert software.gpu(lambda: card, with_driver).detail == "NVIDIA A, NVIDIA B"


def test_missing_onnxruntime_blocks_but_missing_video_does_not():
    assert software.onnxruntime(fail).status is Status.MISSING
    assert software.video(fail).status is Status.WARN


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
