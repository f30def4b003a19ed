import os
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.device_events import DeviceMissing, DeviceReader
from hardware.operators.device_operator import ButtonMeanings, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.event_recording import EventRecording
from hardware.operators.layout import Layout, LayoutError
from hardware.operators.spacemouse import (
    AXES,
    BUTTON_NAMES,
    MULTI_AXIS,
    REST_AFTER_S,
    SpaceMouseDecoder,
    connect_spacemouse,
    hid_nodes,
    spacemouse_operator,
)
from tests.hardware.operators.device_fakes import METAWORLD, Holder, Socket, play

RECORDINGS = Path(__file__).parent / "recordings"
CONFIG = yaml.safe_load((Path(__file__).parents[3] / "configs/operator/spacemouse.yaml").read_text())["operator"]
WRITTEN = {key: value for key, value in CONFIG.items() if not key.startswith("_")}


def hid_device(root, number, name, identity, descriptor=MULTI_AXIS):
    about = root / f"sys/class/hidraw/hidraw{number}/device"
    about.mkdir(parents=True)
    (about / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID={identity}\nHID_NAME={name}\n")
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
        settings = DeviceSettings("puck", ButtonMeanings.of(WRITTEN["buttons"]), stick=StickShape(**WRITTEN["stick"]))
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
