"""What the doctor finds out about the machine: cameras, timing, memory, disk, input devices, terminal."""

import os
from pathlib import Path

import pytest

from robot_rl.commands.doctor import machine, probes
from robot_rl.commands.doctor import main as doctor
from robot_rl.commands.doctor.findings import Finding, ProbeFailed, Status
from robot_rl.core.clock import SimulatedClock
from tests.robot_rl.commands.doctor.files_here import files

MS = 1_000_000


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
