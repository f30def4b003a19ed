"""Somebody at the keyboard of a robot, and the terminal they type at."""

from pathlib import Path

import numpy as np
import yaml

from hardware.operators.terminal.keyboard import KeyboardOperator
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

CONFIG = Path(__file__).parents[4] / "configs" / "operator" / "keyboard.yaml"

METAWORLD = RobotSpec(
    name="metaworld",
    observations={"state": ArraySpec((4,), "float32", "m"), "image_corner": ArraySpec((8, 8, 3), "uint8", "rgb")},
    action=ArraySpec((4,), "float32", "cm/tick,cm/tick,cm/tick,1", -1.0, 1.0, ("x", "y", "z", "gripper")),
    action_kinds=(ActionKind.RATE, ActionKind.RATE, ActionKind.RATE, ActionKind.POSITION),
    control_hz=80.0,
)
PUSHT = RobotSpec(
    name="pusht",
    observations={"state": ArraySpec((5,), "float32", "px")},
    action=ArraySpec((2,), "float32", "px", 0.0, 512.0),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=10.0,
)
RIGHT, LEFT, ESC = b"\x1b[C", b"\x1b[D", b"\x1b"


class TypedTerminal:
    """A terminal at which somebody types what a test says."""

    size = (80, 24)

    def __init__(self):
        self.typed = b""
        self.gone = False
        self.shown = ""
        self.inside = False

    def __enter__(self):
        self.inside = True
        return self

    def __exit__(self, *_):
        self.inside = False

    def read(self):
        if self.gone:
            return None
        typed, self.typed = self.typed, b""
        return typed

    def write(self, text):
        self.shown += text


class Person:
    """Somebody at the keyboard of a robot, with their own clock."""

    def __init__(self, spec, place=None, **settings):
        self.spec = spec
        self.terminal = TypedTerminal()
        self.now_ns = 10**12
        written = yaml.safe_load(CONFIG.read_text())["operator"]
        written = {key: value for key, value in written.items() if not key.startswith("_")}
        self.operator = KeyboardOperator(
            spec, clock_ns=lambda: self.now_ns, terminal=self.terminal, **{**written, **settings}
        )
        self.state = np.zeros(spec.observations["state"].shape, dtype=np.float32)
        self.state[: len(place or ())] = place or ()
        self.operator.reset(0)

    def poll(self, keys=b""):
        """One tick later."""
        self.terminal.typed += keys
        self.now_ns += self.spec.tick_ns
        values = {"state": self.state.copy()}
        for name in self.spec.images:
            values[name] = np.zeros(self.spec.observations[name].shape, dtype=np.uint8)
        return self.operator.poll(Observation(self.now_ns, values, dict.fromkeys(values, 0)))

    def hold(self, key, duration_s):
        """Holds a key as a terminal shows it: once, after 500 ms again, then every 33 ms. Returns the commands."""
        commands, elapsed_s = [self.poll(key)], 0.0
        next_s = 0.5
        while elapsed_s < duration_s:
            elapsed_s += self.spec.tick_ns / 1e9
            repeats = 0
            while next_s <= elapsed_s:
                next_s, repeats = next_s + 0.033, repeats + 1
            commands.append(self.poll(key * repeats))
        return commands

    def wait(self, duration_s):
        """Types nothing for a while; returns the commands."""
        return [self.poll() for _ in range(round(duration_s * self.spec.control_hz))]
