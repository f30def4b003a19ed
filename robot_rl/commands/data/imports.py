"""`robot-rl data import`: other projects' datasets and ROS 2 bags become episodes, all of them or none."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.archive.schema import CompressedStream, EncodedEpisode, encode_episode, full_codecs
from data.archive.store import DatasetStore
from data.convert.diffusion_policy import (
    PUSHT,
    Archive,
    Facts,
    Layout,
    derive_layout,
    is_pusht,
    narrow,
    open_archive,
)
from data.convert.diffusion_policy import episodes_of as archive_episodes
from robot_rl.commands.data.console import UsageError, say, tracked
from robot_rl.core.episode import Outcome
from robot_rl.core.specs import ActionKind, RobotSpec

if TYPE_CHECKING:
    from data.convert.bag_script import ImportReport
    from robot_rl.sessions.setup import RobotFile

TRANSACTION_BYTES = 8 << 20
"""An import is committed this much at a time."""
BAG_GAP_S = 1.0
"""A pause in one episode's commands that the user is told of."""


def import_archive(arguments: argparse.Namespace) -> int:
    """Imports a dataset in the Diffusion Policy layout."""
    if arguments.settings:
        raise UsageError(f"'{arguments.settings[0]}' is a setting of a bag's robot; this format takes none")
    with open_archive(arguments.source) as archive:
        layout = _archive_layout(archive, arguments)
        facts = Facts(arguments.task or layout.spec.name, arguments.operator, Outcome(arguments.outcome))
        codecs = _codecs(layout.spec, arguments)
        episodes = (
            encode_episode(each, codecs, uuid.uuid4().hex)
            for each in tracked(archive_episodes(archive, layout, facts), len(archive), "importing")
        )
        add_all(arguments, layout.spec, codecs, episodes)
    say(
        f"imported {len(archive)} episodes, {archive.episode_ends[-1]} ticks, into {arguments.dataset}. The format has "
        f"no outcome, clock, reward or seed: outcome is {facts.outcome}, stamps are row / "
        f"{layout.spec.control_hz:g} Hz, reward is 0, seed is unknown"
    )
    return 0


def import_bag(arguments: argparse.Namespace) -> int:
    """Imports a ROS 2 bag, or every bag in a directory."""
    from data.convert.bag_file import BagFile, bags_at
    from data.convert.bag_script import ImportReport
    from data.convert.ros_bag import BagSettings, episodes_of
    from robot_rl.commands.data.bag_view import bag_layout

    settings = _bag_settings(arguments)
    report, bags = ImportReport(), bags_at(arguments.source)
    start = settings.limits.get("start") or {}
    for path in bags:
        # Before anything is written: most mistakes are topics that are not there.
        with BagFile(path) as bag:
            layout = bag_layout(settings.robot, start, bag.topics, arguments.split_topic)
            bag.require(layout.topics())
    spec = layout.spec
    codecs = _codecs(spec, arguments)
    options = BagSettings(codecs, arguments.split_gap, arguments.clock)
    task = arguments.task or settings.task.get("name") or spec.name
    facts = Facts(task, arguments.operator, Outcome(arguments.outcome))

    def episodes(paths: Sequence[Path]) -> Iterator[EncodedEpisode]:
        for path in paths:
            with BagFile(path) as bag:
                layout = bag_layout(settings.robot, start, bag.topics, arguments.split_topic)
                yield from episodes_of(bag, layout, facts, options, report)

    add_all(arguments, spec, codecs, tracked(episodes(bags), len(bags), "importing"))
    for line in _report_lines(report, arguments):
        say(line)
    return 0


def add_all(
    arguments: argparse.Namespace, spec: RobotSpec, codecs: dict[str, str], episodes: Iterable[EncodedEpisode]
) -> None:
    """Adds every episode to the dataset that the user named, making it; if one fails, none.

    Raises:
        UsageError: The dataset holds episodes and the user did not say to append.
    """
    with DatasetStore.create(arguments.dataset, spec, codecs) as store:
        before = store.episode_ids()
        if before and not arguments.append:
            raise UsageError(f"dataset {store.url} holds {len(before)} episodes already: add --append, or name another")
        try:
            _append(store, episodes)
        except BaseException:
            # Half an import is worth less than none: it could not be told from a whole one, nor resumed.
            store.delete([each for each in store.episode_ids() if each not in before])
            raise
        store.sync()


def _append(store: DatasetStore, episodes: Iterable[EncodedEpisode]) -> None:
    """Adds episodes several to a transaction: every snapshot lists the whole dataset, so few are better than many."""
    waiting: list[EncodedEpisode] = []
    waiting_bytes = 0
    for episode in episodes:
        waiting.append(episode)
        waiting_bytes += sum(
            len(stream.data) if isinstance(stream, CompressedStream) else stream.values.nbytes
            for stream in episode.streams.values()
        )
        if waiting_bytes >= TRANSACTION_BYTES:
            store.append_encoded(*waiting)
            waiting, waiting_bytes = [], 0
    if waiting:
        store.append_encoded(*waiting)


def _codecs(spec: RobotSpec, arguments: argparse.Namespace) -> dict[str, str]:
    return full_codecs(spec, {name: arguments.codec for name in spec.images})


def _archive_layout(archive: Archive, arguments: argparse.Namespace) -> Layout:
    """The published Push-T layout where nothing else is said and the arrays are those; else what the shapes say."""
    if is_pusht(archive) and arguments.robot is None and arguments.control_hz is None:
        return narrow(PUSHT, arguments.streams)
    if arguments.control_hz is None:
        raise UsageError(f"{archive.path} does not say how many rows a second has: add --control-hz, for example 10")
    return derive_layout(
        archive,
        robot=arguments.robot or archive.path.name.split(".")[0],
        control_hz=arguments.control_hz,
        kind=ActionKind(arguments.action_kind),
        streams=tuple(arguments.streams),
    )


def _bag_settings(arguments: argparse.Namespace) -> RobotFile:
    """The robot that the user names, with only the streams that the user wants."""
    from robot_rl.config.settings import load
    from robot_rl.sessions.setup import RobotFile

    if not any(each.startswith("robot=") for each in arguments.settings):
        raise UsageError("a bag does not say which robot it is of: add robot=ros/my_arm, whose yaml names the topics")
    for flag in ("robot", "control_hz"):
        if getattr(arguments, flag) is not None:
            wanted = f"robot=ros/my_arm robot.{'name' if flag == 'robot' else flag}=..."
            raise UsageError(f"--{flag.replace('_', '-')} is not for bags, the robot's yaml says it: {wanted}")
    settings = load(RobotFile, "import_bag", arguments.settings)
    streams = settings.robot.get("streams") or {}
    for name in arguments.streams:
        if name not in streams:
            raise UsageError(f"robot.streams has no '{name}'; it has {', '.join(streams)}")
    if arguments.streams:
        settings.robot["streams"] = {name: streams[name] for name in arguments.streams}
    return settings


def _report_lines(report: ImportReport, arguments: argparse.Namespace) -> Iterator[str]:
    """What was imported, and everything that was left out or guessed."""
    yield f"imported {report.episodes} episodes, {report.ticks} ticks, into {arguments.dataset}"
    if report.stale_ticks:
        yield f"left out {report.stale_ticks} ticks at which a stream was stale; the first: {report.stale_because}"
    for topic, count in report.unusable.items():
        why = report.unusable_because.get(topic)
        yield f"{count} messages of {topic} could not be used{f', the last because {why}' if why else ''}"
    for name, count in report.implausible.items():
        yield (
            f"{count} samples of '{name}' were not used, as no body could have reached them; the first: "
            f"{report.implausible_because[name]}"
        )
    yield from report.cut
    if report.unacknowledged:
        yield f"{report.unacknowledged} commands were not acknowledged; they count as holding still"
    if report.longest_gap_s > BAG_GAP_S and arguments.split_gap is None:
        yield (
            f"commands of one episode pause for up to {report.longest_gap_s:.1f} s; if that is a new episode, import "
            f"again with --split-gap {BAG_GAP_S:g}"
        )
