"""From how far each control is deflected to a robot's action: displacements, targets, switches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hardware.operators.layout import Layout, Moving, dimension_index
from robot_rl.core.episode import Observation
from robot_rl.core.specs import ActionKind, FloatArray, RobotSpec


class Drive:
    """Turns the deflection of controls into actions.

    A RATE dimension gets the displacement of one tick. A POSITION dimension has a target that starts where the robot
    was told to be or is seen, moves with the controls and stays where it was left, whatever is measured. A switch
    changes with every press.

    Args:
        spec: The robot's.
        layout: Which control of the device moves what of it.
    """

    def __init__(self, spec: RobotSpec, layout: Layout) -> None:
        self._spec = spec
        self._low, self._high = spec.action.bounds()
        self._moving = [(dimension_index(spec, each.dimension), each) for each in layout.moving]
        self._switching = [(dimension_index(spec, each.dimension), each) for each in layout.switching]
        self._target = np.zeros(spec.action.shape)
        self._anchored = False

    def forget(self) -> None:
        """A new episode: nothing is known of the last one's switches."""
        self._anchored = False

    def anchor(self, observation: Observation, applied: FloatArray | None = None, moved: bool = False) -> None:
        """Starts from what the robot was last told, or else from where it is seen to be, at rest.

        A switch that neither tells of starts from `first` in an episode, and later stays as it was.

        Args:
            observation: This tick's.
            applied: The last command; None if there was none. Shape (A,).
            moved: The robot may have been moved since; only its switches are taken to be as they were told.
        """
        for index, moving in self._moving:
            if moving.stream is not None:
                seen = float(observation.values[moving.stream].flat[moving.index])
                self._target[index] = seen if applied is None or moved else float(applied[index])
        for index, switch in self._switching:
            if applied is not None:
                told = float(applied[index])
                is_second = abs(told - switch.second) < abs(told - switch.first)
            elif switch.stream is not None:
                is_second = switch.is_second(float(observation.values[switch.stream].flat[switch.index]))
            else:
                is_second = self._anchored and self._target[index] == switch.second
            self._target[index] = switch.second if is_second else switch.first
        self._anchored = True

    def press(self, key: str) -> None:
        """Switches what a key or button switches, if anything."""
        for index, switch in self._switching:
            if key == switch.key:
                self._target[index] = switch.first if self._target[index] == switch.second else switch.second

    def action(
        self, observation: Observation, deflection: Callable[[str], float], speed_scale: float = 1.0
    ) -> FloatArray:
        """The action for this tick. Shape (A,), the action's dtype.

        Args:
            observation: This tick's.
            deflection: How far a control is deflected: a key or button 0 to 1, an axis -1 to 1.
            speed_scale: What every speed of the layout is multiplied by.
        """
        for index, moving in self._moving:
            moved = _deflected(moving, deflection) * moving.speed * speed_scale / self._spec.control_hz
            if self._spec.action_kinds[index] is ActionKind.RATE:
                self._target[index] = moved
                continue
            if moving.leash is not None and moving.stream is not None:
                seen = float(observation.values[moving.stream].flat[moving.index])
                moved = _leashed(float(self._target[index]), moved, seen, moving.leash)
            self._target[index] += moved
        self._target = np.clip(self._target, self._low, self._high)
        return self._target.astype(self._spec.action.dtype)

    def switches(self) -> list[str]:
        """What every switch is set to, in words."""
        words = []
        for index, switch in self._switching:
            name, _, states = (switch.meaning or str(switch.dimension)).partition(" ")
            first, _, second = states.partition(" / ")
            state = (second or "on") if self._target[index] == switch.second else (first or "off")
            words.append(f"{name} {state}")
        return words


def _leashed(target: float, moved: float, seen: float, leash: float) -> float:
    """How much of a target's motion its leash allows: less of it or none, never any motion that nobody asked for.

    A measurement only says how far ahead the target may still be moved. A false one, or an arm that was moved by hand,
    must not move the target.

    Args:
        target: Where it is.
        moved: What the controls ask for.
        seen: The measurement.
        leash: How far the target may run ahead of it.
    """
    if not math.isfinite(seen):
        return 0.0
    if moved > 0.0:
        return min(moved, max(0.0, seen + leash - target))
    return max(moved, min(0.0, seen - leash - target))


def _deflected(moving: Moving, deflection: Callable[[str], float]) -> float:
    """How far a dimension's controls are deflected altogether, -1 to 1."""
    if moving.axis:
        return deflection(moving.axis)
    if not moving.plus:
        return 0.0
    return deflection(moving.plus) - deflection(moving.minus)
