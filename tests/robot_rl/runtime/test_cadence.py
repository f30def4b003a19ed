from __future__ import annotations

import json

from robot_rl.core.episode import Observation
from robot_rl.runtime.cadence import CadenceRecorder, render

MS = 1_000_000


def recorded() -> CadenceRecorder:
    cadence = CadenceRecorder(10 * MS, {1: "missing", 4: "stale_camera"})
    for lateness_ms, compute_ms, missed in ((0, 1, 0), (1, 12, 0), (5, 2, 1)):
        cadence.tick(lateness_ms * MS, missed)
        cadence.observed(Observation(0, {}, {"state": 0, "image": lateness_ms * MS}))
        cadence.computed(compute_ms * MS)
    cadence.chunk(30 * MS, late_rows=3)
    cadence.chunk(40 * MS, late_rows=4)
    cadence.starved()
    cadence.filtered(5)
    cadence.filtered(4 | 64)
    return cadence


def test_everything_counted_is_in_the_report():
    report = recorded().report()
    assert report["budget_ms"] == 10
    assert report["ticks"] == 3
    assert report["over_budget_ticks"] == 1
    assert report["missed_deadlines"] == 1
    assert report["starved_ticks"] == 1
    assert report["late_rows_dropped"] == 7
    assert report["chunks"] == 2
    assert report["lateness_ms"] == {"p50": 1.0, "p99": 4.92, "max": 5.0}
    assert report["inference_ms"]["max"] == 40.0
    assert report["age_ms"]["image"]["max"] == 5.0
    assert report["age_ms"]["state"]["max"] == 0.0


def test_filter_reasons_are_counted_by_name_and_unknown_ones_by_bit():
    assert recorded().report()["filter_reasons"] == {"missing": 1, "stale_camera": 2, "64": 1}


def test_a_report_survives_json():
    report = recorded().report()
    assert json.loads(json.dumps(report)) == report


def test_an_episode_without_a_tick_has_a_report_that_can_be_shown():
    report = CadenceRecorder(10 * MS, {}).report()
    assert report["lateness_ms"] is None
    assert "0 of 10 ms" in render(report)


def test_the_lines_on_the_screen_name_what_a_person_looks_for():
    text = render(recorded().report())
    assert "3 of 10 ms: 1 over budget, 1 missed, 1 starved" in text
    assert "lateness   p50 1.00  p99 4.92  max 5.00 ms" in text
    assert "2 chunks, 7 late rows dropped, 1 starved ticks" in text
    assert "image" in text
    assert "stale_camera 2" in text
