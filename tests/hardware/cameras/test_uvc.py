"""A fake `cv2.VideoCapture` that behaves as OpenCV's V4L2 backend does, which was read for this."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hardware.cameras.frame_source import CameraLost, ControlRefused, NoFrame, decode_jpeg, encode_jpeg
from hardware.cameras.uvc import UvcCamera
from robot_rl.core.clock import SimulatedClock
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import NS_PER_S

MS = 1_000_000
MJPG, YUYV = cv2.VideoWriter.fourcc(*"MJPG"), cv2.VideoWriter.fourcc(*"YUYV")
NOW_NS, MONOTONIC_NS = 5_000 * NS_PER_S, 77 * NS_PER_S
IMAGE = np.zeros((48, 64, 3), np.uint8)
IMAGE[:, :, 0] = 200


class FakeV4l2:
    """One camera as OpenCV shows it.

    Attributes:
        mjpeg: Whether it has Motion JPEG; OpenCV reports success at setting it either way.
        sizes: What it can do.
        ranges: Control to its lowest and highest value; a driver clamps and reports success.
        plugged: Whether it is there.
        captured_ms: What the driver says about the last frame.
    """

    def __init__(self) -> None:
        self.mjpeg, self.plugged, self.ready, self.is_open = True, True, True, False
        self.sizes = [(64, 48)]
        self.frame_rate = 30.0
        self.ranges = {
            cv2.CAP_PROP_EXPOSURE: (3, 2047),
            cv2.CAP_PROP_GAIN: (0, 255),
            cv2.CAP_PROP_WB_TEMPERATURE: (2000, 6500),
        }
        # As cameras come: exposure in aperture priority, white balance automatic.
        self.values = {cv2.CAP_PROP_AUTO_EXPOSURE: 3.0, cv2.CAP_PROP_AUTO_WB: 1.0, cv2.CAP_PROP_EXPOSURE: 157.0}
        self.fourcc, self.size, self.converts = YUYV, (640, 480), True
        self.captured_ms = (MONOTONIC_NS - 12 * MS) / MS
        self.jpeg = encode_jpeg(IMAGE, 90) + bytes(5)
        self.waits: list[int] = []
        self.grabbed = 0
        self.monotonic_ns = MONOTONIC_NS

    def open(self, device: str, backend: int) -> FakeV4l2:
        assert backend == cv2.CAP_V4L2
        self.is_open = self.plugged
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self.is_open

    def release(self) -> None:
        self.is_open = False

    def set(self, prop: int, value: float) -> bool:
        if prop == cv2.CAP_PROP_FOURCC:
            self.fourcc = int(value) if self.mjpeg else YUYV
        elif prop == cv2.CAP_PROP_FRAME_WIDTH:
            self.size = (int(value), self.size[1])
        elif prop == cv2.CAP_PROP_FRAME_HEIGHT:
            self.size = min(self.sizes, key=lambda each: abs(each[0] - self.size[0]) + abs(each[1] - value))
        elif prop == cv2.CAP_PROP_CONVERT_RGB:
            self.converts = bool(value)
        elif prop in {cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_AUTO_WB}:
            self.values[prop] = value
        elif prop in self.ranges:
            low, high = self.ranges[prop]
            overruled = prop == cv2.CAP_PROP_EXPOSURE and self.values[cv2.CAP_PROP_AUTO_EXPOSURE] != 1.0
            if not overruled:
                self.values[prop] = min(max(value, low), high)
        elif prop != cv2.CAP_PROP_FPS:
            return False
        return True

    def get(self, prop: int) -> float:
        known = {
            cv2.CAP_PROP_FOURCC: self.fourcc,
            cv2.CAP_PROP_FRAME_WIDTH: self.size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size[1],
            cv2.CAP_PROP_FPS: self.frame_rate,
            cv2.CAP_PROP_POS_MSEC: self.captured_ms,
        }
        return float(known.get(prop, self.values.get(prop, -1.0)))

    def read(self):
        if not (self.is_open and self.plugged):
            return False, None
        if self.converts:
            return True, cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR)
        return True, np.frombuffer(self.jpeg, np.uint8)[None]

    def grab(self) -> bool:
        self.grabbed += 1
        return self.plugged

    def wait(self, captures, timeout_ns):
        assert captures == [self]
        self.waits.append(timeout_ns)
        if not self.plugged:
            raise cv2.error("Error is reported for camera stream: 0")
        return self.ready, [0] if self.ready else []


def camera(fake: FakeV4l2, **settings) -> UvcCamera:
    return UvcCamera(
        clock=SimulatedClock(NOW_NS),
        device="/dev/null",
        **{"width": 64, "height": 48, **settings},
        open_capture=fake.open,
        wait=fake.wait,
        monotonic_ns=lambda: fake.monotonic_ns,
    )


def test_motion_jpeg_is_passed_on_as_the_camera_compressed_it():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        frame = uvc.read(1.0)
    assert frame.image is None
    assert frame.jpeg == fake.jpeg.rstrip(b"\0")
    assert np.abs(frame.rgb().astype(int) - IMAGE).max() < 8


def test_a_camera_without_motion_jpeg_gives_rgb_pictures():
    fake = FakeV4l2()
    fake.mjpeg = False
    with camera(fake) as uvc:
        frame = uvc.read(1.0)
        assert "uncompressed" in uvc.describe()["format"]
    assert frame.jpeg is None
    assert np.array_equal(frame.rgb(), IMAGE)


def test_uncompressed_frames_can_be_asked_for():
    fake = FakeV4l2()
    with camera(fake, mjpeg=False) as uvc:
        assert uvc.read(1.0).image is not None


def test_a_frame_is_stamped_with_the_drivers_capture_time_on_our_clock():
    with camera(FakeV4l2()) as uvc:
        assert uvc.read(1.0).stamp_ns == NOW_NS - 12 * MS
        assert uvc.describe()["stamps"].startswith("capture time")


@pytest.mark.parametrize("captured_ms", [0.0, 1.79e12, (MONOTONIC_NS - 3 * NS_PER_S) / MS])
def test_a_driver_without_monotonic_stamps_is_stamped_at_arrival_and_says_so(captured_ms):
    fake = FakeV4l2()
    fake.captured_ms = captured_ms
    with camera(fake) as uvc:
        assert uvc.read(1.0).stamp_ns == NOW_NS
        assert uvc.describe()["stamps"].startswith("time of arrival")


def test_a_frame_that_waited_while_this_process_was_stopped_is_old_and_not_new():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        uvc.read(1.0)
        fake.monotonic_ns += 5 * NS_PER_S
        assert uvc.read(1.0).stamp_ns == NOW_NS - 12 * MS - 5 * NS_PER_S
    assert fake.grabbed == 0


def test_frames_that_waited_are_thrown_away_where_arrival_would_make_them_new():
    fake = FakeV4l2()
    fake.captured_ms = 0.0
    with camera(fake) as uvc:
        uvc.read(1.0)
        fake.monotonic_ns += 33 * MS
        uvc.read(1.0)
        assert fake.grabbed == 0
        fake.monotonic_ns += 5 * NS_PER_S
        uvc.read(1.0)
    assert fake.grabbed == 4


def test_settings_are_fixed_with_their_automatisms_off():
    fake = FakeV4l2()
    with camera(fake, controls={"exposure_ms": 8.0, "white_balance_k": 4600, "gain": 20}) as uvc:
        assert "exposure_ms 8" in uvc.describe()["controls"]
    assert fake.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0
    assert fake.values[cv2.CAP_PROP_EXPOSURE] == 80
    assert fake.values[cv2.CAP_PROP_AUTO_WB] == 0.0
    assert fake.values[cv2.CAP_PROP_WB_TEMPERATURE] == 4600
    assert fake.values[cv2.CAP_PROP_GAIN] == 20


def test_a_camera_that_clamps_its_exposure_is_refused_with_both_values():
    fake = FakeV4l2()
    with pytest.raises(ControlRefused, match="exposure_ms to 500: it keeps 2047 in its own units, wanted 5000"):
        camera(fake, controls={"exposure_ms": 500.0}).__enter__()
    assert not fake.is_open


def test_a_camera_without_a_control_is_refused():
    with pytest.raises(ControlRefused, match="focus: it has no such control"):
        camera(FakeV4l2(), controls={"focus": 0}).__enter__()


def test_an_unknown_setting_is_named_before_anything_is_opened():
    with pytest.raises(RobotRLError, match="no setting 'exposure'; there is exposure_ms"):
        camera(FakeV4l2(), controls={"exposure": 8.0})


def test_a_refused_change_keeps_the_old_setting_and_a_taken_one_outlives_reopening():
    fake = FakeV4l2()
    uvc = camera(fake, controls={"gain": 20})
    with uvc:
        with pytest.raises(ControlRefused):
            uvc.set_control("gain", 1000)
        assert "gain 20" in uvc.describe()["controls"]
        uvc.set_control("gain", 30)
    fake.values[cv2.CAP_PROP_GAIN] = 0
    with uvc:
        assert fake.values[cv2.CAP_PROP_GAIN] == 30


def test_another_size_than_asked_for_is_refused():
    with pytest.raises(CameraLost, match="gives 64x48, wanted 1920x1080"):
        camera(FakeV4l2(), width=1920, height=1080).__enter__()


def test_a_camera_that_does_not_open_says_why_and_what_there_is():
    fake = FakeV4l2()
    fake.plugged = False
    with pytest.raises(CameraLost, match=r"it does not open: .* Cameras here:"):
        camera(fake).__enter__()


def test_a_camera_that_is_not_there_is_not_even_tried():
    def refuse(device: str, backend: int) -> None:
        raise AssertionError("opened")

    uvc = UvcCamera(clock=SimulatedClock(NOW_NS), device="/dev/video-none", open_capture=refuse)
    with pytest.raises(CameraLost, match=r"camera /dev/video-none: there is no such device.* Cameras here:"):
        uvc.__enter__()


def test_unplugging_is_noticed_while_waiting_and_while_reading():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        uvc.read(1.0)
        fake.plugged = False
        with pytest.raises(CameraLost, match="stopped delivering"):
            uvc.read(1.0)
    with pytest.raises(CameraLost, match="not open"):
        uvc.read(1.0)


def test_a_camera_unplugged_before_its_first_frame_is_lost():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        fake.plugged = False
        with pytest.raises(CameraLost, match="stopped delivering"):
            uvc.read(1.0)


def test_a_hung_camera_costs_no_more_than_the_timeout_once_it_streams():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        uvc.read(1.0)
        fake.ready = False
        with pytest.raises(NoFrame, match=r"within 0\.200 s"):
            uvc.read(0.2)
        with pytest.raises(NoFrame):
            uvc.read(0.0)
    assert fake.waits == [200 * MS, 1 * MS]


def test_a_cut_off_frame_is_skipped_and_counted():
    fake = FakeV4l2()
    with camera(fake) as uvc:
        whole, fake.jpeg = fake.jpeg, fake.jpeg[:200]
        with pytest.raises(NoFrame, match="part of it was lost"):
            uvc.read(1.0)
        fake.jpeg = whole
        assert decode_jpeg(uvc.read(1.0).jpeg or b"").shape == (48, 64, 3)
        assert uvc.describe()["cut off"] == "1"


def test_the_rate_is_the_cameras_own_and_the_asked_one_where_it_says_none():
    fake = FakeV4l2()
    for reported, meant in ((29.97, 29.97), (60.0, 60.0), (-1.0, 30.0)):
        fake.frame_rate = reported
        with camera(fake, fps=30.0) as uvc:
            assert uvc.fps == meant


def test_a_camera_that_is_slower_than_asked_for_is_refused():
    fake = FakeV4l2()
    fake.frame_rate = 15.0
    with pytest.raises(CameraLost, match="gives 15 Hz at 64x48, wanted 30"):
        camera(fake, fps=30.0).__enter__()


def test_opencv_still_waits_in_the_way_that_is_relied_on():
    with pytest.raises(cv2.error):
        cv2.VideoCapture.waitAny([], 1_000_000)
