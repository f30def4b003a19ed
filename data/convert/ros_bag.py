"""Turns ROS 2 bags into episodes, seen as a live session would have seen them.

At every control tick an episode sees what had *arrived* by then, through the live robot's own decoders, rings and
alignment; they are handed in as a `View`, as this package knows nothing of hardware. So a message that came late is
late here too, and nothing is interpolated with what was not there yet.

Where the commands' stamps are the ticks (an arm node's), the ticks are those. Otherwise they lie on a grid from the
first command on, and a tick's action is the newest command by the middle of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from data.archive.codecs import Codec
from data.archive.schema import CompressedStream, EncodedEpisode
from data.convert.bag_file import Arrival, BagError, BagFile
from data.convert.bag_layout import BagLayout
from data.convert.bag_script import ImportReport, ScriptedEpisode, ScriptedTick, read_script
from data.convert.diffusion_policy import Facts
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Observation, Outcome, Source, Step
from robot_rl.core.episode_builder import EpisodeBuilder
from robot_rl.core.errors import StaleSensor
from robot_rl.core.specs import NS_PER_S

ORIGIN = "ros 2 bag"
OTHER_CLOCK_S = 1.0
"""Stamps further than this from the recorder's clock are another clock's, not late."""
CLOCK_SAMPLES = 20


@dataclass(frozen=True)
class BagSettings:
    """How a bag is read.

    Attributes:
        codecs: Camera stream to codec.
        gap_s: Commands further apart begin a new episode; None if none do [s].
        clock: `arrival` lets a message count from when the recorder got it, as live; `stamp` from its stamp on, for
            bags recorded on another clock (simulated time, a computer that was not synchronised).
    """

    codecs: Mapping[str, str]
    gap_s: float | None = None
    clock: Literal["arrival", "stamp"] = "arrival"


def episodes_of(
    bag: BagFile, layout: BagLayout, facts: Facts, options: BagSettings, report: ImportReport
) -> Iterator[EncodedEpisode]:
    """Every episode of an opened bag, oldest first; one of which no tick could be observed is left out.

    Args:
        bag: Opened.
        layout: Where the robot's streams and actions are in it.
        facts: What the bag does not say; the outcome only where nobody judged.
        options: How it is read.
        report: Filled on the way; complete when the last episode is out.

    Raises:
        BagError: A topic is missing, has another type or is empty; the file is damaged; the clocks differ; or nothing
            could be observed at all.
    """
    bag.require(layout.topics())
    if layout.lockstep:
        options = dataclasses.replace(options, clock="stamp")
    elif options.clock == "arrival":
        _check_clocks(bag, layout)
    script = read_script(bag, layout, options.gap_s, options.clock, report)
    playback = _Playback(bag, layout, options, report)
    codecs = {name: Codec.parse(codec) for name, codec in options.codecs.items()}
    for scripted in script:
        # Compressed as they come: a long episode would not fit in memory.
        builder = EpisodeBuilder(layout.spec, {name: codec.encode for name, codec in codecs.items()})
        seen, fault = playback.play(scripted, builder)
        if fault:
            report.cut.append(f"{bag.path.name}: an episode ends after {len(seen)} ticks: {fault}")
        if seen:
            report.episodes += 1
            report.ticks += len(seen)
            episode = builder.episode(*_told(scripted, seen, facts, bag, builder.rewards, fault))
            compressed = {name: CompressedStream.of(*builder.encoded(name), str(codecs[name])) for name in codecs}
            yield EncodedEpisode(uuid.uuid4().hex, episode, compressed)
    playback.finish()
    if not report.episodes:
        why = "; ".join(report.cut) or report.stale_because
        raise BagError(
            f"{bag.path}: not one of {sum(len(each.ticks) for each in script)} ticks could be observed: {why}"
        )


class _Playback:
    """The bag plays: what has arrived by a tick is in the view, and nothing else."""

    def __init__(self, bag: BagFile, layout: BagLayout, options: BagSettings, report: ImportReport) -> None:
        self.view = layout.make_view()
        self._bag, self._report = bag, report
        self._arrivals = _arrivals(bag, layout, options.clock)
        self._next = next(self._arrivals, None)
        self._last_ns: dict[str, int] = {}

    def play(self, scripted: ScriptedEpisode, builder: EpisodeBuilder) -> tuple[list[ScriptedTick], str]:
        """Adds an episode's ticks as far as its streams can be believed; returns them and why they end early."""
        self._begin(scripted)
        seen: list[ScriptedTick] = []
        for tick in scripted.ticks:
            self._hear_until(tick.seen_ns)
            self.view.let_jump(False)
            fault = self.view.fault()
            if fault:
                return seen, fault
            if self._append(tick, builder):
                seen.append(tick)
        return seen, ""

    def _begin(self, scripted: ScriptedEpisode) -> None:
        """From the message that begins an episode to its first tick, a simulated arm may be put at its start."""
        self.view.forget_fault()
        if scripted.began_ns is not None:
            self._hear_until(scripted.began_ns)
            self.view.let_jump(True)

    def _hear_until(self, time_ns: int) -> None:
        while self._next is not None and self._next.arrival_ns <= time_ns:
            self.view.take(self._next.topic, self._next.message)
            self._next = next(self._arrivals, None)

    def _append(self, tick: ScriptedTick, builder: EpisodeBuilder) -> bool:
        """Adds a tick with what it saw; returns False for one that saw nothing fresh, which no session records."""
        try:
            seen = self.view.observe(tick.seen_ns)
        except StaleSensor as error:
            self._report.stale_ticks += 1
            self._report.stale_because = self._report.stale_because or str(error)
            return False
        observation = Observation(tick.stamp_ns, seen.values, seen.age_ns)
        self._check_forward(observation, first=not len(builder))
        reward = 0.0 if tick.judgement is None else tick.judgement.reward
        builder.append(Step(observation, tick.requested, tick.applied, Source.OPERATOR, reward, tick.reasons))
        return True

    def finish(self) -> None:
        """Reports messages that could not be used.

        Raises:
            BagError: There was nothing but such messages for a stream; says why.
        """
        for name, why in self.view.unseen().items():
            raise BagError(f"{self._bag.path}: nothing could be seen of '{name}': {why}")
        self._report.unusable.update(self.view.refused())
        self._report.note(self.view.implausible())

    def _check_forward(self, observation: Observation, *, first: bool) -> None:
        for name, age_ns in observation.age_ns.items():
            stamp_ns = observation.stamp_ns - age_ns
            back_s = (self._last_ns.get(name, stamp_ns) - stamp_ns) / NS_PER_S
            if back_s > 0.0 and not first:
                raise BagError(
                    f"{self._bag.path}: the stamps of '{name}' go back by {back_s:.3f} s within an episode: its "
                    "driver's clock jumped; split the bag there with --split-topic"
                )
            self._last_ns[name] = stamp_ns


def _arrivals(bag: BagFile, layout: BagLayout, clock: str) -> Iterator[Arrival]:
    topics = sorted({topic.name for topic in layout.streams.values()})
    return bag.messages(topics) if clock == "arrival" else bag.by_stamp(topics)


def _check_clocks(bag: BagFile, layout: BagLayout) -> None:
    """Refuses stamps that are not of the recorder's clock, before they make every tick stale."""
    for topic in layout.streams.values():
        first = itertools.islice(bag.messages([topic.name]), CLOCK_SAMPLES)
        late_s = [(each.arrival_ns - each.stamp_ns) / NS_PER_S for each in first]
        behind_s = float(np.median(late_s)) if late_s else 0.0
        if abs(behind_s) > OTHER_CLOCK_S:
            raise BagError(
                f"{bag.path}: {topic.name} is stamped {abs(behind_s):.1f} s "
                f"{'before' if behind_s > 0 else 'after'} it was recorded: the bag was recorded on another clock. "
                "Add --clock stamp to let each message count from its stamp on"
            )


def _told(
    scripted: ScriptedEpisode,
    seen: Sequence[ScriptedTick],
    facts: Facts,
    bag: BagFile,
    rewards: Sequence[float],
    fault: str,
) -> tuple[EpisodeHeader, EpisodeResult]:
    """Header and result: what a judge said, else what the importer was told; aborted where a fault cut it short."""
    verdicts = [tick.judgement for tick in scripted.ticks if tick.judgement is not None]
    outcome = facts.outcome
    if fault:
        outcome = Outcome.ABORTED
    elif verdicts:
        outcome = Outcome.SUCCESS if any(each.success for each in verdicts) else Outcome.FAILURE
    began = datetime.fromtimestamp(seen[0].stamp_ns / NS_PER_S, UTC).isoformat(timespec="seconds")
    aborted = outcome is Outcome.ABORTED
    result = EpisodeResult(
        outcome,
        terminated=not aborted,
        truncated=aborted,
        reason=f"{seen[0].stamp_ns} to {seen[-1].stamp_ns} ns of {bag.path.name}" + (f": {fault}" if fault else ""),
        ticks=len(seen),
        reward_sum=float(sum(rewards)),
        reward_max=float(max(rewards)),
    )
    return EpisodeHeader(facts.task, facts.operator, "", scripted.seed, began, ORIGIN), result
