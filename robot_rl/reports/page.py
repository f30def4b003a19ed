"""`report.html`: one file that opens anywhere without a network, and `summary.json` beside it.

What stands where is in the templates beside this file; here their values are prepared. Everything is escaped and loses
the paths of this machine; charts are inline SVG; pictures and videos are embedded.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robot_rl.core.decision import GateDecision
from robot_rl.core.files import write_whole
from robot_rl.reports import charts
from robot_rl.reports.machine import PACKAGES_TOLD
from robot_rl.reports.summary import (
    DatasetFacts,
    LearningCurve,
    Role,
    RunSummary,
    StageResult,
    latency_facts,
    public_text,
    summary_document,
    write_json,
)
from robot_rl.reports.video import Frame, VideoError, encode_jpeg, read_frame

EMBEDDED_VIDEO_BYTES = 12_000_000
"""A larger video is linked instead, since base64 in a page of 16 MB and more slows browsers down."""
POSTER_SHARE = 0.6


class Drawing(NamedTuple):
    """A card with a chart, or with what is said in its place."""

    heading: str
    chart: Markup | None
    note: str


class Pictures(NamedTuple):
    """A video with its poster, or images, or only a note on what is missing."""

    heading: str
    note: str
    images: Sequence[Markup] = ()
    video: str = ""


def write_report(run_dir: Path, summary: RunSummary) -> Path:
    """Writes `report.html` and `summary.json` into a run's directory.

    What is missing (no episodes, no metrics, no video) is said in the report; it is never an error.

    Returns:
        Path of the report.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "summary.json", summary_document(summary))
    return write_whole(run_dir / "report.html", render(run_dir, summary))


def render(run_dir: Path, summary: RunSummary) -> str:
    """The report as HTML."""
    return _templates().get_template("page.html.j2").render(
        summary=summary,
        meta=_meta(summary),
        tiles=_tiles(summary),
        rate_axis=Markup(charts.rate_axis()),
        has_steps=any(stage.environment_steps is not None for stage in summary.stages),
        gate=Markup(gate_section(summary.gate_decisions)),
        curves=[*map(_curve, summary.curves)] or [Drawing("Learning", None, "Nothing was trained in this run.")],
        latencies=_latencies(summary),
        pictures=_pictures(run_dir, summary),
        dataset=_dataset(summary.dataset),
        environment=_environment(summary.environment),
    )  # fmt: skip


def gate_section(decisions: Sequence[GateDecision]) -> str:
    """A chart and a table as HTML; empty without decisions."""
    if not decisions:
        return ""
    gains = [charts.Gain(each.gain, each.lower_bound, each.second_gain, each.accept) for each in decisions]
    drawn = any(math.isfinite(gain.gain) for gain in gains)
    chart = Markup(charts.gain_chart(gains, "decision", "gain in J")) if drawn else None
    return _templates().get_template("gate.html.j2").render(decisions=decisions, chart=chart, dash=Markup("&ndash;"))


def _templates() -> Environment:
    """Templates in which every value is escaped and loses the paths of this machine."""
    templates = Environment(
        loader=PackageLoader("robot_rl.reports", ""),
        autoescape=True,
        finalize=lambda value: public_text(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": percent, "duration": duration, "sentence": sentence, "rate_bar": _rate_bar}
    templates.tests["finite"] = math.isfinite
    return templates


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


def sentence(words: str) -> str:
    """The words with a capital at the beginning."""
    return words[:1].upper() + words[1:]


def _rate_bar(stage: StageResult) -> Markup:
    return Markup(charts.rate_bar(stage.rate or 0.0, stage.interval, stage.role))


def _meta(summary: RunSummary) -> list[str]:
    when = summary.created_at.replace("T", " ").removesuffix("+00:00").removesuffix("Z").split(".")[0]
    facts = [f"{summary.task} on {summary.robot}", f"{summary.size} size" if summary.size else "", f"{when} UTC"]
    return [fact for fact in facts if fact]


def _tiles(summary: RunSummary) -> list[tuple[str, str, str]]:
    """Label, figure and note of each."""
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
    return tiles


def _curve(curve: LearningCurve) -> Drawing:
    heading = f"Learning, {curve.name}"
    if not curve.metrics.exists():
        return Drawing(heading, None, f"No learning curve: {curve.metrics.name} was not found.")
    series, skipped = read_series(curve)
    if not series:
        return Drawing(heading, None, f"No learning curve: {curve.metrics.name} holds no figures.")
    ends = ", ".join(f"{each.name} {each.y[-1]:.3g}" for each in series)
    note = f"Last values: {ends}."
    if any(len(each.x) > charts.DRAWN_POINTS for each in series):
        note += " Strong lines are means over groups of steps."
    if skipped:
        note += f" {skipped} values that are no finite numbers were left out."
    return Drawing(heading, Markup(charts.line_chart(series, "step", "loss")), note)


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


def _latencies(summary: RunSummary) -> list[Drawing]:
    drawings = []
    for name, values in summary.latency_ms.items():
        facts = latency_facts(values)
        if not facts["count"]:
            continue
        marks = {name: float(facts[name] or 0.0) for name in ("p50", "p99")}
        chart = charts.histogram(values, marks, "ms", "chunks")
        note = f"{facts['count']:,} chunks, {name}; the longest took {facts['max']:.3g} ms."
        drawings.append(Drawing("Latency", Markup(chart), note))
    return drawings or [Drawing("Latency", None, "No chunk was timed in this run.")]


def _pictures(run_dir: Path, summary: RunSummary) -> Pictures:
    if summary.video is not None and summary.video.exists():
        return _video(run_dir, summary.video)
    missing = f"The video {summary.video.name} was not found." if summary.video else "No video was recorded."
    if not summary.frames:
        return Pictures("Video", missing)
    note = f"Frames in the order in which they were taken. {missing}"
    return Pictures("Frames", note, [*map(_jpeg, summary.frames)])


def _video(run_dir: Path, path: Path) -> Pictures:
    try:
        poster = _jpeg(read_frame(path, POSTER_SHARE))
    except VideoError as error:
        return Pictures("Video", str(error))
    relative = Path(os.path.relpath(path, run_dir)).as_posix()
    legend = "Borders turn green for success and orange for failure."
    if path.stat().st_size > EMBEDDED_VIDEO_BYTES:
        return Pictures(
            "Video", f"Linked, not embedded: keep {relative} beside this page. {legend}", [poster], relative
        )
    return Pictures("Video", f"Also in {relative}. {legend}", [poster], _data_url("video/mp4", path.read_bytes()))


def _jpeg(frame: Frame) -> Markup:
    return _data_url("image/jpeg", encode_jpeg(frame))


def _data_url(kind: str, content: bytes) -> Markup:
    # No text, in which paths would be looked for.
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")


def _dataset(facts: DatasetFacts | None) -> dict[str, str]:
    if facts is None:
        return {}
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in facts.outcomes.items() if count) or "none"
    return {
        "Dataset": facts.url,
        "Snapshot": facts.snapshot,
        "Episodes": f"{facts.episodes} ({outcomes})",
        "Ticks": f"{facts.ticks:,}",
        "Size": size(facts.size_bytes),
        **{f"Stream {name}": what for name, what in facts.streams.items()},
    }


def _environment(facts: Mapping[str, str]) -> dict[str, str]:
    """The packages in one row, as they are many."""
    told = [f"{name} {facts[name]}" for name in PACKAGES_TOLD if name in facts]
    rest = {name: value for name, value in facts.items() if name not in PACKAGES_TOLD}
    return {**rest, **({"Packages": ", ".join(told)} if told else {})}
