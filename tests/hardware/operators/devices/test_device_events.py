import os
import threading

import pytest

from hardware.operators.devices.device_events import Change, DeviceFile, DeviceMissing, DeviceReader
from tests.hardware.operators.devices.device_fakes import Socket

MS = 1_000_000
GIVE_UP_S = 20.0


class Letters:
    """`A` deflects control a fully, `a` lets go of it; any other byte is noise."""

    def feed(self, data):
        return [Change(letter.lower(), float(letter.isupper())) for letter in data.decode() if letter.isalpha()]


def deflected():
    """A plugged device whose control a is held, and who hears it."""
    socket = Socket(Letters)
    reader = DeviceReader(socket)
    stream = socket.plug()
    reader.connect()
    stream.say(b"A")
    reader.pump()
    return socket, reader, stream


def test_what_a_device_says_is_what_is_read():
    socket = Socket(Letters)
    reader = DeviceReader(socket)
    stream = socket.plug("Letter box")
    reader.connect()
    stream.say(b"AB")
    stream.say(b"b")
    reader.pump()
    reader.pump()
    assert reader.reading() == ({"a": 1.0, "b": 0.0}, ("a", "b"), 1, "")
    assert reader.reading().pressed == ()
    assert reader.name == "Letter box"


def test_a_silent_device_says_the_same_as_before():
    _, reader, _ = deflected()
    reader.pump()
    assert reader.reading().values == {"a": 1.0}


def test_an_unplugged_device_holds_nothing_and_says_so():
    _, reader, stream = deflected()
    stream.pull()
    reader.pump()
    assert reader.reading() == ({}, ("a",), 1, "Fake pad is gone (No such device): plug it in again")
    reader.pump()
    assert reader.reading().problem


def test_a_device_plugged_in_again_is_picked_up_at_rest():
    socket, reader, stream = deflected()
    stream.pull()
    reader.pump()
    socket.plug("Another pad").say(b"B")
    reader.pump()
    assert reader.reading() == ({}, ("a",), 2, "")
    reader.pump()
    assert reader.reading().values == {"b": 1.0}
    assert reader.name == "Another pad"


def test_a_device_that_ends_like_a_file_is_gone():
    socket = Socket(Letters)
    reader = DeviceReader(socket)
    stream = socket.plug()
    reader.connect()
    stream.plug.close()
    reader.pump()
    assert "says nothing more" in reader.reading().problem


def test_a_device_that_repeats_itself_and_falls_silent_is_at_rest():
    now_ns = [0]
    socket = Socket(Letters)
    reader = DeviceReader(socket, lambda: now_ns[0], repeating={"a"}, rest_after_s=0.2)
    stream = socket.plug()
    reader.connect()
    stream.say(b"AB")
    reader.pump()
    now_ns[0] = 199 * MS
    assert reader.reading().values == {"a": 1.0, "b": 1.0}
    now_ns[0] = 201 * MS
    assert reader.reading().values == {"a": 0.0, "b": 1.0}


def test_a_device_that_is_not_there_is_refused_on_entering():
    with pytest.raises(DeviceMissing), DeviceReader(Socket(Letters)):
        pass


def test_the_thread_reads_through_unplugging_and_ends_with_the_block():
    socket = Socket(Letters)
    reader = DeviceReader(socket)
    stream = socket.plug()
    with reader:
        stream.say(b"A")
        assert wait_for(lambda: reader.reading().values == {"a": 1.0})
        stream.pull()
        assert wait_for(lambda: reader.reading().problem)
        socket.plug().say(b"B")
        assert wait_for(lambda: reader.reading().values == {"b": 1.0})
    assert not [thread for thread in threading.enumerate() if thread.name == "operator-device"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_decoder_that_breaks_leaves_nothing_moving():
    class Broken(Letters):
        def feed(self, data):
            if b"!" in data:
                raise RuntimeError("broken")
            return super().feed(data)

    socket = Socket(Broken)
    reader = DeviceReader(socket)
    stream = socket.plug()
    with reader:
        stream.say(b"A")
        assert wait_for(lambda: reader.reading().values == {"a": 1.0})
        stream.say(b"!")
        assert wait_for(lambda: "no longer read" in reader.reading().problem)
        assert reader.reading().values == {}


def test_a_device_file_is_read_without_waiting_and_closed_once(tmp_path):
    os.mkfifo(tmp_path / "event0")
    file = DeviceFile(tmp_path / "event0", "Pipe")
    writer = os.open(tmp_path / "event0", os.O_WRONLY)
    with pytest.raises(BlockingIOError):
        file.read()
    os.write(writer, b"A")
    assert file.read() == b"A"
    os.close(writer)
    assert file.read() == b""
    file.close()
    file.close()


def wait_for(condition):
    """Whether a condition comes true before patience ends."""
    patience = threading.Event()
    for _ in range(round(GIVE_UP_S / 0.01)):
        if condition():
            return True
        patience.wait(0.01)
    return False
