"""`report.html`: one file that opens anywhere without a network, and `summary.json` beside it.

Everything in it is escaped; charts are inline SVG; pictures and videos are embedded.

The gate's decisions in a report: what was judged, by how much it was better, and why it was taken or not.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from robot_rl.core.decision import GateDecision
from robot_rl.core.files import write_whole
from robot_rl.reports import charts
from robot_rl.reports.machine import PACKAGES_TOLD
from robot_rl.reports.style import STYLE
from robot_rl.reports.summary import (
    DatasetFacts,
    DemoSummary,
    EvaluationIdentity,
    LearningCurve,
    Role,
    StageResult,
    evaluation_document,
    latency_facts,
    public_text,
    summary_document,
    write_json,
)
from robot_rl.reports.video import Frame, VideoError, encode_jpeg, read_frame

__all__ = [
    "DatasetFacts",
    "DemoSummary",
    "EvaluationIdentity",
    "LearningCurve",
    "Role",
    "StageResult",
    "evaluation_document",
    "write_json",
    "write_report",
]

EMBEDDED_VIDEO_BYTES = 12_000_000
"""A larger video is linked instead, since base64 in a page of 16 MB and more slows browsers down."""
POSTER_SHARE = 0.6

HEAD = (
    ("Update", ""),
    ("Decision", ""),
    ("J before", "number"),
    ("J candidate", "number"),
    ("Gain", "number"),
    ("Lower bound", "number"),
    ("Required", "number"),
    ("Gain, second estimator", "number"),
)
LEGEND = (
    "Dots are gains of the model rollouts' score with a line down to the lower confidence bound, green where the "
    "update was accepted and orange where it was not; rings are the gain by fitted Q evaluation, which decides nothing."
    " Scores come from recorded data and a model of it: no episode of the robot was asked."
)


def write_report(run_dir: Path, summary: DemoSummary) -> Path:
    """Writes `report.html` and `summary.json` into a run's directory.

    What is missing (no episodes, no metrics, no video) is said in the report; it is never an error.

    Returns:
        Path of the report.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "summary.json", summary_document(summary))
    return write_whole(run_dir / "report.html", render(run_dir, summary))


def render(run_dir: Path, summary: DemoSummary) -> str:
    """The report as HTML."""
    sections = [
        _header(summary),
        _tiles(summary),
        _stages(summary.stages),
        gate_section(summary.gate_decisions),
        f'<section class="grid-2">{_curves(summary.curves)}{_latency(summary)}</section>',
        _pictures(run_dir, summary),
        _diagnostics(summary),
        f'<section class="grid-2">{_dataset(summary.dataset)}{_environment(summary)}</section>',
        _next(summary.next_commands),
        _footer(summary.notes),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(summary.title)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def percent(share: float) -> str:
    """A share as a whole percentage, except that only a true 0 or 1 is called 0 % or 100 %."""
    if 0 < share < 0.005 or 0.995 < share < 1:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """A duration as a person would say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(size_bytes: float) -> str:
    """A number of bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def _header(summary: DemoSummary) -> str:
    when = summary.created_at.replace("T", " ").removesuffix("+00:00").removesuffix("Z").split(".")[0]
    facts = [f"{summary.task} on {summary.robot}", f"{summary.size} size" if summary.size else "", f"{when} UTC"]
    meta = " &middot; ".join(text(fact) for fact in facts if fact)
    return f'<header><h1>{text(summary.title)}</h1><p class="meta">{meta}</p></header>'


def _tiles(summary: DemoSummary) -> str:
    tiles = []
    judged = [stage for stage in summary.stages if stage.episodes]
    demonstrations = next((stage for stage in judged if stage.role is Role.DEMONSTRATIONS), None)
    for stage in (summary.headline, demonstrations):
        if stage is not None and stage.rate is not None:
            low, high = stage.interval
            note = f"{stage.successes} of {stage.episodes} episodes succeed, 95 % interval "
            note += f"{percent(low)[:-2]} to {percent(high)}"
            tiles.append((sentence(stage.name), percent(stage.rate), note))
    if not tiles:
        tiles.append(("Success", "not known", "no episode was judged"))
    for name, values in list(summary.latency_ms.items())[:1]:
        facts = latency_facts(values)
        if facts["count"]:
            tiles.append(("Latency per chunk, p99", f"{facts['p99']:.3g} ms", f"p50 {facts['p50']:.3g} ms; {name}"))
    total = sum(stage.seconds for stage in summary.stages)
    tiles.append(("Time", duration(total), f"{len(summary.stages)} stages"))
    cards = [
        f'<div class="card tile{" first" if place == 0 else ""}"><p class="label">{text(label)}</p>'
        f"<b>{text(value)}</b><p>{text(note)}</p></div>"
        for place, (label, value, note) in enumerate(tiles)
    ]
    return f'<section class="tiles">{"".join(cards)}</section>'


def _stages(stages: Sequence[StageResult]) -> str:
    if not stages:
        return '<section class="card"><h2>Stages</h2><p class="empty">No stage ran.</p></section>'
    has_steps = any(stage.environment_steps is not None for stage in stages)
    steps_head = '<th class="number">Robot ticks</th>' if has_steps else ""
    head = (
        '<th>Stage</th><th class="number">Successes</th>'
        f'<th class="rate-cell">{charts.rate_axis()}</th><th class="number">Success rate, %<br>(95 % interval)</th>'
        f'{steps_head}<th class="number">Time</th>'
    )
    rows = "".join(_stage_row(stage, has_steps) for stage in stages)
    return (
        f'<section class="card"><h2>Stages</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _stage_row(stage: StageResult, has_steps: bool) -> str:
    checkpoint = f"checkpoint: {stage.checkpoint}" if stage.checkpoint else ""
    baseline = "baseline, for comparison" if stage.role is Role.BASELINE else ""
    notes = "".join(f"<small>{text(note)}</small>" for note in (baseline, stage.what, checkpoint) if note)
    key = stage.role if stage.episodes else "none"
    cells = [f'<td class="stage key-{key}">{text(sentence(stage.name))}{notes}</td>']
    if stage.rate is None:
        cells.append('<td class="number">&ndash;</td><td class="rate-cell"></td><td class="number">not judged</td>')
    else:
        low, high = (f"{100 * end:.0f}" for end in stage.interval)
        cells.append(f'<td class="number">{stage.successes} of {stage.episodes}</td>')
        cells.append(f'<td class="rate-cell">{charts.rate_bar(stage.rate, stage.interval, stage.role)}</td>')
        cells.append(f'<td class="number"><b>{percent(stage.rate)[:-2]}</b> ({low}&ndash;{high})</td>')
    if has_steps:
        steps = "&ndash;" if stage.environment_steps is None else f"{stage.environment_steps:,}"
        cells.append(f'<td class="number">{steps}</td>')
    cells.append(f'<td class="number">{duration(stage.seconds)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _curves(curves: Sequence[LearningCurve]) -> str:
    if not curves:
        return _card("Learning", '<p class="empty">Nothing was trained in this run.</p>')
    return "".join(_curve(curve) for curve in curves)


def _curve(curve: LearningCurve) -> str:
    heading = f"Learning, {curve.name}"
    if not curve.metrics.exists():
        return _card(heading, f'<p class="empty">No learning curve: {text(curve.metrics.name)} was not found.</p>')
    series, skipped = read_series(curve)
    if not series:
        return _card(heading, f'<p class="empty">No learning curve: {text(curve.metrics.name)} holds no figures.</p>')
    ends = ", ".join(f"{each.name} {each.y[-1]:.3g}" for each in series)
    note = f"Last values: {ends}."
    if any(len(each.x) > charts.DRAWN_POINTS for each in series):
        note += " Strong lines are means over groups of steps."
    if skipped:
        note += f" {skipped} values that are no finite numbers were left out."
    chart = charts.line_chart(series, "step", "loss")
    return _card(heading, f"<figure>{chart}<figcaption>{text(note)}</figcaption></figure>")


def read_series(curve: LearningCurve) -> tuple[list[charts.Series], int]:
    """Lines of a `metrics.jsonl` and how many of its values could not be drawn.

    A last line cut off by a crash, and values that are NaN or infinite, are counted rather than fatal.
    """
    points: dict[str, list[tuple[float, float]]] = {key: [] for key in curve.series}
    skipped = 0
    for line in curve.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        record = _record(line)
        if record is None:
            skipped += bool(line.strip())
            continue
        for key in points.keys() & record.keys():
            step, value = record.get("step"), record[key]
            if _is_number(step) and _is_number(value):
                points[key].append((float(step), float(value)))
            elif value is not None:
                skipped += 1
    series = [
        charts.Series(name, *np.array(sorted(points[key]), dtype=np.float64).T)
        for key, name in curve.series.items()
        if points[key]
    ]
    return series, skipped


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _latency(summary: DemoSummary) -> str:
    cards = []
    for name, values in summary.latency_ms.items():
        facts = latency_facts(values)
        if not facts["count"]:
            continue
        marks = {name: float(facts[name] or 0.0) for name in ("p50", "p99")}
        chart = charts.histogram(values, marks, "ms", "chunks")
        note = f"{facts['count']:,} chunks, {name}; the longest took {facts['max']:.3g} ms."
        cards.append(_card("Latency", f"<figure>{chart}<figcaption>{text(note)}</figcaption></figure>"))
    return "".join(cards) or _card("Latency", '<p class="empty">No chunk was timed in this run.</p>')


def _pictures(run_dir: Path, summary: DemoSummary) -> str:
    if summary.video is not None and summary.video.exists():
        return _video(run_dir, summary.video)
    missing = f"The video {summary.video.name} was not found." if summary.video else "No video was recorded."
    if not summary.frames:
        return f'<section class="card"><h2>Video</h2><p class="empty">{text(missing)}</p></section>'
    images = "".join(
        f'<img alt="frame {place + 1}" src="{_jpeg(frame)}">' for place, frame in enumerate(summary.frames)
    )
    note = f"Frames in the order in which they were taken. {missing}"
    return (
        f'<section class="card"><h2>Frames</h2><figure><div class="frames">{images}</div>'
        f"<figcaption>{text(note)}</figcaption></figure></section>"
    )


def _video(run_dir: Path, path: Path) -> str:
    try:
        poster = f' poster="{_jpeg(read_frame(path, POSTER_SHARE))}"'
    except VideoError as error:
        return f'<section class="card"><h2>Video</h2><p class="empty">{text(error)}</p></section>'
    relative = Path(os.path.relpath(path, run_dir)).as_posix()
    legend = "Borders turn green for success and orange for failure."
    if path.stat().st_size > EMBEDDED_VIDEO_BYTES:
        source, note = html.escape(relative, quote=True), f"Linked, not embedded: keep {relative} beside this page."
    else:
        source, note = _data_url("video/mp4", path.read_bytes()), f"Also in {relative}."
    return (
        '<section class="card"><h2>Video</h2><figure>'
        f'<video controls loop muted playsinline preload="metadata"{poster} src="{source}"></video>'
        f"<figcaption>{text(note)} {legend}</figcaption></figure></section>"
    )


def _jpeg(frame: Frame) -> str:
    return _data_url("image/jpeg", encode_jpeg(frame))


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _dataset(facts: DatasetFacts | None) -> str:
    if facts is None:
        return _card("Data", '<p class="empty">This run knows of no dataset.</p>')
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in facts.outcomes.items() if count) or "none"
    rows = {
        "Dataset": facts.url,
        "Snapshot": facts.snapshot,
        "Episodes": f"{facts.episodes} ({outcomes})",
        "Ticks": f"{facts.ticks:,}",
        "Size": size(facts.size_bytes),
        **{f"Stream {name}": what for name, what in facts.streams.items()},
    }
    return _card("Data", _definitions(rows))


def _environment(summary: DemoSummary) -> str:
    if not summary.environment:
        return _card("Machine and software", '<p class="empty">Not recorded.</p>')
    rows = {name: value for name, value in summary.environment.items() if name not in PACKAGES_TOLD}
    told = [f"{name} {summary.environment[name]}" for name in PACKAGES_TOLD if name in summary.environment]
    return _card("Machine and software", _definitions({**rows, **({"Packages": ", ".join(told)} if told else {})}))


def _diagnostics(summary: DemoSummary) -> str:
    if not summary.diagnostics:
        return ""
    cards = [_card(sentence(name), _definitions(dict(rows))) for name, rows in summary.diagnostics.items()]
    return f'<section class="grid-2">{"".join(cards)}</section>'


def _definitions(rows: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows.items()) + "</dl>"


def _next(commands: Sequence[tuple[str, str]]) -> str:
    if not commands:
        return ""
    items = "".join(f"<li>{text(sentence(what))}<code>{text(command)}</code></li>" for command, what in commands)
    return f'<section class="card"><h2>Go on</h2><ul class="commands">{items}</ul></section>'


def _footer(notes: Sequence[str]) -> str:
    intervals = (
        "Whiskers and brackets are 95 % Wilson score intervals: of twenty such intervals, about nineteen hold the "
    )
    intervals += "true rate. Success is what the task's judge said; an aborted episode is no success."
    return f"<footer>{''.join(f'<p>{text(note)}</p>' for note in (*notes, intervals))}</footer>"


def _card(heading: str, body: str) -> str:
    return f'<div class="card"><h2>{text(heading)}</h2>{body}</div>'


def text(value: object) -> str:
    """Escaped for HTML and without private paths."""
    return html.escape(public_text(str(value)))


def sentence(words: str) -> str:
    """The words with a capital at the beginning."""
    return words[:1].upper() + words[1:]


def gate_section(decisions: Sequence[GateDecision]) -> str:
    """A chart and a table; empty without decisions."""
    if not decisions:
        return ""
    accepted = sum(each.accept for each in decisions)
    heading = f"Gate: {accepted} of {len(decisions)} updates accepted"
    gains = [charts.Gain(each.gain, each.lower_bound, each.second_gain, each.accept) for each in decisions]
    chart = ""
    if any(math.isfinite(gain.gain) for gain in gains):
        drawn = charts.gain_chart(gains, "decision", "gain in J")
        chart = f"<figure>{drawn}<figcaption>{text(LEGEND)}</figcaption></figure>"
    head = "".join(f'<th class="{kind}">{text(name)}</th>' for name, kind in HEAD)
    body = "".join(map(_row, decisions))
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f'<section class="card"><h2>{text(heading)}</h2>{chart}{table}</section>'


def _row(row: GateDecision) -> str:
    kind, word = ("yes", "accepted") if row.accept else ("no", "rejected")
    figures = (row.reference, row.candidate, row.gain, row.lower_bound, row.required_gain, row.second_gain)
    numbers = "".join(f'<td class="number">{_figure(value)}</td>' for value in figures)
    return (
        f"<tr><td>{text(sentence(row.stage))}<small>{text(row.reason)}</small></td>"
        f'<td class="verdict {kind}">{word}</td>{numbers}</tr>'
    )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "&ndash;"
