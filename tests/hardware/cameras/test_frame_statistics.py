from __future__ import annotations

import numpy as np
import pytest

from hardware.cameras.frame_source import Frame
from hardware.cameras.frame_statistics import FrameStatistics
from robot_rl.core.specs import NS_PER_S

FPS = 50.0
PERIOD_NS = 20_000_000


def frame(index: float, picture: int | None = None) -> Frame:
    shown = round(index) if picture is None else picture
    return Frame(NS_PER_S + round(index * PERIOD_NS), 8, 8, image=np.full((8, 8, 3), shown % 256, np.uint8))


def feed(statistics: FrameStatistics, indices, late_ns: int = 0) -> None:
    for index in indices:
        each = frame(index)
        statistics.add(each, each.stamp_ns + late_ns)


def test_an_even_camera_has_its_rate_no_jitter_and_no_drops():
    statistics = FrameStatistics(FPS)
    feed(statistics, range(51), late_ns=7_000_000)
    report = statistics.report()
    assert report.rate_hz == pytest.approx(FPS)
    assert report.jitter_ms == pytest.approx(0.0, abs=1e-9)
    assert report.latency_ms == pytest.approx(7.0)
    assert (report.frames, report.drops, report.repeated, report.unchanged) == (51, 0, 0, 0)


def test_missing_frames_are_drops():
    statistics = FrameStatistics(FPS)
    feed(statistics, [0, 1, 4, 5, 7])
    report = statistics.report()
    assert report.drops == 3
    assert report.longest_gap_ms == pytest.approx(60.0)


def test_a_camera_at_half_its_rate_drops_every_second_frame():
    statistics = FrameStatistics(FPS)
    feed(statistics, range(0, 20, 2))
    assert statistics.report().drops == 9


def test_uneven_stamps_are_jitter_and_not_drops():
    statistics = FrameStatistics(FPS)
    feed(statistics, [0, 1.1, 1.9, 3.1, 3.9])
    report = statistics.report()
    assert report.drops == 0
    assert report.jitter_ms == pytest.approx(3.7, abs=0.5)


def test_a_gap_between_two_reports_belongs_to_the_second():
    statistics = FrameStatistics(FPS)
    feed(statistics, [0, 1])
    assert statistics.report().drops == 0
    feed(statistics, [5])
    assert statistics.report().longest_gap_ms == pytest.approx(80.0)
    assert (statistics.drops, statistics.report().drops) == (3, 0)


def test_a_repeated_stamp_is_no_new_frame():
    statistics = FrameStatistics(FPS)
    assert statistics.add(frame(0), 0)
    assert not statistics.add(frame(0), 0)
    assert statistics.add(frame(1), 0)
    assert statistics.report().repeated == 1


def test_a_clock_that_was_set_back_costs_one_frame():
    statistics = FrameStatistics(FPS)
    statistics.add(frame(1000), 0)
    assert not statistics.add(frame(0), 0)
    assert statistics.add(frame(1), 0)


def test_equal_pictures_with_new_stamps_are_counted():
    statistics = FrameStatistics(FPS)
    for index in range(5):
        statistics.add(frame(index, picture=9), 0)
    assert statistics.unchanged == 4
    statistics.add(frame(5, picture=10), 0)
    assert statistics.report().unchanged == 0


def test_equal_jpegs_are_equal_pictures():
    statistics = FrameStatistics(FPS)
    for index in range(3):
        statistics.add(Frame(frame(index).stamp_ns, 8, 8, jpeg=b"the same"), 0)
    assert statistics.unchanged == 2


def test_time_away_is_no_series_of_drops():
    statistics = FrameStatistics(FPS)
    feed(statistics, [0, 1])
    statistics.restart()
    feed(statistics, [100, 101])
    assert statistics.drops == 0


def test_nothing_at_all_is_a_report_too():
    assert FrameStatistics(FPS).report().rate_hz == 0.0
