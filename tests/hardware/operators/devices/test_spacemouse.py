import errno
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.devices.device_events import DeviceMissing, DeviceReader
from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.devices.event_recording import EventRecording
from hardware.operators.devices.spacemouse import (
    AXES,
    BUTTON_NAMES,
    MULTI_AXIS,
    REST_AFTER_S,
    SpaceMouseDecoder,
    connect_spacemouse,
    hid_nodes,
    spacemouse_operator,
)
from hardware.operators.layout import Layout, LayoutError
from tests.hardware.operators.devices.device_fakes import METAWORLD, Holder, Socket, play
from tests.hardware.operators.devices.test_device_events import wait_for

RECORDINGS = Path(__file__).parent / "recordings"
CONFIG = yaml.safe_load((Path(__file__).parents[4] / "configs/operator/spacemouse.yaml").read_text())["operator"]
WRITTEN = {key: value for key, value in CONFIG.items() if not key.startswith("_")}


def hid_device(root, number, name, identity, descriptor=MULTI_AXIS, place_of=""):
    about = root / f"sys/class/hidraw/hidraw{number}/device"
    about.mkdir(parents=True)
    (about / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID={identity}\nHID_NAME={name}\nHID_PHYS={place_of}\n")
    (about / "report_descriptor").write_bytes(descriptor + b"\xa1\x01")
    (root / "dev").mkdir(exist_ok=True)
    (root / f"dev/hidraw{number}").write_bytes(b"")


# Reports


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        ([struct.pack("<B3h", 1, 350, 0, 0)], {"y": -1.0}),
        ([struct.pack("<B3h", 1, 0, -175, 0)], {"x": 0.5}),
        ([struct.pack("<B3h", 1, 0, 0, -500)], {"z": 1.0}),
        ([struct.pack("<B3h", 2, -35, 70, 105)], {"pitch": 0.1, "roll": -0.2, "yaw": -0.3}),
        ([struct.pack("<B6h", 1, 0, -350, 0, 0, 0, -350)], {"x": 1.0, "yaw": 1.0}),
        ([bytes([3, 1, 0])], {"button_1": 1.0}),
        ([bytes([3, 2, 0x80])], {"button_2": 1.0, "button_16": 1.0}),
        ([bytes([3, 1, 0]), bytes([3, 0, 0])], {}),
        ([bytes([0x17, 100])], {}),
    ],
)
def test_reports_become_motion_in_the_frame_of_the_person(reports, wanted):
    values = dict(change for report in reports for change in SpaceMouseDecoder().feed(report))
    assert {name: pytest.approx(value) for name, value in values.items() if value} == wanted


@given(st.binary(max_size=32))
def test_no_bytes_break_the_decoder_or_leave_its_range(data):
    for control, value in SpaceMouseDecoder().feed(data):
        assert control in (*AXES, *BUTTON_NAMES)
        assert -1.0 <= value <= 1.0


# Finding


def test_a_spacemouse_is_found_by_its_vendor_and_what_it_is(tmp_path):
    hid_device(tmp_path, 0, "Logitech USB Receiver", "0003:0000046D:0000C52B")
    hid_device(tmp_path, 1, "3Dconnexion SpaceMouse Pro", "0003:0000256F:0000C62B", b"\x05\x01\x09\x06")
    hid_device(tmp_path, 2, "3Dconnexion SpaceMouse Compact", "0003:0000256F:0000C635")
    hid_device(tmp_path, 11, "3Dconnexion SpaceNavigator", "0003:0000046D:0000C626")
    assert [node.path.name for node in hid_nodes(tmp_path) if node.is_spacemouse] == ["hidraw2", "hidraw11"]
    assert connect_spacemouse(root=tmp_path).stream.name == "3Dconnexion SpaceMouse Compact"


def test_without_a_spacemouse_the_error_names_what_there_is(tmp_path):
    hid_device(tmp_path, 0, "Logitech USB Receiver", "0003:0000046D:0000C52B")
    with pytest.raises(DeviceMissing, match=r"no SpaceMouse under .* there is .*hidraw0 \(Logitech USB Receiver\)"):
        connect_spacemouse(root=tmp_path)


def test_a_spacemouse_that_may_not_be_read_names_the_udev_rule(tmp_path, monkeypatch):
    hid_device(tmp_path, 2, "3Dconnexion SpaceMouse Compact", "0003:0000256F:0000C635")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DeviceMissing, match=r"hidraw2 .* may not be read: .*uaccess"):
        connect_spacemouse(root=tmp_path)


def test_a_device_without_an_identity_is_passed_over(tmp_path):
    (tmp_path / "sys/class/hidraw/hidraw0").mkdir(parents=True)
    assert list(hid_nodes(tmp_path)) == []


# A receiver that shows several files


class Puck:
    """A receiver plugged in below a root, whose files a test speaks through; a pipe keeps open as a device does."""

    def __init__(self, root, numbers, where="usb-0000:00:14.0-2", name="3Dconnexion Universal Receiver"):
        self.ends = {}
        for place, number in enumerate(numbers):
            hid_device(root, number, name, "0003:0000256F:0000C652", place_of=f"{where}/input{place}")
            file = root / f"dev/hidraw{number}"
            file.unlink()
            os.mkfifo(file)
            self.ends[number] = os.open(file, os.O_RDWR | os.O_NONBLOCK)

    def say(self, number, *reports):
        for report in reports:
            os.write(self.ends[number], report)


def report(x):
    """The puck's push away from the person, -1 to 1."""
    return struct.pack("<B3h", 1, 0, round(-350 * x), 0)


def heard(root, device=None):
    told = []
    reader = DeviceReader(lambda: connect_spacemouse(device, root), repeating=AXES, say=told.append)
    reader.connect()
    return reader, told


@pytest.mark.parametrize("speaking", [2, 3, 10])
def test_a_puck_is_heard_through_whichever_file_of_its_receiver_it_speaks(tmp_path, speaking):
    puck = Puck(tmp_path, (2, 3, 10))
    reader, told = heard(tmp_path)
    assert told[0].startswith("3Dconnexion Universal Receiver: it shows 3 files, of which one speaks; all are heard: ")
    assert all(f"hidraw{number} " in told[0] for number in (2, 3, 10))
    reader.pump()
    assert reader.reading().values == {}
    puck.say(speaking, report(0.5))
    reader.pump()
    assert reader.reading().values["x"] == 0.5


def test_waiting_for_a_receiver_ends_when_any_of_its_files_speaks(tmp_path):
    puck = Puck(tmp_path, (2, 3))
    with DeviceReader(lambda: connect_spacemouse(root=tmp_path)) as reader:
        puck.say(3, report(1.0))
        assert wait_for(lambda: reader.reading().values.get("x") == 1.0)


def test_another_puck_is_not_mixed_in_but_named(tmp_path):
    ours, other = Puck(tmp_path, (2, 3)), Puck(tmp_path, (4,), where="usb-0000:00:14.0-7")
    reader, told = heard(tmp_path)
    assert "not heard: " in told[1]
    assert "hidraw4 (3Dconnexion Universal Receiver); operator.device chooses" in told[1]
    other.say(4, report(1.0))
    reader.pump()
    assert reader.reading().values == {}
    reader, told = heard(tmp_path, str(tmp_path / "dev/hidraw4"))
    ours.say(2, report(1.0))
    other.say(4, report(0.2))
    reader.pump()
    assert reader.reading().values.get("x", 0.0) == 0.0, "it was held when it was opened, and is still"


def test_a_lost_puck_is_not_taken_for_another_that_lay_beside_it(tmp_path):
    Puck(tmp_path, (2, 3))
    Puck(tmp_path, (4,), where="usb-0000:00:14.0-7")
    passed_over = set()
    connect_spacemouse(root=tmp_path, passed_over=passed_over).stream.close()
    for number in (2, 3):
        shutil.rmtree(tmp_path / f"sys/class/hidraw/hidraw{number}")
    with pytest.raises(DeviceMissing, match="plug one in; there is"):
        connect_spacemouse(root=tmp_path, passed_over=passed_over)
    Puck(tmp_path, (5, 6))
    stream = connect_spacemouse(root=tmp_path, passed_over=passed_over).stream
    assert stream.name == "3Dconnexion Universal Receiver"


def test_losing_one_file_of_a_receiver_is_losing_the_device(tmp_path, monkeypatch):
    puck = Puck(tmp_path, (2, 3))
    reader, _ = heard(tmp_path)
    puck.say(2, report(1.0))
    reader.pump()
    real = os.read

    def gone(fd, count):
        if os.fstat(fd).st_ino == os.stat(tmp_path / "dev/hidraw3").st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, count)

    monkeypatch.setattr(os, "read", gone)
    reader.pump()
    assert reader.reading()[0] == {}
    assert "is gone (Input/output error): plug it in again" in reader.reading().problem


def test_a_puck_that_is_held_while_it_is_opened_moves_nothing_until_it_was_let_go(tmp_path):
    puck = Puck(tmp_path, (2, 3))
    puck.say(3, report(1.0))
    reader, told = heard(tmp_path)
    assert "not at rest when it was opened: x (+1.00)" in told[1]
    puck.say(3, report(0.9))
    reader.pump()
    assert reader.reading().values == {"y": 0.0, "z": 0.0}
    for push in (0.0, 0.7):
        puck.say(3, report(push))
        reader.pump()
    assert reader.reading().values["x"] == 0.7


def test_a_file_whose_descriptor_names_the_controller_after_something_else_is_heard(tmp_path):
    hid_device(tmp_path, 1, "Puck", "0003:0000256F:0000C652", bytes([0x06, 0x00, 0xFF, 0x09, 0x01]) + MULTI_AXIS)
    assert connect_spacemouse(root=tmp_path).stream.name == "Puck"


# Driving by a recording


def drive(recording):
    """Commands of the configured operator while the recorded device says what it said; also the person."""
    socket = Socket(SpaceMouseDecoder)
    socket.plug(recording.name)
    person = None

    def make(spec, _, say):
        now_ns = lambda: person.now_ns if person else 0  # noqa: E731
        reader = DeviceReader(socket, now_ns, repeating=AXES, rest_after_s=REST_AFTER_S)
        reader.connect()
        settings = DeviceSettings("puck", ButtonWishes.of(WRITTEN["buttons"]), stick=StickShape(**WRITTEN["stick"]))
        operator = DeviceOperator(spec, Layout.for_spec(spec, WRITTEN["layouts"]), reader, settings, say=say)
        operator.pump = reader.pump
        return operator

    person = Holder(METAWORLD, make, (0, 0, 0, 1.0))
    return play(recording, socket, person), person


@pytest.mark.parametrize("file", ["spacemouse.events", "spacemouse_wireless.events"])
def test_a_recorded_puck_moves_the_arm_as_the_person_did(file):
    commands, _ = drive(EventRecording.load(RECORDINGS / file, "spacemouse"))
    begun = next(tick for tick, command in enumerate(commands) if command.action is not None)
    assert begun == pytest.approx(0.1 * 80, abs=4)
    actions = np.array([command.action for command in commands[begun:]])
    away, up = actions[: round(0.5 * 80), 1], actions[round(0.55 * 80) :, 2]
    assert away.max() == np.float32(10 / 80)
    assert (away >= 0).all()
    assert 0.03 < up.max() < 10 / 80
    assert (actions[:, 0] == 0).all()
    assert (actions[round(1.1 * 80) :, :3] == 0).all()
    assert actions[-1, 3] == 1.0


@pytest.mark.parametrize("file", ["spacemouse.events", "spacemouse_wireless.events"])
def test_a_puck_that_falls_silent_while_deflected_stops_moving_the_arm(file):
    recording = EventRecording.load(RECORDINGS / file, "spacemouse")
    held = [each for each in recording.records if each.elapsed_ns < 400_000_000]
    commands, person = drive(EventRecording("spacemouse", recording.name, {}, held))
    assert commands[-1].action[1] > 0
    after = [person.poll().action[1] for _ in range(round(0.5 * 80))]
    assert after[-1] == 0


# Settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buttons": {"stop": "menu"}}, "operator.buttons.stop is 'menu', which is none of button_1"),
        ({"deadman": "button_1"}, "operator.layouts.metaworld uses 'button_1', which is taken"),
        ({"layouts": {"ur5e": {}}}, "no layout for robot 'metaworld'; operator.layouts has ur5e"),
    ],
)
def test_settings_that_no_puck_can_satisfy_are_refused_in_words(change, message):
    with pytest.raises(LayoutError, match=message):
        spacemouse_operator(METAWORLD, **{**WRITTEN, **change})
