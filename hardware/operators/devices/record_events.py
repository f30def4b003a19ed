"""`python -m hardware.operators.devices.record_events gamepad FILE`: records a device's raw events.

The file can be played in the device's place: `operator=gamepad operator.device=FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hardware.operators.devices.device_events import Connection
from hardware.operators.devices.event_recording import EventRecording, record
from hardware.operators.devices.gamepad import about_gamepad, connect_gamepad
from hardware.operators.devices.spacemouse import connect_spacemouse
from robot_rl.core.errors import RobotRLError


class Recordable(NamedTuple):
    """How to open a kind of device, and what a recording must know of it."""

    connect: Callable[[str | None], Connection]
    about: Callable[[Connection], Mapping[str, Any]]


KINDS = {
    "gamepad": Recordable(connect_gamepad, about_gamepad),
    "spacemouse": Recordable(connect_spacemouse, lambda connection: {}),
}


def record_device(kind: str, path: Path, duration_s: float, device: str | None = None) -> EventRecording:
    """Records a device and saves it.

    Args:
        kind: One of `KINDS`.
        path: Where to save.
        duration_s: For how long [s].
        device: Its device file; None is the first one there is.

    Raises:
        DeviceMissing: There is none.
    """
    connection = KINDS[kind].connect(device)
    try:
        about = KINDS[kind].about(connection)
        recording = EventRecording(kind, connection.stream.name, about, list(record(connection.stream, duration_s)))
    finally:
        connection.stream.close()
    recording.save(path)
    return recording


def main(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m hardware.operators.devices.record_events", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--device", help="device file; the first one there is")
    given = parser.parse_args(arguments)
    try:
        recording = record_device(given.kind, given.file, given.seconds, given.device)
    except RobotRLError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{recording.name}: {len(recording.records)} reads in {given.file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
