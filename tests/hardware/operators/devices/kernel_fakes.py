"""The kernel's side of input devices: sysfs, device files and the replies to EVIOCG*, byte for byte.

With /dev/uinput the kernel itself could play the device, but containers rarely have it. The layout is that of
linux/input.h; `ioctl` answers as drivers/input/evdev.c does: what fits into the caller's buffer, and ENODEV for a
device that is gone. An axis that has never been reported is at 0, wherever its range lies.
"""

import errno
import os
import shutil
import struct

SYN, KEY, ABS = 0, 1, 3


def bitmap(codes, size):
    """A set as the kernel writes it into a buffer: bit n of byte n / 8."""
    data = bytearray(size)
    for code in codes:
        if code // 8 < size:
            data[code // 8] |= 1 << code % 8
    return bytes(data)


def sysfs_bitmap(codes):
    """The same as sysfs prints it: hexadecimal longs, the most significant first, without leading zeros."""
    words = [
        sum(1 << code % 64 for code in codes if code // 64 == place) for place in range(max(codes, default=0) // 64 + 1)
    ]
    return " ".join(f"{word:x}" for word in reversed(words))


class Device:
    """A device that is plugged in; moving it changes what the kernel knows and sends a packet."""

    def __init__(self, file, about, axes, keys, down):
        self.file, self.about = file, about
        self.axes = {code: list(each) for code, each in axes.items()}
        self.keys, self.down, self.is_gone = set(keys), set(down), False
        # A pipe that is also open for writing never ends, as a device file does not.
        self.end = os.open(file, os.O_RDWR | os.O_NONBLOCK)

    def send(self, *records):
        whole = b"".join(struct.pack("@llHHi", 0, 0, *record) for record in (*records, (SYN, 0, 0)))
        os.write(self.end, whole)

    def move(self, axes=None, down=(), up=(), lost=False):
        """One packet; lost events reach nobody, though the kernel knows."""
        records = [(ABS, code, value) for code, value in (axes or {}).items() if self.axes[code][0] != value]
        records += [(KEY, code, 1) for code in down] + [(KEY, code, 0) for code in up]
        for code, value in (axes or {}).items():
            self.axes[code][0] = value
        self.down = self.down | set(down) - set(up)
        self.down -= set(up)
        if not lost:
            self.send(*records)

    def overrun(self):
        """Says that events were lost."""
        self.send((SYN, 3, 0))

    def pull(self):
        self.is_gone = True
        os.close(self.end)
        self.file.unlink()
        shutil.rmtree(self.about.parent)


class InputKernel:
    """Input devices below a root, and the ioctl that answers for them."""

    def __init__(self, root, monkeypatch):
        from hardware.operators.devices import evdev

        self.root, self.devices = root, {}
        monkeypatch.setattr(evdev.fcntl, "ioctl", self.ioctl)

    def plug(self, number, axes, keys, down=(), name="Fake pad"):
        """Plugs a device in.

        Args:
            number: Of its event file.
            axes: Code to value, minimum and maximum.
            keys: Codes of its keys.
            down: Those that are down.
            name: Its own name.
        """
        about = self.root / f"sys/class/input/event{number}/device"
        (about / "capabilities").mkdir(parents=True, exist_ok=True)
        (about / "name").write_text(name + "\n")
        (about / "capabilities/key").write_text(sysfs_bitmap(keys) + "\n")
        (about / "capabilities/abs").write_text(sysfs_bitmap(axes) + "\n")
        file = self.root / f"dev/input/event{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        device = self.devices[os.stat(file).st_ino] = Device(file, about, axes, keys, down)
        return device

    def ioctl(self, fd, request, buffer):
        device = self.devices[os.fstat(fd).st_ino]
        direction, size, letter, number = request >> 30, request >> 16 & 0x3FFF, request >> 8 & 0xFF, request & 0xFF
        assert (direction, letter, size) == (2, ord("E"), len(buffer))
        if device.is_gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        answers = {0x18: device.down, 0x20 + KEY: device.keys, 0x20 + ABS: device.axes}
        if number in answers:
            buffer[:] = bitmap(answers[number], size)
        elif number - 0x40 in device.axes:
            buffer[:] = struct.pack("@6i", *device.axes[number - 0x40], 0, 0, 0)[:size]
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 0
