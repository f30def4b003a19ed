"""What can go wrong with an arm and with what it says of itself, as a schedule that a seed draws.

A yaml names them, for example

    troubles: [{kind: frozen, since: motion, at_s: [0.5, 1.5], for_s: 0.5}]
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S


class Since(enum.StrEnum):
    """What a trouble's time is counted from."""

    START = "start"
    """The arm is connected."""
    RESET = "reset"
    """An episode begins."""
    MOTION = "motion"
    """The first command of an episode."""


class FalseKind(enum.StrEnum):
    """What a false sample shows instead of the joints."""

    ZEROS = "zeros"
    TURN = "turn"
    """One joint is shown a whole turn further."""
    SIGN = "sign"
    """Every joint has the wrong sign."""
    GARBAGE = "garbage"
    """Any numbers up to +-10 rad."""
    STALE = "stale"
    """What was shown last, with a new stamp."""
    NAN = "nan"


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong for a while.

    Attributes:
        at_s: Earliest and latest beginning after `since` [s].
        since: See `Since`.
        for_s: How long it lasts [s].
        joint: Index of the joint, where it is about one.
        first: Episode in which it happens first, counted from 1; not used since the start.
        every: Episodes from one time to the next.
    """

    kind: ClassVar[str] = ""
    at_s: tuple[float, float] = (0.0, 0.0)
    since: Since = Since.MOTION
    for_s: float = math.inf
    joint: int = 0
    first: int = 1
    every: int = 1

    def happens_in(self, episode: int) -> bool:
        """Whether it happens in an episode; 0 is the time before the first."""
        if self.since is Since.START:
            return episode == 0
        return episode >= self.first and (episode - self.first) % self.every == 0


@dataclass(frozen=True)
class Frozen(Trouble):
    """The arm does not move, as under a brake, and goes on reporting."""

    kind: ClassVar[str] = "frozen"


@dataclass(frozen=True)
class SpeedScaled(Trouble):
    """The arm follows at a share of its pace, as with a speed slider."""

    kind: ClassVar[str] = "speed_scaled"
    scale: float = 0.0


@dataclass(frozen=True)
class Pushed(Trouble):
    """A hand moves one joint, whose servo yields; let go, it springs back.

    Attributes:
        by_rad: How far [rad].
        push_s: Over which time; then the hand holds it [s].
    """

    kind: ClassVar[str] = "pushed"
    by_rad: float = 0.3
    push_s: float = 0.5


@dataclass(frozen=True)
class FalseSamples(Trouble):
    """Samples that show something else than the joints.

    Attributes:
        shows: What.
        samples: How many in a row.
    """

    kind: ClassVar[str] = "false_samples"
    shows: FalseKind = FalseKind.ZEROS
    samples: int = 1


@dataclass(frozen=True)
class OtherPublisher(Trouble):
    """Every second sample is another arm's, which stands elsewhere.

    Attributes:
        away_rad: How far each of its joints is from this one's at the beginning [rad].
    """

    kind: ClassVar[str] = "other_publisher"
    away_rad: float = 0.4


@dataclass(frozen=True)
class LostCommands(Trouble):
    """Commands do not reach the arm.

    Attributes:
        share: Of them.
    """

    kind: ClassVar[str] = "lost_commands"
    share: float = 1.0


@dataclass(frozen=True)
class Silent(Trouble):
    """The arm says nothing, and goes on doing what it was told."""

    kind: ClassVar[str] = "silent"


@dataclass(frozen=True)
class EncoderOffset(Trouble):
    """From a reset on, one joint is shown, and obeys, with another zero; `at_s` and `for_s` are not used.

    Attributes:
        offset_rad: Of what is shown against the truth [rad].
    """

    kind: ClassVar[str] = "encoder_offset"
    offset_rad: float = 2 * math.pi


KINDS: Mapping[str, type[Trouble]] = {
    each.kind: each
    for each in (Frozen, SpeedScaled, Pushed, FalseSamples, OtherPublisher, LostCommands, Silent, EncoderOffset)
}


def trouble_from(document: Mapping[str, Any]) -> Trouble:
    """The trouble that a yaml names.

    Raises:
        RobotRLError: Says which kind or key there is.
    """
    settings = dict(document)
    kind = KINDS.get(settings.pop("kind", ""))
    if kind is None:
        raise RobotRLError(f"trouble is {dict(document)}, wanted 'kind', one of {', '.join(KINDS)}")
    known = {field.name for field in dataclasses.fields(kind)}
    if not settings.keys() <= known:
        strange = ", ".join(sorted(settings.keys() - known))
        raise RobotRLError(f"trouble {kind.kind} has no '{strange}'; it takes {', '.join(sorted(known))}")
    try:
        for key, meaning in {"since": Since, "shows": FalseKind, "at_s": _window}.items():
            if key in settings:
                settings[key] = meaning(settings[key])
    except (ValueError, TypeError) as error:
        raise RobotRLError(f"trouble {kind.kind}: {error}") from error
    return kind(**settings)


def _window(at_s: Any) -> tuple[float, float]:
    earliest_s, latest_s = at_s
    return float(earliest_s), float(latest_s)


@dataclass(frozen=True)
class Scheduled:
    """A trouble and when it is, on the arm's clock [ns]."""

    trouble: Trouble
    begin_ns: int

    @property
    def end_ns(self) -> float:
        """When it is over; infinite if it stays."""
        return self.begin_ns + self.trouble.for_s * NS_PER_S

    def lasts_at(self, now_ns: int) -> bool:
        """Whether it is going on."""
        return self.begin_ns <= now_ns < self.end_ns


def scheduled(trouble: Trouble, since_ns: int, generator: np.random.Generator) -> Scheduled:
    """Draws when a trouble begins."""
    return Scheduled(trouble, since_ns + round(generator.uniform(*trouble.at_s) * NS_PER_S))
