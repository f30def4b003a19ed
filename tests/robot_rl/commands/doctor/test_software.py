"""What the doctor finds out about Python, packages, torch, its GPU and onnxruntime."""

import pytest

from robot_rl.commands.doctor import software
from robot_rl.commands.doctor.findings import Finding, ProbeFailed, Status
from robot_rl.core.errors import RobotRLError
from tests.robot_rl.commands.doctor.files_here import files


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
