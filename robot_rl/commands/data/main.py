"""`robot-rl data <verb>`: look at, check, change, import and export a dataset.

`arguments.py` is the grammar, this file the verbs, and what they do to the data is in `data/`. Everything heavy
is imported by the verb that needs it, so that help and typing mistakes answer at once.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from robot_rl.commands.data.arguments import build_parser
from robot_rl.commands.data.console import UsageError, say, table_console, tracked
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import RobotRLError

if TYPE_CHECKING:
    from data.archive.store import DatasetStore


LOCK_WAIT_S = 10.0
"""A killed recorder's commit process may still be finishing."""


def main(argv: Sequence[str]) -> int:
    """Runs one verb.

    Returns:
        0; 1 when `verify` found something; 2 for a user's mistake, with one message on stderr.
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return VERBS[arguments.verb](arguments)
    except RobotRLError as error:
        sys.stderr.write(f"robot-rl data {arguments.verb}: {error}\n")
        return 2


def select_episodes(words: Iterable[str], ids: Sequence[str]) -> list[str]:
    """Episode ids that a person named, ascending and once each.

    Args:
        words: `3`, `000003`, `5-7` (those of 5 to 7 that are there) or `last`.
        ids: What the dataset holds, ascending.

    Raises:
        UsageError: Nothing of that name; says what is there.
    """
    numbers = {int(episode_id): episode_id for episode_id in ids}
    chosen: set[int] = set()
    for word in words:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        found = {number for number in numbers if first <= number <= last}
        if word == "last":
            found = {max(numbers)} if numbers else set()
        if not found:
            held = f"it has {len(ids)}, {ids[0]} to {ids[-1]}" if ids else "it is empty"
            raise UsageError(f"no episode '{word}' in the dataset: {held}; name them as 3, 5-7 or last")
        chosen |= found
    return [numbers[number] for number in sorted(chosen)]


def _open(arguments: argparse.Namespace, *, writable: bool = False) -> DatasetStore:
    from data.archive.store import DatasetStore

    return DatasetStore.open(arguments.dataset, snapshot=getattr(arguments, "snapshot", None), writable=writable)


def _ls(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.data.table import as_document, read_row, table

    with _open(arguments) as store:
        rows = [read_row(store, episode_id) for episode_id in store.episode_ids()]
        if arguments.json:
            say(json.dumps(as_document(store, rows), indent=2))
        else:
            table_console().print(table(store, rows))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.data.show import show

    with _open(arguments) as store:
        [episode_id, *others] = select_episodes([arguments.episode], store.episode_ids())
        if others:
            raise UsageError(f"'{arguments.episode}' is more than one episode: name one")
        show(store.read_encoded(episode_id), f"{store.url} {episode_id}", arguments.save)
    if arguments.save:
        say(f"wrote {arguments.save}; open it with: rerun {arguments.save}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from data.archive.verify import verify_dataset

    with _open(arguments) as store:
        ids = store.episode_ids()
        if arguments.episodes:
            ids = select_episodes(arguments.episodes, ids)
        count = damaged = 0
        for _, findings in tracked(verify_dataset(store, ids), len(ids), "verifying"):
            counted = [each for each in findings if not (each.warning and arguments.errors_only)]
            for finding in counted:
                say(f"{'warning' if finding.warning else 'error'} {finding}")
            count += len(counted)
            damaged += bool(counted)
    found = f"{count} finding{'s' * (count != 1)} in {damaged} of them" if count else "nothing wrong"
    say(f"{len(ids)} episode{'s' * (len(ids) != 1)} read: {found}")
    return 1 if count else 0


def _history(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    with _open(arguments) as store:
        grid = Table("snapshot", "when (UTC)", "tags", "change", box=None, pad_edge=False, header_style="bold")
        for each in store.history():
            grid.add_row(each.id, each.written_at[:19].replace("T", " "), ", ".join(each.tags), each.message)
        table_console().print(grid)
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    with _open(arguments, writable=True) as store:
        chosen = select_episodes(arguments.episodes, store.episode_ids())
        _confirm(f"delete {len(chosen)} episode(s), {', '.join(chosen)}, from {store.url}?", arguments.yes)
        before = store.snapshot
        store.delete(chosen)
    say(f"deleted {', '.join(chosen)}; snapshot {before} still holds them, until robot-rl data gc")
    return 0


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is here to ask: add --yes")
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


def _tag(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        with _open(arguments) as store:
            for name, snapshot in store.tags().items():
                say(f"{name}  {snapshot}")
        return 0
    with _open(arguments, writable=True) as store:
        store.tag(arguments.name)
        say(f"tagged snapshot {store.snapshot} as {arguments.name}")
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.data.table import size_words

    with _open(arguments, writable=True) as store:
        report = store.collect_garbage(datetime.now(UTC) - arguments.older_than)
    say(f"forgot {report.snapshots} snapshot(s), removed {report.chunks} chunk(s), {size_words(report.bytes)}")
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    from data.recorder.recovery import recover, recoverable

    if not recoverable(arguments.dataset, wait_s=LOCK_WAIT_S):
        with _open(arguments) as store:
            say(f"nothing to recover in {store.url}")
        return 0
    for each in recover(arguments.dataset, wait_s=LOCK_WAIT_S):
        outcome = each.log.result.outcome if each.log.result else Outcome.ABORTED
        became = f"episode {each.episode_id}, {outcome}" if each.episode_id else "no episode: it held no tick"
        kept = f"; part of it cannot be read, so it is kept as {each.kept}" if each.kept else ""
        say(f"{each.log.path.name}, {each.log.ticks} ticks: {became}{kept}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from robot_rl.commands.data.imports import import_archive, import_bag

    return import_bag(arguments) if arguments.format == "bag" else import_archive(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from data.convert.diffusion_policy import layout_for, write_archive

    with _open(arguments) as store:
        ids = store.episode_ids()
        if arguments.episodes:
            ids = select_episodes(arguments.episodes, ids)
        if arguments.outcome:
            ids = [each for each in ids if store.info(each).result.outcome == arguments.outcome]
        spec = store.spec.select(arguments.streams) if arguments.streams else store.spec
        layout = layout_for(spec, arguments.image_dtype)
        episodes = (store.read(each, list(spec.observations)) for each in ids)
        rows = write_archive(
            arguments.target, layout, tracked(episodes, len(ids), "exporting"), action=arguments.action
        )
    say(
        f"wrote {len(ids)} episodes, {rows} rows, to {arguments.target}. Stamps, ages, rewards, outcomes, sources and "
        "the action not exported have no place in this format and stay behind"
    )
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "ls": _ls,
    "show": _show,
    "verify": _verify,
    "history": _history,
    "delete": _delete,
    "tag": _tag,
    "gc": _gc,
    "recover": _recover,
    "import": _import,
    "export": _export,
}
