import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from robot_rl.core.confidence import wilson_interval
from robot_rl.core.episode import EpisodeResult, Outcome
from robot_rl.core.errors import RobotRLError
from robot_rl.reports import charts
from robot_rl.reports.machine import environment_facts
from robot_rl.reports.page import duration, percent, read_series, render, size, write_report
from robot_rl.reports.summary import (
    DatasetFacts,
    EvaluationIdentity,
    LearningCurve,
    Role,
    RunSummary,
    StageResult,
    evaluation_document,
    write_json,
)
from robot_rl.reports.video import write_video

VOID = {"meta", "img", "br", "input", "hr", "link"}


class Reader(HTMLParser):
    """Collects the text, the tags and every reference; fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.references, self._open = "", [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in {"src", "href", "poster"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data + " "

    @classmethod
    def of(cls, document: str) -> "Reader":
        reader = cls()
        reader.feed(document)
        reader.close()
        assert not reader._open, f"never closed: {reader._open}"
        return reader


def summary(**changes) -> RunSummary:
    stages = (
        StageResult("demonstrations", 41.3, 52, 100, Role.DEMONSTRATIONS, "scripted operator", 21480),
        StageResult("imitation", 96.4, what="8,000 steps"),
        StageResult("success-only arm", 200.0, 81, 100, Role.BASELINE),
        StageResult("policy, closed loop", 58.2, 64, 100, environment_steps=19930, checkpoint="00008000, the last"),
    )
    facts = {
        "title": "robot-rl demo",
        "robot": "metaworld",
        "task": "peg-insert-side-v3",
        "size": "quick",
        "created_at": "2026-11-20T11:42:07+00:00",
        "stages": stages,
        "dataset": DatasetFacts(
            "datasets/demo", "SNAP42", {"success": 52, "failure": 46, "aborted": 2}, 21480, 3_412_000
        ),
        "latency_ms": {"onnxruntime, K = 10": np.linspace(0.2, 1.2, 101)},
        "next_commands": (("robot-rl deploy policy=runs/demo/bundle", "Run it"),),
        "environment": {"Python": "3.11.7"},
        "notes": ("The quick size trains for a minute.",),
    }
    return RunSummary(**{**facts, **changes})


def write_metrics(path: Path, lines: int = 400) -> Path:
    records = []
    for step in range(1, lines + 1):
        record = {"step": step, "loss": 1.0 / step}
        if step % 50 == 0:
            record["held_out_loss"] = 1.1 / step
        records.append(json.dumps(record))
    path.write_text("\n".join(records) + "\n")
    return path


def test_a_report_tells_every_figure(tmp_path):
    metrics = write_metrics(tmp_path / "metrics.jsonl")
    video = write_video(tmp_path / "policy.mp4", [np.full((48, 64, 3), 90, np.uint8)] * 5, fps=5)
    path = write_report(tmp_path, summary(curves=(LearningCurve("imitation", metrics),), video=video))
    page = Reader.of(path.read_text())
    for words in (
        "64 of 100",
        "54 to 73 %",
        "52 of 100",
        "81 of 100",
        "baseline, for comparison",
        "checkpoint: 00008000, the last",
        "quick size",
        "peg-insert-side-v3 on metaworld",
        "p50 0.7 ms",
        "p99 1.19 ms",
        "training loss 0.0025, held-out loss 0.00275",
        "100 (52 success, 46 failure, 2 aborted)",
        "SNAP42",
        "3.41 MB",
        "6 min 36 s",
        "robot-rl deploy policy=runs/demo/bundle",
        "The quick size trains for a minute.",
    ):
        assert words in page.text, words
    assert page.tags.count("video") == 1
    assert page.text.count("not judged") == 1


def test_a_report_needs_nothing_but_itself(tmp_path):
    metrics = write_metrics(tmp_path / "metrics.jsonl")
    video = write_video(tmp_path / "policy.mp4", [np.full((48, 64, 3), 90, np.uint8)] * 5, fps=5)
    document = write_report(tmp_path, summary(curves=(LearningCurve("x", metrics),), video=video)).read_text()
    assert not re.search(r"https?://|@import|url\(|<script|<link", document)
    assert all(reference.startswith("data:") for reference in Reader.of(document).references)


def test_a_large_video_is_linked_by_a_relative_path_and_keeps_its_poster(tmp_path, monkeypatch):
    monkeypatch.setattr("robot_rl.reports.page.EMBEDDED_VIDEO_BYTES", 10)
    run = tmp_path / "run"
    video = write_video(run / "eval" / "policy.mp4", [np.full((48, 64, 3), 90, np.uint8)] * 5, fps=5)
    references = Reader.of(write_report(run, summary(video=video)).read_text()).references
    assert "eval/policy.mp4" in references
    assert sum(reference.startswith("data:image/jpeg") for reference in references) == 1


def test_frames_stand_in_for_a_video(tmp_path):
    page = Reader.of(render(tmp_path, summary(frames=(np.zeros((20, 30, 3), np.uint8),) * 3)))
    assert page.tags.count("img") == 3
    assert "No video was recorded." in page.text


def test_what_is_missing_is_said_and_nothing_crashes(tmp_path):
    empty = RunSummary(
        "demo",
        "pusht",
        "pusht",
        "",
        "2026-11-20T11:42:07Z",
        stages=(StageResult("demonstrations", 0.0, role=Role.DEMONSTRATIONS), StageResult("policy", 1.0)),
        latency_ms={"onnxruntime": [], "torch": [float("nan")]},
        curves=(LearningCurve("imitation", tmp_path / "absent" / "metrics.jsonl"),),
        video=tmp_path / "absent.mp4",
    )
    page = Reader.of(write_report(tmp_path, empty).read_text())
    for words in (
        "no episode was judged",
        "metrics.jsonl was not found",
        "No chunk was timed",
        "The video absent.mp4 was not found.",
        "knows of no dataset",
        "Not recorded",
    ):
        assert words in page.text, words
    document = json.loads((tmp_path / "summary.json").read_text())
    assert [stage["interval"] for stage in document["stages"]] == [None, None]
    assert document["latency_ms"]["torch"] == {"count": 0, "p50": None, "p99": None, "max": None}


def test_a_run_without_any_stage_still_has_a_report(tmp_path):
    assert "No stage ran." in Reader.of(render(tmp_path, summary(stages=()))).text


def test_a_broken_video_is_said(tmp_path):
    (tmp_path / "policy.mp4").write_bytes(b"nothing")
    assert "cannot read a frame" in Reader.of(render(tmp_path, summary(video=tmp_path / "policy.mp4"))).text


@settings(max_examples=20, deadline=None)
@given(words=st.text(min_size=1).filter(lambda text: text.strip()))
def test_words_from_outside_never_become_markup(words):
    evil = f'{words}<script>alert("x")</script>\'"&'
    stage = StageResult(evil, 1.0, 1, 2, what=evil, checkpoint=evil)
    document = render(
        Path("run"),
        summary(
            title=evil,
            task=evil,
            stages=(stage,),
            dataset=DatasetFacts(evil, evil, {evil: 1}, 1, 1, {evil: evil}),
            latency_ms={evil: [1.0, 2.0]},
            next_commands=((evil, evil),),
            environment={evil: evil},
            notes=(evil,),
        ),
    )
    assert "<script" not in document
    assert "script" not in Reader.of(document).tags
    assert escape('<script>alert("x")</script>') in document


def test_a_report_holds_no_private_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    told = summary(
        dataset=DatasetFacts(f"{tmp_path}/datasets/demo", "S", {"success": 1}, 1, 1),
        next_commands=((f"robot-rl data ls {tmp_path}/datasets/demo", "See /home/ada/notes"),),
    )
    page = write_report(tmp_path / "run", told).read_text()
    document = (tmp_path / "run" / "summary.json").read_text()
    assert str(tmp_path) not in page + document
    assert "/home/ada" not in page
    assert "datasets/demo" in page
    assert "~/notes" in page


def test_environment_facts_come_from_the_machine_without_its_name(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Slow CPU 1.0\n")
    facts = environment_facts(tmp_path)
    assert facts["System"].startswith("Debian GNU/Linux 12 (bookworm), ")
    assert facts["Processor"].startswith("Slow CPU 1.0, ")
    assert facts["numpy"] == np.__version__


def test_summary_json_holds_successes_episodes_interval_and_seconds_per_stage(tmp_path):
    write_report(tmp_path, summary())
    document = json.loads((tmp_path / "summary.json").read_text())
    first, second = document["stages"][:2]
    assert (first["name"], first["successes"], first["episodes"], first["seconds"]) == ("demonstrations", 52, 100, 41.3)
    assert first["interval"] == pytest.approx(list(wilson_interval(52, 100)))
    assert (second["episodes"], second["rate"], second["interval"]) == (0, None, None)
    assert document["seconds"] == pytest.approx(395.9)
    assert document["dataset"]["episodes"] == 100
    assert document["latency_ms"]["onnxruntime, K = 10"]["p50"] == pytest.approx(0.7)


def test_the_headline_is_the_last_judged_stage_that_is_no_baseline():
    told = summary()
    assert told.headline == told.stages[3]
    assert summary(stages=told.stages[:3]).headline is None


def result(outcome: Outcome, reward_max: float = 0.5) -> EpisodeResult:
    return EpisodeResult(outcome, outcome is not Outcome.ABORTED, False, "why", 20, 3.0, reward_max)


IDENTITY = EvaluationIdentity("pusht", "pusht", "runs/x/bundle", "abc", "datasets/x", "SNAP", "0.1.0", "simulated")


def test_an_evaluation_counts_aborted_episodes_as_no_success():
    results = [result(Outcome.SUCCESS, 0.96), result(Outcome.FAILURE, 0.5), result(Outcome.ABORTED, 0.1)]
    document = evaluation_document(IDENTITY, [7, 8, 9], results, [1.0, 2.0, 3.0])
    assert (document["successes"], document["episodes"]) == (1, 3)
    assert document["interval"] == pytest.approx(list(wilson_interval(1, 3)))
    assert document["outcomes"] == {"success": 1, "failure": 1, "aborted": 1}
    assert document["reward_max"] == pytest.approx({"mean": 0.52, "max": 0.96})
    assert document["latency_ms"]["p50"] == 2.0
    assert (document["policy_hash"], document["dataset_snapshot"], document["robot"]) == ("abc", "SNAP", "pusht")
    assert [(row["seed"], row["outcome"]) for row in document["rows"]] == [
        (7, "success"),
        (8, "failure"),
        (9, "aborted"),
    ]
    assert document["seeds"] == [7, 8, 9]


def test_an_evaluation_without_episodes_claims_nothing():
    document = evaluation_document(IDENTITY, [], [])
    assert (document["rate"], document["interval"], document["reward_max"]) == (None, None, None)


def test_an_evaluation_needs_one_seed_per_episode():
    with pytest.raises(RobotRLError, match="2 seeds for 1 episodes"):
        evaluation_document(IDENTITY, [1, 2], [result(Outcome.SUCCESS)])


def test_json_holds_null_for_what_is_not_finite(tmp_path):
    path = write_json(tmp_path / "new" / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": 2}})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1.5], "c": {"d": 2}}
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


def test_a_learning_curve_survives_a_cut_line_and_nan(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n[]\n\n{"step": 3, "loss": 0.25}\n{"step": 4, "lo'
    )
    series, skipped = read_series(LearningCurve("imitation", path))
    assert [each.name for each in series] == ["training loss"]
    np.testing.assert_array_equal(series[0].x, [1, 3])
    np.testing.assert_array_equal(series[0].y, [0.5, 0.25])
    assert skipped == 3


def numbers_in(svg: str) -> list[float]:
    """Every coordinate in an SVG's attributes."""
    attributes = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|d|width|height)="([^"]*)"', svg)
    return [float(number) for text in attributes for number in re.findall(r"-?\d+\.?\d*", text)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.floats(1e-6, 1e6))
def test_charts_stay_inside_their_frame(values, scale):
    y = np.array(values)
    series = [charts.Series("loss", np.arange(len(y), dtype=float), y), charts.Series("b", np.array([0.0]), y[:1])]
    positive = [charts.Series("loss", np.arange(len(y), dtype=float), np.abs(y) * scale + 1e-9)]
    for chart in (
        charts.line_chart(series, "step", "loss"),
        charts.line_chart(positive, "step", "loss"),
        charts.histogram(y, {"p50": float(np.median(y))}, "ms", "chunks"),
    ):
        assert "nan" not in chart
        coordinates = numbers_in(chart)
        assert min(coordinates) >= -20
        assert max(coordinates) <= charts.WIDTH + 20


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_rate_bar_draws_its_rate_and_interval(successes, episodes):
    successes = min(successes, episodes)
    interval = wilson_interval(successes, episodes)
    bar = charts.rate_bar(successes / episodes, interval, "stage")
    assert f'width="{charts.RATE_WIDTH * successes / episodes:.1f}"' in bar
    assert f"M{charts.RATE_WIDTH * interval.low:.1f} " in bar
    assert max(numbers_in(bar)) <= charts.RATE_WIDTH


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low, width):
    ticks = charts.nice_ticks(low, low + width)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)


def test_a_loss_that_spans_decades_has_a_logarithmic_axis():
    def chart(y):
        return charts.line_chart([charts.Series("loss", np.arange(3.0), np.array(y))], "step", "loss")

    assert "logarithmic" in chart([1.0, 0.1, 0.001])
    assert "logarithmic" not in chart([1.0, 0.5, 0.25])
    assert "logarithmic" not in chart([1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (1.0, "100 %"), (0.999, "99.9 %"), (0.001, "0.1 %"), (0.625, "62 %")]
)
def test_only_a_true_zero_or_one_is_written_as_such(share, words):
    assert percent(share) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (58.2, "58 s"), (96.4, "1 min 36 s"), (1382, "23 min"), (4000, "1 h 06 min")],
)
def test_durations_read_as_a_person_would_say_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(12, "12 B"), (3_412_000, "3.41 MB"), (5e10, "50 GB")])
def test_sizes_are_decimal(count, words):
    assert size(count) == words
