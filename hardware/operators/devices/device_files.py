"""Several device files of one device, read as one: a receiver shows some of which only one ever speaks."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Sequence

from hardware.operators.devices.device_events import DeviceFile, EventStream


class DeviceFiles:
    """Device files read as one stream, in the order of their numbers; losing one is losing the device.

    Args:
        files: Open; at least one.
    """

    def __init__(self, files: Sequence[DeviceFile]) -> None:
        self.name = files[0].name
        self._files = list(files)
        self._ready = select.epoll()
        for file in files:
            # A regular file need not be waited for, and cannot.
            with contextlib.suppress(PermissionError):
                self._ready.register(file.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Ready when any of the files is."""
        return self._ready.fileno()

    def read(self) -> bytes:
        """See `EventStream`; what one file has to say, so that its records stay whole."""
        ended = 0
        for file in self._files:
            try:
                data = file.read()
            except BlockingIOError:
                continue
            if data:
                # Whoever spoke goes last, so that none is drowned out.
                self._files.remove(file)
                self._files.append(file)
                return data
            ended += 1
        if ended == len(self._files):
            return b""
        raise BlockingIOError

    def close(self) -> None:
        """See `EventStream`."""
        for file in self._files:
            file.close()
        self._ready.close()


def as_one(files: Sequence[DeviceFile]) -> EventStream:
    """Files of one device as a stream."""
    return files[0] if len(files) == 1 else DeviceFiles(files)
