"""Devices without hardware: one that a test plugs, moves and unplugs, and a person who holds it."""

import errno
import os
import socket

import numpy as np

from hardware.operators.devices.device_events import Connection, DeviceMissing, Reading
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

METAWORLD = RobotSpec(
    name="metaworld",
    observations={"state": ArraySpec((4,), "float32", "m")},
    action=ArraySpec((4,), "float32", "cm/tick,cm/tick,cm/tick,1", -1.0, 1.0, ("x", "y", "z", "gripper")),
    action_kinds=(ActionKind.RATE, ActionKind.RATE, ActionKind.RATE, ActionKind.POSITION),
    control_hz=80.0,
)
ARM = RobotSpec(
    name="arm",
    observations={"joint_position": ArraySpec((3,), "float32", "rad,rad,1")},
    action=ArraySpec((3,), "float64", "rad,rad,1", (-2.0, -2.0, 0.0), (2.0, 2.0, 1.0), ("hip", "knee", "gripper")),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION, ActionKind.BINARY),
    control_hz=20.0,
)


class PluggedStream:
    """A device file: what is written to it keeps its records apart, and it can be pulled out."""

    def __init__(self, name="Fake pad"):
        self.name = name
        self.device, self.plug = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.device.setblocking(False)
        self.is_pulled = False

    def fileno(self):
        return self.device.fileno()

    def read(self):
        try:
            return self.device.recv(4096)
        finally:
            if self.is_pulled:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def close(self):
        self.device.close()

    def say(self, data):
        self.plug.send(data)

    def pull(self):
        self.is_pulled = True
        self.plug.close()


class Socket:
    """Where devices are plugged in; call it to find what is there."""

    def __init__(self, make_decoder):
        self.make_decoder = make_decoder
        self.stream = None

    def plug(self, name="Fake pad"):
        self.stream = PluggedStream(name)
        return self.stream

    def __call__(self):
        if self.stream is None or self.stream.is_pulled:
            raise DeviceMissing("no device: plug one in")
        return Connection(self.stream, self.make_decoder())


class HeldDevice:
    """A device whose controls a test sets; stands in for a `DeviceReader`."""

    name = "Fake pad"

    def __init__(self):
        self.values, self.pressed, self.connections, self.problem = {}, [], 1, ""
        self.inside = False

    def __enter__(self):
        self.inside = True
        return self

    def __exit__(self, *_):
        self.inside = False

    def reading(self):
        pressed, self.pressed = tuple(self.pressed), []
        return Reading(dict(self.values), pressed, self.connections, self.problem)

    def unplug(self):
        self.values, self.problem = {}, "Fake pad is gone (No such device): plug it in again"

    def replug(self):
        self.problem, self.connections = "", self.connections + 1


class Holder:
    """Somebody holding a device; `make` builds the operator from a spec, a reader and how to tell the person."""

    def __init__(self, spec, make, place=()):
        self.spec, self.device, self.told = spec, HeldDevice(), []
        self.operator = make(spec, self.device, self.told.append)
        self.stream = next(iter(spec.observations))
        self.place = np.zeros(spec.observations[self.stream].shape, dtype=np.float32)
        self.place[: len(place)] = place
        self.now_ns = 0
        self.operator.reset(0)

    def poll(self, *pressed, **values):
        """One tick later: `values` are held from now on, `pressed` were pressed since the last tick."""
        self.device.values.update(values)
        self.device.pressed += pressed
        return self.poll_as_it_is()

    def poll_as_it_is(self):
        self.now_ns += self.spec.tick_ns
        return self.operator.poll(Observation(self.now_ns, {self.stream: self.place.copy()}, {self.stream: 0}))


def play(recording, socket, person):
    """Commands of a person, tick by tick, while the recorded device says what it said."""
    left, commands = list(recording.records), []
    while left:
        while left and left[0].elapsed_ns <= person.now_ns:
            socket.stream.say(left.pop(0).data)
            person.operator.pump()
        commands.append(person.poll())
    return commands
