"""Where a robot's streams and actions are in a bag, and what it sees while the bag plays.

The converter knows no hardware: whoever does hands these in.

Legend: `A` action dimension, `C` numbers in a command, `T` ticks in an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from data.convert.bag_file import BagTopic
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import FloatArray, RobotSpec

Content = TypeVar("Content")


class CommandRow(NamedTuple):
    """What a command holds, shape (C,), and the stamp of its message [ns]; 0 where the message has none."""

    stamp_ns: int
    values: FloatArray


class AppliedRow(NamedTuple):
    """What the arm made of the command with this stamp, shape (A,), and why it differs (bit set)."""

    stamp_ns: int
    values: FloatArray
    reasons: int


class JudgedRow(NamedTuple):
    """A judge's view of the state that the command with this stamp led to."""

    stamp_ns: int
    judgement: Judgement


@dataclass(frozen=True)
class Channel(Generic[Content]):
    """A topic and what its messages mean.

    Attributes:
        topic: Where.
        read: None for a message that is about something else; raises `RobotRLError` for one that cannot be used.
    """

    topic: BagTopic
    read: Callable[[Any], Content | None]


class View(Protocol):
    """What a robot sees while its bag plays: the live robot's decoders, rings and alignment."""

    def take(self, topic: str, message: Any) -> None:
        """A message arrives; what to make of one that cannot be used is up to the view, as live."""

    def observe(self, tick_ns: int) -> Observation:
        """What is seen at a tick [ns].

        Raises:
            StaleSensor: A stream has none, or only one older than its limit.
        """

    def unseen(self) -> Mapping[str, str]:
        """Stream to why nothing of it could be used; {} if every stream has shown something."""

    def refused(self) -> Mapping[str, int]:
        """Topic to the number of messages that could not be used."""

    def implausible(self) -> Mapping[str, tuple[int, str]]:
        """Stream to the number of samples that no body could have reached, and the first in words; {} for none."""

    def fault(self) -> str:
        """Which stream cannot be believed any more and why, in words; empty while all can."""

    def let_jump(self, allowed: bool) -> None:
        """Whether the arm may be somewhere else at once, as a simulated one is while it is put at its start."""

    def forget_fault(self) -> None:
        """Begins anew with streams that could not be believed any more."""


@dataclass(frozen=True)
class CommandPart:
    """Commands that fill some of the action's dimensions.

    Attributes:
        channel: Where they are.
        columns: The dimensions.
        actions: Makes actions (T, columns) of the commands that held at successive ticks (T, C); None if they are
            actions as they are.
        initial: What held before the first command; None if that is what the first one says.
    """

    channel: Channel[CommandRow]
    columns: tuple[int, ...]
    actions: Callable[[FloatArray], FloatArray] | None = None
    initial: tuple[float, ...] | None = None


@dataclass(frozen=True)
class BagLayout:
    """How a robot's streams and actions are found in a bag.

    Attributes:
        spec: The robot's.
        streams: Stream name to its topic; two may share one.
        make_view: What the robot sees, with nothing seen yet.
        commands: Where actions are; together they fill every dimension, and the first one's are what ticks follow.
        stamps_are_ticks: Each command (of one part only) is stamped with the control tick that it was decided at.
        applied: Acknowledgements; None if the arm gives none, then what was commanded counts as executed.
        judgement: None if nobody judges.
        episode_start: A message of this begins an episode; its content is the seed, None for unknown.
        lockstep: Time stood still between rows: what was seen is what was stamped before the command, whenever it
            arrived, and ticks are the nominal period apart.
    """

    spec: RobotSpec
    streams: Mapping[str, BagTopic]
    make_view: Callable[[], View]
    commands: Sequence[CommandPart]
    stamps_are_ticks: bool
    lockstep: bool = False
    applied: Channel[AppliedRow] | None = None
    judgement: Channel[JudgedRow] | None = None
    episode_start: Channel[int] | None = None

    def topics(self) -> list[BagTopic]:
        """Every topic that a bag must hold."""
        others = [each.topic for each in (self.applied, self.judgement, self.episode_start) if each is not None]
        commands = [part.channel.topic for part in self.commands]
        return [*self.streams.values(), *commands, *others]
