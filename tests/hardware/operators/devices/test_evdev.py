import struct
from pathlib import Path

import pytest

from hardware.operators.devices import evdev


def device(root, number, name, keys="", axes=""):
    about = root / f"sys/class/input/event{number}/device"
    (about / "capabilities").mkdir(parents=True)
    (about / "name").write_text(name + "\n")
    (about / "capabilities/key").write_text(keys + "\n")
    (about / "capabilities/abs").write_text(axes + "\n")
    file = root / f"dev/input/event{number}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    return file


XBOX_KEYS, XBOX_AXES = "7cdb000000000000 0 0 0 0", "3003f"
"""As a wired Xbox 360 pad shows them in sysfs."""
HEADER = Path("/usr/include/linux/input-event-codes.h")
KEYBOARD_KEYS = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"


@pytest.mark.parametrize(
    ("request_number", "known"),
    [
        (evdev.read_request(0x20 + evdev.EV_ABS, 8), 0x80084523),
        (evdev.read_request(0x40 + evdev.ABS_X, evdev.ABSINFO.size), 0x80184540),
        (evdev.read_request(0x18, evdev.KEY_COUNT // 8), 0x80604518),
    ],
)
def test_requests_are_those_of_the_kernels_header(request_number, known):
    assert request_number == known


def test_a_gamepad_is_told_from_a_keyboard_by_what_sysfs_says(tmp_path):
    device(tmp_path, 0, "AT keyboard", KEYBOARD_KEYS)
    device(tmp_path, 10, "Microsoft X-Box 360 pad", XBOX_KEYS, XBOX_AXES)
    device(tmp_path, 2, "Motion Sensors", "0", "3f")
    nodes = list(evdev.input_nodes(tmp_path))
    assert [node.path.name for node in nodes] == ["event0", "event2", "event10"]
    assert [node.is_gamepad for node in nodes] == [False, False, True]
    assert nodes[2].axes == {0, 1, 2, 3, 4, 5, 16, 17}
    assert {0x130, 0x131, 0x133, 0x134, 0x136, 0x13E} <= nodes[2].keys


def test_a_machine_without_input_devices_has_none(tmp_path):
    assert list(evdev.input_nodes(tmp_path)) == []


class Kernel:
    """Answers the requests of one device, as linux/drivers/input/evdev.c does."""

    def __init__(self, ranges, down=(), keys=(0x130, 0x136, 0x2FF)):
        self.ranges, self.down, self.keys = ranges, down, keys

    def ioctl(self, fd, request, buffer):
        number, size = request & 0xFF, request >> 16 & 0x3FFF
        assert size == len(buffer)
        if number == 0x20 + evdev.EV_ABS:
            for code in self.ranges:
                buffer[code // 8] |= 1 << code % 8
        elif number in (0x18, 0x20 + evdev.EV_KEY):
            for code in self.down if number == 0x18 else self.keys:
                buffer[code // 8] |= 1 << code % 8
        else:
            minimum, maximum = self.ranges[number - 0x40]
            buffer[:] = struct.pack("@6i", 7, minimum, maximum, 16, 128, 0)


def test_the_kernel_is_asked_for_every_axis_and_its_range(monkeypatch):
    ranges = {0: (-32768, 32767), 2: (0, 1023), 17: (-1, 1), 63: (0, 9)}
    monkeypatch.setattr(evdev.fcntl, "ioctl", Kernel(ranges).ioctl)
    assert evdev.axis_ranges(3) == ranges


def test_the_kernel_is_asked_where_every_axis_is_and_which_keys_are_down(monkeypatch):
    monkeypatch.setattr(evdev.fcntl, "ioctl", Kernel({0: (0, 255), 63: (0, 9)}, down=(0x136, 0x2FF)).ioctl)
    assert evdev.device_state(3) == ({0: 7, 63: 7}, {0x136, 0x2FF})
    assert evdev.keys_of(3) == {0x130, 0x136, 0x2FF}


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's header is not installed (linux-libc-dev)")
def test_axes_and_buttons_have_the_names_of_the_kernels_header():
    lines = (line.split() for line in HEADER.read_text().splitlines() if line.startswith("#define"))
    codes = {words[1]: int(words[2], 0) for words in lines if len(words) > 2 and words[2][:1].isdigit()}
    ours = evdev.AXIS_NAMES, evdev.KEY_NAMES
    assert all(codes[name] == code for names in ours for code, name in names.items() if name in codes)
    unknown = {name for names in ours for name in names.values()} - codes.keys()
    assert unknown <= {"ABS_PROFILE"}, "ABS_PROFILE came with Linux 6.1; all others are older"


def test_records_are_read_whole_and_a_torn_one_is_left_out():
    data = struct.pack("@llHHi", 1, 2, 3, 4, -5) + struct.pack("@llHHi", 1, 2, 0, 0, 0)
    assert list(evdev.events(data + data[:10])) == [(3, 4, -5), (0, 0, 0)]
