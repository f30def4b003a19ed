import os
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hardware.operators.devices import evdev, gamepad
from hardware.operators.devices.device_events import DeviceMissing, DeviceReader
from hardware.operators.devices.device_operator import ButtonWishes, DeviceOperator, DeviceSettings, StickShape
from hardware.operators.devices.evdev import AxisRange
from hardware.operators.devices.event_recording import EventRecording
from hardware.operators.devices.gamepad import GamepadDecoder, about_gamepad, connect_gamepad, gamepad_operator
from hardware.operators.layout import Layout, LayoutError
from robot_rl.core.episode import Outcome
from robot_rl.core.protocols import OperatorEvent
from tests.hardware.operators.devices.device_fakes import METAWORLD, Holder, Socket, play
from tests.hardware.operators.devices.test_evdev import KEYBOARD_KEYS, XBOX_AXES, XBOX_KEYS, Kernel, device

RECORDING = EventRecording.load(Path(__file__).parent / "recordings" / "gamepad.events", "gamepad")
CONFIG = yaml.safe_load((Path(__file__).parents[4] / "configs/operator/gamepad.yaml").read_text())["operator"]
WRITTEN = {key: value for key, value in CONFIG.items() if not key.startswith("_")}
XBOX = {code: AxisRange(*each) for code, each in ((int(code), each) for code, each in RECORDING.about["axes"].items())}
KEY, ABS, SYN = 1, 3, 0


def event(kind, code, value):
    return struct.pack("@llHHi", 0, 0, kind, code, value)


def controls(decoder, *records):
    """What every control is worth after these records."""
    return dict(change for record in records for change in decoder.feed(record))


# Events


def test_sticks_triggers_pad_and_buttons_have_their_names_and_ranges():
    assert controls(
        GamepadDecoder(XBOX),
        event(ABS, 0, -32768) + event(ABS, 1, 32767) + event(ABS, 3, 0) + event(ABS, 2, 1023) + event(ABS, 5, 0),
        event(ABS, 16, -1) + event(ABS, 17, 1) + event(KEY, 0x130, 1) + event(KEY, 0x13B, 0) + event(SYN, 0, 0),
    ) == {
        "left_x": -1.0,
        "left_y": 1.0,
        "right_x": pytest.approx(0.0, abs=1e-4),
        "left_trigger": 1.0,
        "right_trigger": 0.0,
        "dpad_left": 1.0,
        "dpad_right": 0.0,
        "dpad_up": 0.0,
        "dpad_down": 1.0,
        "a": 1.0,
        "start": 0.0,
    }


def test_a_pad_without_a_second_stick_pair_has_its_right_stick_where_others_have_triggers():
    old = GamepadDecoder({code: AxisRange(0, 255) for code in (0, 1, 2, 5)})
    assert controls(old, event(ABS, 2, 255) + event(ABS, 5, 0) + event(KEY, 0x138, 1)) == {
        "right_x": 1.0,
        "right_y": -1.0,
        "left_trigger": 1.0,
    }


def test_events_that_the_kernel_dropped_leave_everything_at_rest():
    decoder = GamepadDecoder(XBOX)
    values = controls(
        decoder,
        event(ABS, 0, 32767) + event(KEY, 0x136, 1) + event(SYN, 0, 0),
        event(SYN, 3, 0) + event(ABS, 1, 32767),
        event(SYN, 0, 0) + event(KEY, 0x130, 1),
    )
    assert {name for name, value in values.items() if value} == {"a"}


@given(st.binary(max_size=240))
def test_no_bytes_break_the_decoder_or_leave_its_range(data):
    for control, value in GamepadDecoder(XBOX).feed(data):
        assert control in (*gamepad.STICKS, *gamepad.ALL_BUTTONS)
        assert -1.0 <= value <= 1.0


# Finding


def test_without_a_gamepad_the_error_names_what_there_is(tmp_path):
    device(tmp_path, 0, "AT keyboard", KEYBOARD_KEYS)
    with pytest.raises(DeviceMissing, match=r"no gamepad under /dev/input: plug one in; there is .*\(AT keyboard\)"):
        connect_gamepad(root=tmp_path)
    with pytest.raises(DeviceMissing, match=r"no gamepad /dev/input/event7: .*no input device at all"):
        connect_gamepad("/dev/input/event7", root=tmp_path / "empty")


def test_a_gamepad_that_may_not_be_read_names_the_remedy(tmp_path, monkeypatch):
    device(tmp_path, 3, "Pad", XBOX_KEYS, XBOX_AXES)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DeviceMissing, match=r"event3 \(Pad\) may not be read: sudo usermod -aG input"):
        connect_gamepad(root=tmp_path)


def test_a_gamepad_is_opened_with_its_own_ranges_also_by_a_link_to_it(tmp_path, monkeypatch):
    file = device(tmp_path, 3, "Pad", XBOX_KEYS, XBOX_AXES)
    device(tmp_path, 4, "Another", XBOX_KEYS, XBOX_AXES)
    monkeypatch.setattr(evdev.fcntl, "ioctl", Kernel({0: (0, 255), 1: (0, 255)}).ioctl)
    (tmp_path / "pad").symlink_to(file)
    for chosen in (None, str(file), str(tmp_path / "pad")):
        connection = connect_gamepad(chosen, root=tmp_path)
        assert connection.stream.name == "Pad"
        assert controls(connection.decoder, event(ABS, 0, 255)) == {"left_x": 1.0}
        assert about_gamepad(connection) == {
            "axes": {"0": [0, 255], "1": [0, 255]},
            "values": {"0": 7, "1": 7},
            "down": [],
            "keys": [0x130, 0x136, 0x2FF],
        }
        connection.stream.close()


def test_a_file_that_answers_no_request_is_no_gamepad(tmp_path):
    device(tmp_path, 3, "Pad", XBOX_KEYS, XBOX_AXES)
    with pytest.raises(DeviceMissing, match="does not say what axes it has"):
        connect_gamepad(root=tmp_path)


# Driving by a recording


def drive(recording, make_decoder):
    """Commands of the configured operator, tick by tick, while the recorded device says what it said."""
    socket = Socket(make_decoder)
    socket.plug(recording.name)

    def make(spec, _, say):
        reader = DeviceReader(socket)
        reader.connect()
        buttons = ButtonWishes.of(WRITTEN["buttons"])
        settings = DeviceSettings("pad", buttons, WRITTEN["deadman"], StickShape(**WRITTEN["stick"]))
        operator = DeviceOperator(spec, Layout.for_spec(spec, WRITTEN["layouts"]), reader, settings, say=say)
        operator.pump = reader.pump
        return operator

    person = Holder(METAWORLD, make, (0, 0, 0, 1.0))
    return play(recording, socket, person), socket.stream, person


def test_a_recorded_gamepad_moves_the_arm_as_the_person_did():
    commands, _, _ = drive(RECORDING, lambda: GamepadDecoder(XBOX))
    begun = next(tick for tick, command in enumerate(commands) if command.action is not None)
    assert begun == pytest.approx(0.2 * 80, abs=4)
    actions = np.array([command.action for command in commands[begun:]])
    assert actions[:, 0].max() == np.float32(10 / 80)
    assert (actions[:, 0] >= 0).all()
    assert actions[:, 2].max() == pytest.approx(10 / 80, rel=0.02)
    assert (actions[round(1.55 * 80) - begun :, :3] == 0).all()
    assert set(actions[:, 3]) == {-1.0, 1.0}
    assert actions[-1, 3] == 1.0
    ended = [(command.event, command.outcome) for command in commands if command.event is not OperatorEvent.NONE]
    assert ended == [(OperatorEvent.END, Outcome.SUCCESS)]


def test_a_recorded_gamepad_pulled_out_in_mid_motion_leaves_no_motion_standing():
    held = [each for each in RECORDING.records if each.elapsed_ns < 600_000_000]
    cut = EventRecording(RECORDING.kind, RECORDING.name, RECORDING.about, held)
    commands, stream, person = drive(cut, lambda: GamepadDecoder(XBOX))
    assert commands[-1].action[0] > 0
    stream.pull()
    person.operator.pump()
    after = [person.poll() for _ in range(10)]
    assert all(command.action is None for command in after)
    assert after[0].event is OperatorEvent.PAUSE


# Settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deadman": ""}, "operator.deadman is empty; name the button that must be held to move, one of a, b"),
        ({"deadman": "left_x"}, "operator.deadman is 'left_x', which is none of a, b"),
        ({"deadman": "a"}, "operator.layouts.metaworld uses 'a', which is taken"),
        ({"layouts": {}}, "no layout for robot 'metaworld'"),
        (
            {
                "layouts": {
                    "metaworld": {
                        **WRITTEN["layouts"]["metaworld"],
                        "moving": [{"dimension": "x", "axis": "wheel", "speed": 1}],
                    }
                }
            },
            "'x': no axis 'wheel'; there is left_x, left_y",
        ),
    ],
)
def test_settings_that_no_gamepad_can_satisfy_are_refused_in_words(change, message):
    with pytest.raises(LayoutError, match=message):
        gamepad_operator(METAWORLD, **{**WRITTEN, **change})
