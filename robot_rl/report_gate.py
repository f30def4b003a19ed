"""The gate's decisions in a report: what was judged, by how much it was better, and why it was taken or not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robot_rl import charts
from robot_rl.report_text import sentence, text
from robot_rl.summary import GateRow

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


def gate_section(rows: Sequence[GateRow]) -> str:
    """A chart and a table; empty without decisions."""
    if not rows:
        return ""
    accepted = sum(row.accepted for row in rows)
    heading = f"Gate: {accepted} of {len(rows)} updates accepted"
    gains = [charts.Gain(row.gain, row.lower_bound, row.second_gain, row.accepted) for row in rows]
    chart = ""
    if any(math.isfinite(gain.gain) for gain in gains):
        drawn = charts.gain_chart(gains, "decision", "gain in J")
        chart = f"<figure>{drawn}<figcaption>{text(LEGEND)}</figcaption></figure>"
    head = "".join(f'<th class="{kind}">{text(name)}</th>' for name, kind in HEAD)
    body = "".join(_row(row) for row in rows)
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f'<section class="card"><h2>{text(heading)}</h2>{chart}{table}</section>'


def _row(row: GateRow) -> str:
    kind, word = ("yes", "accepted") if row.accepted else ("no", "rejected")
    figures = (row.reference, row.candidate, row.gain, row.lower_bound, row.required_gain, row.second_gain)
    numbers = "".join(f'<td class="number">{_figure(value)}</td>' for value in figures)
    return (
        f"<tr><td>{text(sentence(row.stage))}<small>{text(row.reason)}</small></td>"
        f'<td class="verdict {kind}">{word}</td>{numbers}</tr>'
    )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "&ndash;"
