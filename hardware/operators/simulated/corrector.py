"""A simulated operator who watches a policy drive, takes over when the run goes wrong, and gives back after a while.

It stands in for a person in a correction session: it sees what a person would see of the scene and nothing of the
policy, needs time to react, and is no better at driving than people are.

    watching -> worried -> (reaction) -> driving -> (a while) -> watching
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from hardware.operators.simulated.pusht_pusher import PushTPusher, distance_from_goal_px
from hardware.operators.simulated.scripted import ScriptedOperator
from robot_rl.core.episode import Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Operator, OperatorCommand
from robot_rl.core.specs import RobotSpec

CM_PER_M = 100.0


@dataclass(frozen=True)
class Attention:
    """When the operator steps in and for how long. Durations in seconds of the robot's clock.

    Attributes:
        reaction_s: Shortest and longest time from the first doubt that stays to taking over.
        drive_s: Shortest and longest time until control is given back; None drives to the episode's end.
        window_s: How far back progress is judged, and how long after giving back nothing is.
        progress: Share of the motion that the operator would make below which the run is in doubt: 0 is standing
            still, negative is going the wrong way.
        late_s: An episode that lasts longer is in doubt whatever happens, and then driven to its end; None for never.
    """

    reaction_s: tuple[float, float] = (0.4, 0.8)
    drive_s: tuple[float, float] | None = (0.8, 1.6)
    window_s: float = 1.0
    progress: float = 0.05
    late_s: float | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn from."""
        for name in ("reaction_s", "drive_s"):
            span = getattr(self, name)
            if span is not None and not 0.0 <= span[0] <= span[1] < float("inf"):
                raise RobotRLError(f"operator.attention.{name} is {span}, wanted the shortest and the longest duration")
        if not self.window_s > 0 or (self.late_s is not None and not self.late_s > 0):
            raise RobotRLError("operator.attention: window_s and late_s must be more than 0")


METAWORLD = Attention(late_s=2.5)
"""At 80 Hz. On peg-insert-side the script takes 1.2 s (median) and never looks in doubt; an imitation of imperfect
people takes 2.0 s, hesitating as they did, and 95 % of its successes come within 2.8 s."""
PUSHT = Attention((0.5, 1.5), (4.0, 8.0), 6.0, 0.0)
"""At 10 Hz, where walking around the block takes seconds in which it does not move."""


class Watch(Protocol):
    """What an operator makes of a run by looking at it."""

    def reset(self) -> None:
        """Forgets what was seen: a new episode, or somebody else drove meanwhile."""

    def doubts(self, observation: Observation) -> bool:
        """Whether the run goes wrong; called at every tick while the policy drives."""


class ExpertWatch:
    """Compares the hand's motion in Meta-World with what the script would do in its place.

    Over the window, the hand's displacement along the script's direction is set against the length of the way that the
    script would have asked for. Where the script itself hardly moves (while grasping) there is nothing to compare.

    Args:
        task: One of Meta-World's tasks.
        window: Ticks to look back.
        progress: Share of the script's motion below which a run is in doubt.
    """

    LEAST_WANTED = 0.15
    """Share of the fastest motion: a script that asks for less over the window is not moving."""

    def __init__(self, task: str, window: int, progress: float) -> None:
        # Its noiseless script serves as the opinion; the hands that correct are another operator's.
        self._expert = ScriptedOperator(task, "clean")
        self._progress = progress
        self._moves: deque[tuple[float, float]] = deque(maxlen=window)
        self._last: npt.NDArray[np.float64] | None = None
        self._wish = np.zeros(3)
        self._expert.reset(0)

    def reset(self) -> None:
        """Forgets the motion seen."""
        self._moves.clear()
        self._last = None

    def doubts(self, observation: Observation) -> bool:
        """Whether the hand made too little of the way that the script would have made."""
        action = self._expert.poll(observation).action
        assert action is not None
        hand_cm = CM_PER_M * observation.values["state"][:3].astype(np.float64)
        if self._last is not None:
            wanted = float(np.linalg.norm(self._wish))
            along = float((hand_cm - self._last) @ self._wish) / wanted if wanted > 0 else 0.0
            self._moves.append((along, wanted))
        self._last, self._wish = hand_cm, action[:3].astype(np.float64)
        if len(self._moves) < (self._moves.maxlen or 0):
            return False
        done, wanted = (sum(each) for each in zip(*self._moves, strict=True))
        return bool(wanted > self.LEAST_WANTED * len(self._moves) and done < self._progress * wanted)


class BlockWatch:
    """Doubts a Push-T run whose block has not come nearer to its outline within the window.

    Args:
        window: Ticks to look back.
    """

    LEAST_GAIN_PX = 2.0

    def __init__(self, window: int) -> None:
        self._window = window
        self.reset()

    def reset(self) -> None:
        """Forgets how far the task had come."""
        self._best_px, self._since = float("inf"), 0

    def doubts(self, observation: Observation) -> bool:
        """Whether the task has not come on for too long."""
        away_px = distance_from_goal_px(observation)
        self._since += 1
        if away_px < self._best_px - self.LEAST_GAIN_PX:
            self._best_px, self._since = away_px, 0
        return self._since > self._window


class _State(enum.Enum):
    WATCHING = enum.auto()
    WORRIED = enum.auto()
    DRIVING = enum.auto()


class Corrector:
    """An `Operator` who lets a policy drive until it goes wrong. Deterministic for a seed.

    Args:
        hands: Drives while in control.
        watch: Judges the run otherwise.
        attention: When to step in, and for how long.
        control_hz: Ticks per second.
    """

    def __init__(self, hands: Operator, watch: Watch, attention: Attention, control_hz: float) -> None:
        self.name = f"corrector:{hands.name}"
        self.attention = attention
        self._hands, self._watch = hands, watch
        self._hz = control_hz
        self._generator: np.random.Generator | None = None
        self._state, self._left, self._tick = _State.WATCHING, 0, 0

    def __enter__(self) -> Self:
        self._hands.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hands.__exit__(kind, error, trace)

    def reset(self, seed: int) -> None:
        """A new episode, in which the policy drives first."""
        # A stream of its own: how quick the operator is must not depend on how they drive.
        self._generator = np.random.default_rng((seed, 2))
        self._hands.reset(seed)
        self._watch.reset()
        self._state, self._left, self._tick = _State.WATCHING, 0, 0

    def poll(self, observation: Observation) -> OperatorCommand:
        """An action while in control, else nothing; the judge or the clock ends the episode.

        Raises:
            RobotRLError: `reset` was never called, or a stream that the script needs is missing.
        """
        if self._generator is None:
            raise RobotRLError("the correcting operator has no seed yet: call reset(seed) before each episode")
        self._tick += 1
        late = self.attention.late_s is not None and self._tick > self.attention.late_s * self._hz
        if self._state is _State.DRIVING:
            self._left -= 1
            if self._left > 0 or late:
                return self._hands.poll(observation)
            self._watch.reset()
            self._state = _State.WATCHING
        doubt = self._watch.doubts(observation) or late
        if not doubt:
            self._state = _State.WATCHING
            return OperatorCommand()
        if self._state is _State.WATCHING:
            self._state, self._left = _State.WORRIED, self._draw(self.attention.reaction_s)
        self._left -= 1
        if self._left > 0:
            return OperatorCommand()
        self._state = _State.DRIVING
        span = self.attention.drive_s
        self._left = np.iinfo(np.int64).max if span is None else self._draw(span)
        return self._hands.poll(observation)

    def _draw(self, span_s: tuple[float, float]) -> int:
        """A duration in ticks, at least one."""
        assert self._generator is not None
        return max(1, round(float(self._generator.uniform(*span_s)) * self._hz))


def corrector(
    spec: RobotSpec,
    task: str,
    skill: str | Mapping[str, Any] | None = None,
    attention: Mapping[str, Any] | None = None,
) -> Operator:
    """The correcting operator that fits a simulated robot.

    Args:
        spec: The robot's.
        task: The task's name.
        skill: How well it drives, see `ScriptedOperator`; None is `mild`. Push-T's pusher knows none.
        attention: Fields of an `Attention` that differ from the robot's own.

    Raises:
        RobotRLError: No script drives this robot, or an unknown task, skill or field.
    """
    if spec.name == "metaworld":
        timing = _attention(METAWORLD, attention)
        watch = ExpertWatch(task, round(timing.window_s * spec.control_hz), timing.progress)
        return Corrector(ScriptedOperator(task, "mild" if skill is None else skill), watch, timing, spec.control_hz)
    if spec.name != "pusht":
        raise RobotRLError(
            f"no script can correct robot '{spec.name}', only metaworld and pusht: use operator=keyboard"
        )
    if skill is not None:
        raise RobotRLError(f"operator.skill is {skill}, but Push-T's scripted pusher has no skills: leave it out")
    timing = _attention(PUSHT, attention)
    return Corrector(PushTPusher(), BlockWatch(round(timing.window_s * spec.control_hz)), timing, spec.control_hz)


def _attention(default: Attention, changes: Mapping[str, Any] | None) -> Attention:
    values = dict(changes or {})
    unknown = sorted(values.keys() - vars(default).keys())
    if unknown:
        raise RobotRLError(f"operator.attention has no {', '.join(unknown)}: its fields are {', '.join(vars(default))}")
    spans = {name: tuple(map(float, value)) for name, value in values.items() if isinstance(value, (list, tuple))}
    return Attention(**{**vars(default), **values, **spans})
