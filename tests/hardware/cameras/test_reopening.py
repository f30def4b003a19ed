from __future__ import annotations

import itertools

import pytest

from hardware.cameras.frame_source import CameraLost, ControlRefused, NoFrame
from hardware.cameras.reopening import ReopeningSource
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.specs import NS_PER_S
from tests.hardware.cameras.fake_source import FakeSource


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NS_PER_S)


@pytest.fixture
def fake(clock) -> FakeSource:
    return FakeSource(clock)


def read_for(source: ReopeningSource, clock: SimulatedClock, seconds: float) -> list[str]:
    """What each read gave: a frame, or the reason for none."""
    until_ns, seen = clock.now_ns() + round(seconds * NS_PER_S), []
    while clock.now_ns() < until_ns:
        try:
            source.read(0.2)
            seen.append("frame")
        except NoFrame as error:
            seen.append(str(error))
    return seen


def test_frames_pass_through(clock, fake):
    with ReopeningSource(fake, clock) as source:
        assert read_for(source, clock, 1.0) == ["frame"] * 101


def test_a_camera_that_is_missing_at_the_start_is_an_error_at_once(clock, fake):
    fake.plugged.clear()
    with pytest.raises(CameraLost, match="not plugged in"):
        ReopeningSource(fake, clock).__enter__()


def test_an_unplugged_camera_is_released_at_once_and_says_so_until_it_is_back(clock, fake):
    with ReopeningSource(fake, clock) as source:
        source.read(0.2)
        fake.plugged.clear()
        seen = read_for(source, clock, 3.0)
        assert not fake.held
        assert all("camera away" in each for each in seen)
        assert "away for 3" in seen[-1]
        assert source.describe()["lost"] == "fake camera is not plugged in"
        fake.plugged.set()
        assert "frame" in read_for(source, clock, 1.0)
        assert (source.reconnects, source.lost) == (1, None)


def test_attempts_come_at_the_retry_rate_and_no_read_is_longer_than_its_timeout(clock, fake):
    with ReopeningSource(fake, clock, retry_s=0.5) as source:
        fake.plugged.clear()
        attempts = []
        fake.__class__ = counting(fake.__class__, clock, attempts)
        for _ in range(20):
            before_ns = clock.now_ns()
            with pytest.raises(NoFrame):
                source.read(0.2)
            assert clock.now_ns() - before_ns <= NS_PER_S // 5
        gaps = {round((later - earlier) / NS_PER_S, 3) for earlier, later in itertools.pairwise(attempts)}
        assert gaps == {0.5}


def counting(kind: type[FakeSource], clock: SimulatedClock, attempts: list[int]) -> type[FakeSource]:
    class Counting(kind):
        def __enter__(self):
            attempts.append(clock.now_ns())
            return super().__enter__()

    return Counting


def test_a_silent_camera_is_opened_again(clock, fake):
    with ReopeningSource(fake, clock, silent_s=2.0) as source:
        source.read(0.2)
        fake.silent = True
        seen = read_for(source, clock, 2.5)
        assert seen[0] == "fake camera is silent"
        assert any("no frame for 2.0 s" in each for each in seen)
        fake.silent = False
        assert read_for(source, clock, 1.0).count("frame") > 40
        assert fake.opened == 2


def test_it_is_lost_and_found_as_often_as_it_takes(clock, fake):
    with ReopeningSource(fake, clock) as source:
        for round_ in range(1, 11):
            fake.plugged.clear()
            read_for(source, clock, 1.0)
            fake.plugged.set()
            read_for(source, clock, 1.0)
            assert source.reconnects == round_
    assert not fake.held


def test_leaving_while_the_camera_is_away_releases_nothing_twice(clock, fake):
    with ReopeningSource(fake, clock) as source:
        fake.plugged.clear()
        read_for(source, clock, 0.4)
    assert not fake.held


def test_a_camera_that_comes_back_without_its_settings_stays_away(clock, fake):
    with ReopeningSource(fake, clock) as source:
        fake.plugged.clear()
        read_for(source, clock, 0.4)
        fake.plugged.set()
        fake.__class__ = Forgetful
        assert "frame" not in read_for(source, clock, 2.0)
        assert "exposure is gone" in (source.lost or "")


class Forgetful(FakeSource):
    def __enter__(self):
        raise ControlRefused("exposure is gone")


def test_settings_reach_the_camera_and_are_refused_while_it_is_away(clock, fake):
    with ReopeningSource(fake, clock) as source:
        source.set_control("gain", 5)
        assert fake.controls == {"gain": 5}
        fake.plugged.clear()
        read_for(source, clock, 0.4)
        with pytest.raises(ControlRefused, match="the camera is away"):
            source.set_control("gain", 6)
