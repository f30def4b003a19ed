import struct
from pathlib import Path

import pytest

from hardware.operators.devices.device_events import Connection, DeviceMissing, DeviceReader
from hardware.operators.devices.event_recording import EventRecording, RecordedEvents, device_source, record
from hardware.operators.devices.record_events import KINDS, Recordable, main
from hardware.operators.devices.spacemouse import SpaceMouseDecoder, connect_spacemouse, play_spacemouse
from robot_rl.core.errors import RobotRLError
from tests.hardware.operators.devices.device_fakes import PluggedStream
from tests.hardware.operators.devices.test_device_events import wait_for

PUSH, REST = struct.pack("<B3h", 1, 0, -350, 0), struct.pack("<B3h", 1, 0, 0, 0)
SHORT = EventRecording("spacemouse", "Puck", {}, [RecordedEvents(0, PUSH), RecordedEvents(50_000_000, REST)])


def test_a_recording_reads_back_equal(tmp_path):
    SHORT.save(tmp_path / "puck.events")
    assert EventRecording.load(tmp_path / "puck.events", "spacemouse") == SHORT


def test_a_recording_holds_what_the_device_said_until_it_was_unplugged():
    stream = PluggedStream()
    stream.say(PUSH)
    records = record(stream, 60.0)
    heard = [next(records).data]
    stream.say(REST)
    heard.append(next(records).data)
    stream.pull()
    assert list(records) == []
    assert heard == [PUSH, REST]


def test_a_recording_played_is_a_device_that_is_unplugged_at_its_end(tmp_path):
    SHORT.save(tmp_path / "puck.events")
    find = device_source("spacemouse", str(tmp_path / "puck.events"), connect_spacemouse, play_spacemouse)
    with DeviceReader(find) as reader:
        assert wait_for(lambda: reader.reading().values.get("x") == 1.0 or reader.reading().problem)
        assert wait_for(lambda: "recording of Puck is gone" in reader.reading().problem)
        assert reader.reading().values == {}
    with pytest.raises(DeviceMissing, match="has ended"):
        find()


def test_a_playback_that_is_left_early_ends_at_once(tmp_path):
    long = EventRecording("spacemouse", "Puck", {}, [RecordedEvents(10**15, PUSH)])
    play_spacemouse(long).stream.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no recording of a device"),
        ('{"kind": "spacemouse"}\n', "is no recording"),
        ('{"kind": "spacemouse", "name": "", "about": {}}\n12 xyz\n', "is no recording"),
        ('{"kind": "gamepad", "name": "", "about": {}}\n', "is a recording of a gamepad, wanted one of a spacemouse"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_before_anything_is_opened(tmp_path, text, message):
    (tmp_path / "file").write_text(text)
    with pytest.raises(RobotRLError, match=message):
        device_source("spacemouse", str(tmp_path / "file"), connect_spacemouse, play_spacemouse)


def test_the_recorder_saves_what_the_device_says_until_it_is_unplugged(tmp_path, monkeypatch, capsys):
    stream = PluggedStream("Puck")
    stream.say(PUSH)
    stream.say(REST)
    stream.plug.close()
    connect = Recordable(lambda device: Connection(stream, SpaceMouseDecoder()), lambda connection: {})
    monkeypatch.setitem(KINDS, "spacemouse", connect)
    assert main(["spacemouse", str(tmp_path / "out"), "--seconds", "60"]) == 0
    saved = EventRecording.load(tmp_path / "out", "spacemouse")
    assert [each.data for each in saved.records] == [PUSH, REST]
    assert capsys.readouterr().out == f"Puck: 2 reads in {tmp_path / 'out'}\n"


def test_recording_without_a_device_says_so_in_one_line(tmp_path, capsys):
    status = main(["spacemouse", str(tmp_path / "out"), "--device", str(Path("/nowhere"))])
    assert status == 1
    assert capsys.readouterr().err.startswith("no SpaceMouse /nowhere")
