"""The grammar of `robot-rl data`: verbs, their arguments and what their help says."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from robot_rl.core.episode import Outcome
from robot_rl.core.specs import ActionKind

IMPORTS = ("diffusion-policy", "bag")
EXPORTS = ("diffusion-policy",)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns; argparse has no public name for it."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything after `robot-rl data`; `verb` says which verb was named."""
    parser = argparse.ArgumentParser(
        prog="robot-rl data", description="Look at, check, change, import and export a dataset."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for add in (_add_readers, _add_writers, _add_import, _add_export):
        add(verbs)
    return parser


def _verb(verbs: Verbs, name: str, what: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")


def _dataset(parser: argparse.ArgumentParser, *, history: bool = False) -> None:
    parser.add_argument("dataset", help="directory or s3://bucket/prefix")
    if history:
        parser.add_argument(
            "--snapshot", metavar="ID", help="a snapshot or tag to go back to; the newest state if absent"
        )


def _add_readers(verbs: Verbs) -> None:
    ls = _verb(verbs, "ls", "list episodes and totals")
    _dataset(ls, history=True)
    ls.add_argument("--json", action="store_true", help="for machines")

    show = _verb(verbs, "show", "open an episode in Rerun")
    _dataset(show, history=True)
    show.add_argument("episode", help="for example 3, or last")
    show.add_argument("--save", type=Path, metavar="FILE.rrd", help="write a recording instead of opening a window")

    verify = _verb(verbs, "verify", "read everything and report every inconsistency; status 1 if there is any")
    _dataset(verify, history=True)
    verify.add_argument("episodes", nargs="*", help="for example 3 5-7; all if absent")
    verify.add_argument("--errors-only", action="store_true", help="leave warnings out, of the status too")

    history = _verb(verbs, "history", "list snapshots, newest first")
    _dataset(history)


def _add_writers(verbs: Verbs) -> None:
    delete = _verb(verbs, "delete", "remove episodes; older snapshots keep them until gc")
    _dataset(delete)
    delete.add_argument("episodes", nargs="+", help="for example 3 5-7 last")
    delete.add_argument("--yes", action="store_true", help="do not ask")

    tag = _verb(verbs, "tag", "name the newest snapshot for ever, or list the names")
    _dataset(tag)
    tag.add_argument("name", nargs="?", help="for example v1; lists the tags if absent")

    gc = _verb(verbs, "gc", "forget old snapshots, and the deleted episodes that only they hold; tagged ones stay")
    _dataset(gc)
    gc.add_argument("--older-than", required=True, type=age, metavar="AGE", help="for example 30d, 12h, 2w; 0d for all")

    recover = _verb(verbs, "recover", "keep the episodes that a crash left unfinished, as aborted")
    _dataset(recover)


def _add_import(verbs: Verbs) -> None:
    load = _verb(verbs, "import", "add the episodes of another project's dataset or of ROS 2 bags")
    load.add_argument("format", choices=IMPORTS)
    load.add_argument("source", type=Path, help="zarr directory or .zip; bag, .mcap, .db3 or a directory of bags")
    _dataset(load)
    load.add_argument(
        "settings",
        nargs="*",
        metavar="robot=ros/my_arm",
        help="of a bag: the robot whose yaml names the topics, and any of its settings; task=... for the task's name",
    )
    load.add_argument("--control-hz", type=positive, metavar="HZ", help="rows per second of a format that does not say")
    load.add_argument("--robot", help="name of the robot; the source's name if absent")
    load.add_argument("--task", help="name of the task; the robot's name if absent")
    load.add_argument("--operator", default="human", help="who drove (default: human)")
    load.add_argument(
        "--outcome",
        choices=[str(each) for each in Outcome],
        default=str(Outcome.SUCCESS),
        help="label of every episode, which the format does not hold (default: success, as demonstrations are)",
    )
    load.add_argument(
        "--action-kind",
        choices=[str(each) for each in ActionKind],
        default=str(ActionKind.POSITION),
        help="what every action dimension means (default: position)",
    )
    load.add_argument("--streams", nargs="+", metavar="NAME", default=[], help="arrays to keep; all if absent")
    load.add_argument("--codec", default="png", help="of images: png (default, lossless), raw, jpeg:90, ...")
    load.add_argument("--append", action="store_true", help="add to a dataset that holds episodes already")
    _add_bag_arguments(load)


def _add_bag_arguments(load: argparse.ArgumentParser) -> None:
    load.add_argument(
        "--split-topic",
        metavar="TOPIC",
        help="of a bag: each message begins an episode (default: an arm node's resets, where the bag has them)",
    )
    load.add_argument(
        "--split-gap", type=positive, metavar="S", help="of a bag: commands further apart begin an episode"
    )
    load.add_argument(
        "--clock",
        choices=("arrival", "stamp"),
        default="arrival",
        help="of a bag: a message counts from when it was recorded, as live (default), or from its stamp on",
    )


def _add_export(verbs: Verbs) -> None:
    save = _verb(verbs, "export", "write episodes in another project's format")
    save.add_argument("format", choices=EXPORTS)
    _dataset(save, history=True)
    save.add_argument("target", type=Path, help="zarr directory to make")
    save.add_argument("--streams", nargs="+", metavar="NAME", help="all if absent")
    save.add_argument("--episodes", nargs="+", metavar="ID", help="for example 3 5-7; all if absent")
    save.add_argument("--outcome", choices=[str(each) for each in Outcome], help="only these episodes")
    save.add_argument(
        "--action",
        choices=("applied", "requested"),
        default="applied",
        help="which of the two recorded actions (default: applied)",
    )
    save.add_argument(
        "--image-dtype",
        choices=("uint8", "float32"),
        help="of image arrays; if absent what the published Push-T data has (float32) for that robot, else uint8",
    )


def age(words: str) -> timedelta:
    """The duration that `30d`, `12h` or `2w` names."""
    match = re.fullmatch(r"(\d+)([smhdw])", words)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{words}' is no age: a whole number and s, m, h, d or w, for example 30d")
    return timedelta(seconds=int(match[1]) * SECONDS[match[2]])


def positive(words: str) -> float:
    """A rate above zero."""
    try:
        value = float(words)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{words}' is no positive number")
    return value
