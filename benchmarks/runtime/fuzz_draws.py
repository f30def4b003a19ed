"""What a fuzz of commands is made of: robots and their limits, requests, and the circumstances they come in.

Everything that does not depend on the answers to requests is drawn for a whole round at once.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.safety.filter import OperatorState
from hardware.safety.limits import CommandLimits
from robot_rl.core.specs import ActionKind, AnyArray, ArraySpec, RobotSpec

Array = npt.NDArray[np.float64]

WALL_ROUNDINGS = 16
"""A rate is rounded to the action's dtype at every tick of a stop; the tool may pass its wall by so many of them."""
SUM_ROUNDING = 1e-13
"""Of a place between -1 and 0 that is the sum of a round's displacements."""
ALLOWED = tuple(OperatorState(deadman, enabled) for deadman in (False, True) for enabled in (False, True))
"""By 2 * deadman + enabled."""


def random_limits(generator: np.random.Generator, measured_places: float = 0.0) -> CommandLimits:
    """A robot and its limits: spans from a centimetre to hundreds of units, stops from one tick to hundreds.

    Args:
        generator: Of everything.
        measured_places: Share of POSITION dimensions that are measured.
    """
    hz = float(generator.choice([5, 10, 30, 80, 100, 125, 500]))
    kinds = tuple(
        ActionKind(each)
        for each in generator.choice(
            ["position", "rate", "binary"], size=int(generator.integers(1, 8)), p=[0.45, 0.4, 0.15]
        )
    )
    columns: dict[str, list[float]] = {name: [] for name in ("low", "high", "step", "velocity", "acceleration", "jerk")}
    measured: dict[int, dict[str, Any]] = {}
    for index, kind in enumerate(kinds):
        span = 10 ** generator.uniform(-2, 2.5)
        if kind is ActionKind.RATE:
            low, high = -span * generator.choice([0, 0.1, 1], p=[0.1, 0.2, 0.7]), span * generator.choice([0, 1, 1, 1])
            fastest = span
            if generator.random() < 0.4:
                scale = float(generator.choice([1, 0.01, -0.5]))
                measured[index] = {"stream": "state", "index": index, "scale": scale, "low": -1.0, "high": 0.0}
        else:
            low = span * generator.choice([0, -1, generator.uniform(-1, 1)])
            high, fastest = low + span, span * 10 ** generator.uniform(-2.5, 0.3)
            if kind is ActionKind.POSITION and generator.random() < measured_places:
                measured[index] = {"stream": "state", "index": index}
        columns["low"].append(float(low))
        columns["high"].append(float(high))
        columns["step"].append(float(fastest * generator.choice([0, 0.1, 1], p=[0.03, 0.3, 0.67])))
        columns["velocity"].append(float(fastest * hz * 10 ** generator.uniform(-0.5, 0.5)))
        columns["acceleration"].append(float(fastest * hz**2 * 10 ** generator.uniform(-1.7, 0.5)))
        columns["jerk"].append(float(fastest * hz**3 * 10 ** generator.uniform(-2.5, 0.8)))
    streams = {
        "state": ArraySpec((len(kinds),), "float64", "m"),
        "camera": ArraySpec((2, 2, 3), "uint8", "rgb"),
    }
    dtype = str(generator.choice(["float32", "float64"]))
    spec = RobotSpec("fuzzed", streams, ArraySpec((len(kinds),), dtype, "m"), kinds, hz)
    late_s = float(generator.choice([0, 0, 1, 3])) / hz
    for entry in measured.values():
        if "low" in entry:
            entry["lag_s"] = late_s
    return CommandLimits.for_spec(
        spec,
        {
            "low": columns["low"],
            "high": columns["high"],
            "max_step": columns["step"],
            "max_velocity": columns["velocity"],
            "max_acceleration": columns["acceleration"],
            "max_jerk": columns["jerk"],
            "max_age_s": {"state": 0.05, "camera": 0.1},
            "ramp_after_s": 0.1,
            "fault_after_s": 0.5,
            "measured": measured,
        },
    )


class Script:
    """Asks for whatever a filter may be asked for, drawn for a whole round.

    Args:
        limits: The robot's.
        generator: Of everything.
        count: Of requests.
    """

    def __init__(self, limits: CommandLimits, generator: np.random.Generator, count: int) -> None:
        self._limits, self._count = limits, count
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        self._dtype = np.dtype(limits.spec.action.dtype)
        self._rate = np.array([kind is ActionKind.RATE for kind in limits.spec.action_kinds])
        size = len(self._low)
        self._jerk = np.array(limits.max_jerk) / limits.spec.control_hz**3
        self._signs = generator.choice([-1.0, 0.0, 1.0], (count, size))
        self._moods = self._drawn_moods(generator)
        self._asked = list(self._drawn_requests(generator, size))
        luck = generator.random(count)
        self._odd = np.select([luck < 0.01, luck < 0.02, luck < 0.025, luck < 0.03], [1, 2, 3, 4], 0).tolist()
        self._spoilt = generator.integers(size, size=count).tolist()
        self._spoils = generator.choice([np.nan, np.inf, -np.inf], count).tolist()

    def _drawn_moods(self, generator: np.random.Generator) -> list[int]:
        changes = generator.random(self._count) < 0.03
        drawn = generator.integers(0, 7, self._count)
        since = np.maximum.accumulate(np.where(changes, np.arange(self._count), -1))
        moods: list[int] = np.where(since < 0, 0, drawn[since]).tolist()
        return moods

    def _drawn_requests(self, generator: np.random.Generator, size: int) -> AnyArray:
        """Requests of the moods that look at nothing. Shape (T, A)."""
        low, high, shape = self._low, self._high, (self._count, size)
        fastest = np.minimum(self._limits.max_step, np.array(self._limits.max_velocity) / self._limits.spec.control_hz)
        frequency = 10 ** generator.uniform(-2, 0)
        swing = np.sin(generator.uniform(0, 6, size) + frequency * np.arange(self._count)[:, None])
        smooth = np.where(self._rate, fastest * swing, (low + high) / 2 + (high - low) * 0.6 * swing)
        anywhere = generator.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low), shape)
        corner = np.where(generator.random((self._count, 1)) < 0.5, low, high)
        edges = np.where(generator.random(shape) < 0.5, low, high)
        huge = generator.standard_normal(shape) * 10 ** generator.uniform(-30, 30, (self._count, 1))
        moods = np.array(self._moods)[:, None]
        asked = np.select(
            [moods == 0, moods == 1, moods == 2, moods == 3, moods == 5], [smooth, anywhere, corner, edges, huge]
        )
        with np.errstate(over="ignore"):
            return asked.astype(self._dtype)

    def request(self, index: int, last: Array, step: Sequence[float]) -> AnyArray | None:
        """A request, given the last output and step. Mostly shape (A,)."""
        mood, odd = self._moods[index], self._odd[index]
        if odd == 1:
            return None
        asked: AnyArray = self._asked[index]
        if mood == 4:
            asked = (last + step + self._signs[index] * self._jerk).astype(self._dtype)
        elif mood == 6:
            asked = last.astype(self._dtype)
        if odd == 2:
            asked = asked.copy()
            asked[self._spoilt[index]] = self._spoils[index]
        elif odd == 3:
            return np.zeros(len(asked) + 1)
        elif odd == 4:
            return asked[None, :]
        return asked


class Circumstances:
    """What is seen, when, and whether motion is allowed, drawn for a whole round.

    Attributes:
        ages: Of the streams at each tick [ns]; None where nothing is seen. Mostly fresh.
        dt_s: Time since the last tick, as a clock may have it [s].
        operator: Who lets go now and then.
    """

    def __init__(self, period_s: float, generator: np.random.Generator, count: int) -> None:
        self.ages = self._drawn_ages(generator, count)
        luck = generator.random(count)
        odd = generator.choice([0, -1, np.nan, np.inf, 1e9, 1e-9], count)
        late = period_s * generator.uniform(0.2, 3, count)
        self.dt_s: list[float] = np.select([luck < 0.01, luck < 0.06], [odd, late], period_s).tolist()
        deadman, enabled = generator.random(count) > 0.02, generator.random(count) > 0.01
        self.operator = [ALLOWED[each] for each in (2 * deadman + enabled).tolist()]

    @staticmethod
    def _drawn_ages(generator: np.random.Generator, count: int) -> list[dict[str, int] | None]:
        fresh = {"state": 0, "camera": 0}
        ages: list[dict[str, int] | None] = [fresh] * count
        stale = generator.random((count, 2)) < 0.02
        for tick in np.flatnonzero(stale.any(axis=1)).tolist():
            drawn = (10 ** generator.uniform(6, 8.75, 2)).astype(int) * stale[tick]
            ages[tick] = {"state": int(drawn[0]), "camera": int(drawn[1])}
        luck = generator.random(count)
        for tick in np.flatnonzero(luck < 0.016).tolist():
            if luck[tick] < 0.003:
                ages[tick] = {"state": -5, "camera": 0}
            else:
                ages[tick] = {"state": 0} if luck[tick] < 0.006 else None
        return ages


class Tool:
    """Where displacements have moved a tool, shown some ticks late.

    Args:
        limits: The robot's.

    Attributes:
        shown: What the stream `state` holds now. Shape (A,).
    """

    def __init__(self, limits: CommandLimits) -> None:
        self.shown = np.full(len(limits.low), -0.5)
        self._boxes = [(index, box.scale) for index, box in limits.measured.items() if box.low is not None]
        # Whole ticks, and no later than the limits say.
        late = int(max((box.lag_s for box in limits.measured.values()), default=0.0) * limits.spec.control_hz + 1e-6)
        self._limits = limits
        self._late: dict[int, collections.deque[float]] = {
            index: collections.deque([-0.5] * (late + 1), maxlen=late + 1) for index, _ in self._boxes
        }

    def move(self, applied: AnyArray) -> None:
        """Takes a command. Shape (A,)."""
        for index, scale in self._boxes:
            path = self._late[index]
            path.append(path[-1] + scale * float(applied[index]))
            self.shown[index] = path[0]

    def broken(self, applied: AnyArray) -> list[tuple[int, str]]:
        """Ticks at which a sequence of commands has moved the tool out of its box. Shape (T, A)."""
        found = []
        for index, scale in self._boxes:
            largest = abs(scale) * max(self._limits.high[index], -self._limits.low[index], 1.0)
            slack = WALL_ROUNDINGS * largest * float(np.finfo(applied.dtype).eps) + SUM_ROUNDING
            place = -0.5 + np.cumsum(scale * applied[:, index].astype(np.float64))
            outside = (place < -1.0 - slack) | (place > slack)
            found += [
                (t, f"tool box: dimension {index} is at {place[t]}, outside -1..0")
                for t in np.flatnonzero(outside).tolist()
            ]
        return found
