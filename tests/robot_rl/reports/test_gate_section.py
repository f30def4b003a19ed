"""The gate's part of a report."""

import json
import math

import pytest

from robot_rl.reports import charts
from robot_rl.reports.page import DemoSummary, GateRow, gate_section, render, write_report

ACCEPTED = GateRow("round 1, after 50 batches", True, "the bound exceeds 0", 0.5, 0.6, 0.1, 0.04, 0.0, 0.08)
REJECTED = GateRow("round 1, imitated again", False, "the bound <does not>", 0.6, 0.5, -0.1, -0.2, 0.0, math.nan)
NAN = math.nan
REFUSED = GateRow("round 2", False, "all 8 episodes succeeded", NAN, NAN, NAN, NAN, NAN, NAN)


def summary(*rows: GateRow) -> DemoSummary:
    found = {"critic, round 1": {"Verdict": "nothing speaks against it"}}
    return DemoSummary("t", "toy", "reach", "", "2026-01-01T00:00:00", (), gate_decisions=rows, diagnostics=found)


def test_accepted_and_rejected_updates_are_told_apart_in_words_and_colours():
    section = gate_section([ACCEPTED, REJECTED])
    assert "Gate: 1 of 2 updates accepted" in section
    assert section.count('class="verdict yes"') == 1
    assert section.count('class="verdict no"') == 1
    assert section.count('class="yes-dot"') == section.count('class="no-dot"') == 1
    assert section.count('class="other-dot"') == 1
    assert "the bound &lt;does not&gt;" in section


def test_a_decision_without_figures_is_a_row_with_dashes_and_no_dot():
    section = gate_section([REFUSED])
    assert "<svg" not in section
    assert section.count("&ndash;") == 6
    assert "all 8 episodes succeeded" in section
    assert "<svg" in gate_section([ACCEPTED, REFUSED])


def test_a_run_without_a_gate_says_nothing_of_one(tmp_path):
    assert gate_section([]) == ""
    assert "Gate:" not in render(tmp_path, summary())


def test_decisions_and_diagnostics_are_in_the_page_and_in_the_summary(tmp_path):
    page = write_report(tmp_path, summary(ACCEPTED, REFUSED)).read_text()
    assert "Critic, round 1" in page
    assert "nothing speaks against it" in page
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["gate_decisions"][0]["gain"] == pytest.approx(0.1)
    assert document["gate_decisions"][1]["gain"] is None
    assert document["diagnostics"] == {"critic, round 1": {"Verdict": "nothing speaks against it"}}


@pytest.mark.parametrize("gain", [0.0, 1e-9, -3.0, 1e6])
def test_the_chart_of_gains_holds_any_finite_gain_within_its_frame(gain):
    drawn = charts.gain_chart([charts.Gain(gain, gain - abs(gain), NAN, True)], "decision", "gain")
    assert "nan" not in drawn
    assert "1 of them accepted" in drawn
