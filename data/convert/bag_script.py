"""What a bag says was commanded: its episodes, their ticks and the action of each tick.

Legend: `A` action dimension, `C` numbers in a command, `T` ticks in an episode.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from data.convert.bag_file import Arrival, BagError, BagFile
from data.convert.bag_layout import AppliedRow, BagLayout, Channel, CommandPart, CommandRow, Content
from data.convert.diffusion_policy import UNKNOWN_SEED
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Judgement
from robot_rl.core.specs import NS_PER_S, ActionKind, AnyArray, FloatArray, RobotSpec


@dataclass
class ImportReport:
    """What became of a bag besides its episodes.

    Attributes:
        episodes: Imported.
        ticks: Imported.
        stale_ticks: Left out because a stream showed nothing fresh, as live.
        stale_because: The first such reason.
        unacknowledged: Commands without an acknowledgement, taken for holding still.
        longest_gap_s: Between two successive commands of one episode.
        unusable: Topic to messages that could not be used.
        unusable_because: Topic to the last such reason.
        implausible: Stream to samples that no body could have reached; none was used.
        implausible_because: Stream to the first of them, in words.
        cut: Episodes that end early, each with the tick and the reason in words.
    """

    episodes: int = 0
    ticks: int = 0
    stale_ticks: int = 0
    stale_because: str = ""
    unacknowledged: int = 0
    longest_gap_s: float = 0.0
    unusable: Counter[str] = field(default_factory=Counter)
    unusable_because: dict[str, str] = field(default_factory=dict)
    implausible: Counter[str] = field(default_factory=Counter)
    implausible_because: dict[str, str] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)

    def note(self, implausible: Mapping[str, tuple[int, str]]) -> None:
        """Counts what a bag's view kept out."""
        for name, (count, first) in implausible.items():
            self.implausible[name] += count
            self.implausible_because.setdefault(name, first)

    def read(self, channel: Channel[Content], message: Any) -> Content | None:
        """What a message means; one that cannot be used is counted."""
        try:
            return channel.read(message)
        except RobotRLError as error:
            self.unusable[channel.topic.name] += 1
            self.unusable_because[channel.topic.name] = str(error)
            return None


class ScriptedTick(NamedTuple):
    """One tick without its observation. Shapes (A,).

    Attributes:
        stamp_ns: As it is recorded.
        seen_ns: The same moment on the bag's clock; another one only in lockstep.
    """

    stamp_ns: int
    seen_ns: int
    requested: FloatArray
    applied: FloatArray
    reasons: int
    judgement: Judgement | None


class ScriptedEpisode(NamedTuple):
    """Seed and ticks, ascending, and when a message began it on the bag's clock [ns]; None if none did."""

    seed: int
    ticks: Sequence[ScriptedTick]
    began_ns: int | None


class _Segment(NamedTuple):
    """Commands of one episode, and what its beginning says; see `ScriptedEpisode`."""

    seed: int
    began_ns: int | None
    commands: list[CommandRow]


def read_script(
    bag: BagFile, layout: BagLayout, gap_s: float | None, clock: str, report: ImportReport
) -> list[ScriptedEpisode]:
    """Every episode of a bag, oldest first, without observations.

    Args:
        bag: Opened, with every topic of the layout.
        layout: Where the robot's actions are in it.
        gap_s: Commands further apart than this begin a new episode; None if none do [s].
        clock: `arrival` or `stamp`, see `ros_bag.episodes_of`.
        report: Told of what was left out.

    Raises:
        BagError: No command, or commands that go back in time.
    """
    reader = _ScriptReader(bag, layout, clock, report)
    applied = dict(reader.column(layout.applied, lambda row: (row.stamp_ns, row)))
    judged = dict(reader.column(layout.judgement, lambda row: (row.stamp_ns, row.judgement)))
    others = [reader.rows(part) for part in layout.commands[1:]]
    episodes = []
    for seed, began_ns, commands in reader.segments(gap_s):
        reader.check_order(commands)
        if layout.stamps_are_ticks:
            ticks = _acknowledged(commands, layout, applied, judged, report)
        else:
            ticks = _on_grid([commands, *others], layout)
        gaps_ns = np.diff([row.stamp_ns for row in commands])
        report.longest_gap_s = max(report.longest_gap_s, float(gaps_ns.max(initial=0)) / NS_PER_S)
        episodes.append(ScriptedEpisode(seed, ticks, began_ns))
    if not episodes:
        topic = layout.commands[0].channel.topic.name
        because = report.unusable_because.get(topic, "none is meant for this robot's action")
        raise BagError(f"{bag.path}: no message of {topic} is a command of this robot: {because}")
    return episodes


@dataclass(frozen=True)
class _ScriptReader:
    """Reads the topics that belong to actions, which are small enough to be read whole."""

    bag: BagFile
    layout: BagLayout
    clock: str
    report: ImportReport

    def column(
        self, channel: Channel[Content] | None, item: Callable[[Content], tuple[int, Any]]
    ) -> Iterator[tuple[int, Any]]:
        """What a topic says by stamp; nothing where there is no such topic."""
        if channel is None:
            return
        for each in self.bag.messages([channel.topic.name]):
            content = self.report.read(channel, each.message)
            if content is not None:
                yield item(content)

    def rows(self, part: CommandPart) -> list[CommandRow]:
        """A part's commands."""
        arrivals = self.bag.messages([part.channel.topic.name])
        return [row for each in arrivals if (row := self._command(each, part.channel)) is not None]

    def segments(self, gap_s: float | None) -> Iterator[_Segment]:
        """The first part's commands from one beginning of an episode to the next."""
        channel, start = self.layout.commands[0].channel, self.layout.episode_start
        names = {channel.topic.name, *([start.topic.name] if start is not None else [])}
        segment = _Segment(UNKNOWN_SEED, None, [])
        for each in self.bag.messages([*names]):
            if start is not None and each.topic == start.topic.name:
                if segment.commands:
                    yield segment
                found = self.report.read(start, each.message)
                segment = _Segment(UNKNOWN_SEED if found is None else found, self._time_ns(each), [])
                continue
            row = self._command(each, channel)
            if row is None:
                continue
            rows = segment.commands
            if gap_s is not None and rows and row.stamp_ns - rows[-1].stamp_ns > gap_s * NS_PER_S:
                yield segment
                segment = _Segment(UNKNOWN_SEED, None, [])
            segment.commands.append(row)
        if segment.commands:
            yield segment

    def _time_ns(self, each: Arrival) -> int:
        """When a message counts from, on the clock that the bag is read by."""
        return each.arrival_ns if self.clock == "arrival" else each.stamp_ns

    def check_order(self, commands: Sequence[CommandRow]) -> None:
        """Refuses commands of one episode that go back in time."""
        for before, after in itertools.pairwise(commands):
            back = after.stamp_ns < before.stamp_ns
            if back or (self.layout.stamps_are_ticks and after.stamp_ns == before.stamp_ns):
                raise BagError(
                    f"{self.bag.path}: commands on {self.layout.commands[0].channel.topic.name} go back from "
                    f"{before.stamp_ns} to {after.stamp_ns} ns: two publishers, or a clock that jumped; split the bag "
                    "there with --split-topic"
                )

    def _command(self, each: Arrival, channel: Channel[CommandRow]) -> CommandRow | None:
        """A command, stamped with its tick, its own stamp or its arrival."""
        row = self.report.read(channel, each.message)
        if row is None:
            return None
        if not np.isfinite(row.values).all():
            self.report.unusable[each.topic] += 1
            self.report.unusable_because[each.topic] = "holds NaN or infinity"
            return None
        if not self.layout.stamps_are_ticks and self.clock == "arrival":
            return row._replace(stamp_ns=each.arrival_ns)
        if row.stamp_ns <= 0:
            raise BagError(
                f"{self.bag.path}: {each.topic} is not stamped, so it has no place on the stamps' clock: "
                "import with --clock arrival"
            )
        return row


def _acknowledged(
    commands: Sequence[CommandRow],
    layout: BagLayout,
    applied: Mapping[int, AppliedRow],
    judged: Mapping[int, Judgement],
    report: ImportReport,
) -> list[ScriptedTick]:
    """Every command with what became of it; one that nobody acknowledged held the arm still, as live."""
    ticks: list[ScriptedTick] = []
    for index, (stamp_ns, values) in enumerate(commands):
        requested = np.asarray(values, layout.spec.action.dtype)
        done = applied.get(stamp_ns)
        if layout.applied is None:
            executed, reasons = requested, 0
        elif done is not None:
            executed, reasons = np.asarray(done.values, requested.dtype), done.reasons
        else:
            report.unacknowledged += 1
            executed, reasons = layout.spec.hold(ticks[-1].applied if ticks else requested), 0
        recorded_ns, seen_ns = stamp_ns, stamp_ns
        if layout.lockstep:
            # What a row led to may be stamped like the row itself.
            recorded_ns, seen_ns = commands[0].stamp_ns + index * layout.spec.tick_ns, stamp_ns - 1
        ticks.append(ScriptedTick(recorded_ns, seen_ns, requested, executed, reasons, judged.get(stamp_ns)))
    return ticks


def _on_grid(parts: Sequence[Sequence[CommandRow]], layout: BagLayout) -> list[ScriptedTick]:
    """The action of every tick from the first command of the first part to its last."""
    tick_ns, spec = layout.spec.tick_ns, layout.spec
    first_ns, last_ns = parts[0][0].stamp_ns, parts[0][-1].stamp_ns
    stamps_ns = first_ns + tick_ns * np.arange(round((last_ns - first_ns) / tick_ns) + 1, dtype=np.int64)
    actions = np.zeros((len(stamps_ns), *spec.action.shape), spec.action.dtype)
    for part, commands in zip(layout.commands, parts, strict=True):
        if commands:
            actions[:, part.columns] = _held(part, commands, stamps_ns, spec)
    return [
        ScriptedTick(stamp_ns, stamp_ns, row, row, 0, None)
        for stamp_ns, row in zip(stamps_ns.tolist(), actions, strict=True)
    ]


def _held(part: CommandPart, commands: Sequence[CommandRow], ticks_ns: AnyArray, spec: RobotSpec) -> FloatArray:
    """One part's actions at every tick, shape (T, columns): the newest command by the middle of the tick.

    Where commands have ceased, a rate is zero; all else stays as it was commanded.
    """
    stamps_ns = np.array([row.stamp_ns for row in commands], np.int64)
    newest = np.searchsorted(stamps_ns, ticks_ns + spec.tick_ns // 2, side="right") - 1
    held = np.array([row.values for row in commands], np.float64)[np.maximum(newest, 0)]
    if part.initial is not None:
        held[newest < 0] = part.initial
    if part.actions is not None:
        return part.actions(held)
    ceased = ticks_ns - stamps_ns[np.maximum(newest, 0)] > spec.tick_ns
    rates = spec.kind_mask(ActionKind.RATE)[[*part.columns]]
    return np.where(ceased[:, None] & rates, 0.0, held)
