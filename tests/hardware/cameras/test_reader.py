from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hardware.cameras.frame_source import BadFrame, CameraLost, ControlRefused, Frame
from hardware.cameras.pattern import PatternCamera, decode_stamp
from hardware.cameras.reader import CameraReader, into_ring
from hardware.cameras.reopening import ReopeningSource
from hardware.sync import StampedRing, StreamTiming, align
from robot_rl.core.clock import HostClock
from robot_rl.core.specs import NS_PER_S
from tests.hardware.cameras.fake_source import FakeSource

GIVE_UP_S = 20.0
CLOCK = HostClock()


class Frames:
    """Keeps what a reader hands on, and lets a test wait for it."""

    def __init__(self) -> None:
        self._seen: list[Frame] = []
        self._changed = threading.Condition()

    def __call__(self, frame: Frame) -> None:
        with self._changed:
            self._seen.append(frame)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Frame]:
        """The next `count` frames from now."""
        with self._changed:
            before = len(self._seen)
            assert self._changed.wait_for(lambda: len(self._seen) >= before + count, GIVE_UP_S)
            return self._seen[before:]


@pytest.fixture
def fake() -> FakeSource:
    return FakeSource(CLOCK)


def reader(fake: FakeSource, on_frame: Callable[[Frame], None], frozen_frames: int | None = 15) -> CameraReader:
    source = ReopeningSource(fake, CLOCK, retry_s=0.02, silent_s=0.5)
    return CameraReader(source, on_frame, CLOCK, frozen_frames=frozen_frames)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline_ns = CLOCK.now_ns() + round(GIVE_UP_S * NS_PER_S)
    while not happened():
        assert CLOCK.now_ns() < deadline_ns
        CLOCK.sleep_until_ns(CLOCK.now_ns() + NS_PER_S // 100)


def wait_for_trouble(each: CameraReader, words: str) -> None:
    wait_until(lambda: words in each.state().trouble)


def test_every_frame_is_handed_on_in_order(fake):
    frames = Frames()
    with reader(fake, frames):
        stamps = [frame.stamp_ns for frame in frames.wait_for(20)]
    assert stamps == sorted(set(stamps))
    assert not fake.held


def test_a_missing_camera_is_an_error_where_the_reader_is_entered(fake):
    fake.plugged.clear()
    with pytest.raises(CameraLost):
        reader(fake, Frames()).__enter__()


def test_unplugging_is_trouble_and_plugging_in_again_a_reconnect(fake):
    frames = Frames()
    with reader(fake, frames) as each:
        frames.wait_for(3)
        assert each.state().trouble == ""
        fake.plugged.clear()
        wait_for_trouble(each, "camera away")
        fake.plugged.set()
        frames.wait_for(3)
        state = each.state()
        assert (state.reconnects, state.trouble, state.drops) == (1, "", 0)


def test_a_frozen_driver_hands_on_nothing(fake):
    frames = Frames()
    with reader(fake, frames) as each:
        frames.wait_for(3)
        fake.frozen_stamp = True
        wait_until(lambda: each.state().report.repeated > 0)
        before = each.state().frames
        wait_until(lambda: each.state().report.repeated > 0)
        assert each.state().frames == before


def test_a_frozen_picture_is_withheld_however_fresh_its_stamps(fake):
    frames = Frames()
    with reader(fake, frames, frozen_frames=5) as each:
        frames.wait_for(3)
        fake.frozen_picture = True
        wait_for_trouble(each, "the camera is frozen")
        assert each.state().withheld > 0
        fake.frozen_picture = False
        frames.wait_for(3)
        assert each.state().trouble == ""


def test_a_camera_without_noise_is_believed_if_asked(fake):
    frames = Frames()
    fake.frozen_picture = True
    with reader(fake, frames, frozen_frames=None) as each:
        frames.wait_for(30)
        assert each.state().withheld == 0


def test_settings_are_changed_between_frames_and_refusals_come_back(fake):
    frames = Frames()
    with reader(fake, frames) as each:
        each.set_control("gain", 7)
        assert fake.controls == {"gain": 7}
        with pytest.raises(ControlRefused, match="does not take gain 700"):
            each.set_control("gain", 700)
        frames.wait_for(2)


def test_what_goes_wrong_with_a_frame_is_told_to_who_asks(fake):
    failed = threading.Event()

    def fail(frame: Frame) -> None:
        failed.set()
        raise ZeroDivisionError("in the subscriber")

    with reader(fake, fail) as each:
        assert failed.wait(GIVE_UP_S)
        with pytest.raises(ZeroDivisionError, match="in the subscriber"):
            wait_for_trouble(each, "never")


def test_a_damaged_picture_is_counted_and_the_next_one_is_taken(fake):
    frames = Frames()
    damaged = iter([True])

    def decode(frame: Frame) -> None:
        if next(damaged, False):
            raise BadFrame("cut off")
        frames(frame)

    with reader(fake, decode) as each:
        frames.wait_for(2)
        assert each.state().damaged == 1
        assert each.state().trouble == ""


def test_a_driver_in_process_gets_resized_pictures_in_its_ring():
    camera = PatternCamera(clock=CLOCK, width=320, height=240, fps=100.0)
    ring = StampedRing("image_wrist", StreamTiming(max_age_ns=60 * NS_PER_S))
    enough = threading.Event()
    push = into_ring(ring, height=120, width=160)

    def on_frame(frame: Frame) -> None:
        push(frame)
        enough.set()

    with CameraReader(ReopeningSource(camera, CLOCK), on_frame, CLOCK):
        assert enough.wait(GIVE_UP_S)
    tick_ns = CLOCK.now_ns()
    seen = align({"image_wrist": ring}, tick_ns)
    assert seen.values["image_wrist"].shape == (120, 160, 3)
    assert decode_stamp(seen.values["image_wrist"]) == tick_ns - seen.age_ns["image_wrist"]
