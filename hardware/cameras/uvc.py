"""USB cameras, through Linux's V4L2 and OpenCV.

A camera that offers Motion JPEG is used that way: its frames are passed on as they are, which costs no processor time
and a tenth of the USB bandwidth. Settings are asked for, read back, and refused together with the camera if it did not
take them: a policy that was trained with a fixed exposure must not meet an automatic one.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from hardware.cameras.frame_source import BadFrame, CameraLost, ControlRefused, Frame, NoFrame
from hardware.cameras.mjpeg import whole_jpeg
from hardware.cameras.v4l2_devices import explain_missing
from robot_rl.core.errors import RobotRLError
from robot_rl.core.protocols import Clock
from robot_rl.core.specs import NS_PER_S

OLDEST_STAMP_NS = NS_PER_S
"""A driver's stamp that is further back than this is on another clock than the monotonic one."""
BUFFERS = 4
"""Frames that OpenCV lets a driver keep."""
LEAST_RATE = 0.9
"""Share of the wanted rate with which a camera is still what was asked for: 29.97 for 30 is, 25 is not."""
NS_PER_MS = 1_000_000


class Control(NamedTuple):
    """One setting and the OpenCV properties behind it.

    Attributes:
        property_id: What is set.
        scale: Driver's unit per unit of the setting.
        automatic_id: The automatism that must be off, else the camera overrules the setting; None if there is none.
        manual: Value that switches it off.
    """

    property_id: int
    scale: float
    automatic_id: int | None = None
    manual: float = 0.0


# V4L2 counts exposure in 100 us, and its automatism is a menu in which 1 is manual.
CONTROLS = {
    "exposure_ms": Control(cv2.CAP_PROP_EXPOSURE, 10.0, cv2.CAP_PROP_AUTO_EXPOSURE, 1.0),
    "gain": Control(cv2.CAP_PROP_GAIN, 1.0),
    "white_balance_k": Control(cv2.CAP_PROP_WB_TEMPERATURE, 1.0, cv2.CAP_PROP_AUTO_WB),
    "focus": Control(cv2.CAP_PROP_FOCUS, 1.0, cv2.CAP_PROP_AUTOFOCUS),
    "brightness": Control(cv2.CAP_PROP_BRIGHTNESS, 1.0),
    "contrast": Control(cv2.CAP_PROP_CONTRAST, 1.0),
    "saturation": Control(cv2.CAP_PROP_SATURATION, 1.0),
}


class StampOrigin(enum.StrEnum):
    """Where a frame's stamp comes from."""

    DRIVER = "capture time, from the driver"
    ARRIVAL = "time of arrival: the driver gives no monotonic capture time"


class UvcCamera:
    """One V4L2 camera.

    Args:
        clock: What frames are stamped on.
        device: Path, best one below `/dev/v4l/by-id` or `/dev/v4l/by-path`, which outlives unplugging.
        width: [px].
        height: [px].
        fps: Frames per second.
        mjpeg: Motion JPEG where the camera offers it; False asks for uncompressed frames.
        controls: Settings to fix, any of `CONTROLS`; `exposure_ms` in milliseconds, `white_balance_k` in kelvin, the
            others in the driver's units (`v4l2-ctl -L` lists them). What is not named stays as the camera has it,
            possibly automatic.
        open_capture: Opens a device; a test's fake camera.
        wait: Waits until one of some captures has a frame, at most for some nanoseconds; likewise.
        monotonic_ns: The clock that drivers stamp with; likewise.

    Raises:
        RobotRLError: A setting has no such name.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        device: str,
        width: int = 640,
        height: int = 480,
        fps: float = 30.0,
        mjpeg: bool = True,
        controls: Mapping[str, float] | None = None,
        open_capture: Callable[[str, int], Any] = cv2.VideoCapture,
        wait: Callable[[list[Any], int], Any] = cv2.VideoCapture.waitAny,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock, self._device = clock, device
        self._size, self._wanted_fps, self._mjpeg = (width, height), fps, mjpeg
        self._controls = dict(controls or {})
        for name in self._controls:
            _control(name)
        self._open_capture, self._wait, self._monotonic_ns = open_capture, wait, monotonic_ns
        self._capture: Any = None
        self._passes_jpeg = False
        self._streaming = False
        self._origin: StampOrigin | None = None
        self._read_at_ns = 0
        self._cut_off = 0
        self.fps = fps

    def __enter__(self) -> Self:
        """Opens the camera, with every setting verified.

        Raises:
            CameraLost: It does not open or gives another format; the message lists the cameras there are.
            ControlRefused: It does not take a setting.
        """
        # Asked first, because OpenCV prints a warning at every attempt to open what is not there.
        if not Path(self._device).exists():
            raise CameraLost(f"camera {self._device}: {explain_missing(self._device)}")
        capture = self._open_capture(self._device, cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                raise CameraLost(f"camera {self._device}: {explain_missing(self._device)}")
            self._negotiate(capture)
            for name, value in self._controls.items():
                self._fix(capture, name, value)
        except RobotRLError:
            capture.release()
            raise
        self._capture, self._streaming, self._origin = capture, False, None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _negotiate(self, capture: Any) -> None:
        """Asks for format, size and rate, and refuses others."""
        if self._mjpeg:
            # Before the size: a camera's sizes depend on its format.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        capture.set(cv2.CAP_PROP_FPS, self._wanted_fps)
        got = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if got != self._size:
            raise CameraLost(
                f"camera {self._device} gives {got[0]}x{got[1]}, wanted {self._size[0]}x{self._size[1]}; "
                "`v4l2-ctl --list-formats-ext` lists what it has"
            )
        # Read back: OpenCV reports success and uses another format where the camera has no Motion JPEG.
        is_mjpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
        self._passes_jpeg = self._mjpeg and is_mjpeg and bool(capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))
        # A driver that does not say its rate is believed to keep the one that was asked for.
        reported = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = reported if reported > 0 else self._wanted_fps
        if self.fps < LEAST_RATE * self._wanted_fps:
            raise CameraLost(
                f"camera {self._device} gives {self.fps:g} Hz at {got[0]}x{got[1]}, wanted {self._wanted_fps:g}; "
                "`v4l2-ctl --list-formats-ext` lists what it has"
            )

    def _fix(self, capture: Any, name: str, value: float) -> None:
        """Sets one control and reads it back."""
        control = _control(name)
        if control.automatic_id is not None:
            self._set(capture, control.automatic_id, control.manual, f"the automatism of {name}")
        self._set(capture, control.property_id, round(value * control.scale), f"{name} to {value:g}")

    def _set(self, capture: Any, property_id: int, value: float, what: str) -> None:
        taken = bool(capture.set(property_id, value))
        got = float(capture.get(property_id))
        if not taken or got != value:
            has = "has no such control" if got < 0 else f"keeps {got:g} in its own units, wanted {value:g}"
            raise ControlRefused(
                f"camera {self._device} refuses to set {what}: it {has}; `v4l2-ctl -d {self._device} -L` lists "
                "its controls and their ranges"
            )

    def set_control(self, name: str, value: float) -> None:
        """Fixes a setting of `CONTROLS` in the camera itself, and again whenever it is reopened."""
        if self._capture is None:
            raise ControlRefused(f"{name} cannot be set: camera {self._device} is not open")
        if name not in CONTROLS:
            raise ControlRefused(f"a camera has no setting '{name}'; there is {', '.join(CONTROLS)}")
        self._fix(self._capture, name, value)
        self._controls[name] = value

    def read(self, timeout_s: float) -> Frame:
        """The camera's next frame; a damaged Motion JPEG one is skipped and counted."""
        if self._capture is None:
            raise CameraLost(f"camera {self._device} is not open; enter the source first")
        self._drain()
        self._await(timeout_s)
        done, picture = self._capture.read()
        now_ns, monotonic_ns = self._clock.now_ns(), self._monotonic_ns()
        self._read_at_ns = monotonic_ns
        if not done or picture is None:
            raise self._gone()
        self._streaming = True
        stamp_ns = self._stamp(now_ns, monotonic_ns)
        width, height = self._size
        if not self._passes_jpeg:
            image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            return Frame(stamp_ns, width, height, image=image)
        try:
            return Frame(stamp_ns, width, height, jpeg=whole_jpeg(picture.tobytes()))
        except BadFrame as error:
            self._cut_off += 1
            raise NoFrame(str(error)) from error

    def _await(self, timeout_s: float) -> None:
        """Waits for a frame, which OpenCV's own read does for ten seconds.

        Only once the camera streams: before its first frame OpenCV would wait without the limit. Never for a capture
        that is not open: OpenCV 4.14 crashes then.
        """
        if not self._streaming:
            return
        try:
            # At least a millisecond: to OpenCV zero means forever.
            ready, _ = self._wait([self._capture], max(NS_PER_MS, round(timeout_s * NS_PER_S)))
        except cv2.error as error:
            raise self._gone() from error
        if not ready:
            raise NoFrame(f"camera {self._device} gave no frame within {timeout_s:.3f} s")

    def _gone(self) -> CameraLost:
        return CameraLost(f"camera {self._device} stopped delivering: unplugged, or its USB bus is overloaded")

    def _stamp(self, now_ns: int, monotonic_ns: int) -> int:
        """The last frame's capture time on our clock, from the driver's once that has been plausible [ns]."""
        captured_ns = round(float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) * NS_PER_MS)
        age_ns = monotonic_ns - captured_ns
        if captured_ns > 0 and 0 <= age_ns <= OLDEST_STAMP_NS:
            self._origin = StampOrigin.DRIVER
        # Decided once: a frame that waited in the buffers while this process was stopped is old, not unstamped.
        if self._origin is StampOrigin.DRIVER and age_ns >= 0:
            return now_ns - age_ns
        self._origin = StampOrigin.ARRIVAL
        return now_ns

    def _drain(self) -> None:
        """Throws away what waited in the driver's buffers while nobody read: stamped at arrival, it would look new."""
        silent_ns = self._monotonic_ns() - self._read_at_ns
        if self._origin is StampOrigin.ARRIVAL and silent_ns * self.fps > BUFFERS * NS_PER_S:
            for _ in range(BUFFERS):
                if not self._capture.grab():
                    raise self._gone()

    def describe(self) -> Mapping[str, str]:
        """Which device, the format it agreed to, whose stamps, frames cut off, and settings made."""
        form = "Motion JPEG, passed on" if self._passes_jpeg else "uncompressed"
        return {
            "source": f"V4L2 camera {self._device}",
            "format": f"{self._size[0]}x{self._size[1]} at {self.fps:g} Hz, {form}",
            "stamps": str(self._origin or "no frame yet"),
            "cut off": str(self._cut_off),
            "controls": ", ".join(f"{name} {value:g}" for name, value in self._controls.items()) or "as the camera has",
        }


def _control(name: str) -> Control:
    control = CONTROLS.get(name)
    if control is None:
        raise RobotRLError(f"a camera has no setting '{name}'; there is {', '.join(CONTROLS)}")
    return control
