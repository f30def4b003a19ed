"""The gate's part of a report."""

import json
import math

import pytest

from robot_rl.core.decision import REIMITATION, ROUND, SECOND_GAIN, GateDecision
from robot_rl.reports import charts
from robot_rl.reports.page import gate_section, render, write_report
from robot_rl.reports.summary import RunSummary

FIRST = {ROUND: 1.0, SECOND_GAIN: 0.08}
ACCEPTED = GateDecision(True, "the bound exceeds 0", "paired", 0.5, 0.6, 0.1, 0.04, 0.0, FIRST, 50)
AGAIN = {ROUND: 1.0, REIMITATION: 1.0}
REJECTED = GateDecision(False, "the bound <does not>", "paired", 0.6, 0.5, -0.1, -0.2, 0.0, AGAIN)
NAN = math.nan
REFUSED = GateDecision.refused("all 8 episodes succeeded", evidence={ROUND: 2.0})


def summary(*decisions: GateDecision) -> RunSummary:
    found = {"critic, round 1": {"Verdict": "nothing speaks against it"}}
    return RunSummary("t", "toy", "reach", "", "2026-01-01T00:00:00", (), gate_decisions=decisions, diagnostics=found)


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
    first, second = document["gate_decisions"]
    assert (first["stage"], first["accepted"], first["second_gain"]) == ("round 1, after 50 batches", True, 0.08)
    assert (second["stage"], second["accepted"], second["second_gain"]) == ("round 2", False, None)
    assert document["gate_decisions"][0]["gain"] == pytest.approx(0.1)
    assert document["gate_decisions"][1]["gain"] is None
    assert document["diagnostics"] == {"critic, round 1": {"Verdict": "nothing speaks against it"}}


@pytest.mark.parametrize("gain", [0.0, 1e-9, -3.0, 1e6])
def test_the_chart_of_gains_holds_any_finite_gain_within_its_frame(gain):
    drawn = charts.gain_chart([charts.Gain(gain, gain - abs(gain), NAN, True)], "decision", "gain")
    assert "nan" not in drawn
    assert "1 of them accepted" in drawn
