"""What a robot's yaml says about one of its cameras; importing this needs no ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from hardware.cameras.frame_source import FrameSource
from hardware.node_config import BadConfig, build, read_section
from robot_rl.core.protocols import Clock
from robot_rl.core.section import Count, Seconds, Wanted

RAW, COMPRESSED = "raw", "compressed"
Namespace = Annotated[str, Wanted("where the camera's topics live: /my_arm/wrist", lambda name: bool(name.strip("/")))]
Published = Annotated[
    Sequence[str],
    Wanted(f"{COMPRESSED}, {RAW}, or both", lambda names: bool(names) and set(names) <= {RAW, COMPRESSED}),
]


@dataclass(frozen=True)
class CameraSettings:
    """One entry of the yaml's `cameras`.

    Attributes:
        namespace: Where the camera's topics live, for example `/my_arm/wrist`.
        source: `_target_` of a `FrameSource` and its arguments, all but `clock`.
        frame_id: The camera's optical frame; empty is the namespace's last part with `_camera`.
        publish: `compressed` (image_raw/compressed), `raw` (image_raw), or both.
        jpeg_quality: 1 to 100, where the camera does not compress by itself.
        calibration: Yaml of the intrinsics as ROS's calibrator writes it; None publishes a CameraInfo without.
        frozen_frames: So many equal pictures in a row mean a frozen camera, whose frames are withheld; None believes
            every picture, for a camera without noise.
        retry_s: From losing the camera to each attempt to open it again [s].
        silent_s: A camera without a frame for this long is opened again [s].
    """

    namespace: Namespace
    source: Mapping[str, Any]
    frame_id: str = ""
    publish: Published = (COMPRESSED,)
    jpeg_quality: Annotated[int, Wanted("1 to 100", lambda value: 1 <= value <= 100)] = 90
    calibration: str | None = None
    frozen_frames: Count | None = 15
    retry_s: Seconds = 0.5
    silent_s: Seconds = 2.0

    @property
    def frame(self) -> str:
        """The frame that images are stamped with."""
        return self.frame_id or f"{self.namespace.strip('/').split('/')[-1]}_camera"

    @property
    def controls(self) -> dict[str, float]:
        """Camera settings that the yaml fixes, such as `exposure_ms`."""
        return {name: float(value) for name, value in (self.source.get("controls") or {}).items()}

    def with_controls(self, controls: Mapping[str, float]) -> CameraSettings:
        """The same with other camera settings."""
        return dataclasses.replace(self, source={**self.source, "controls": dict(controls)}) if controls else self

    def make_source(self, clock: Clock) -> FrameSource:
        """The camera, not yet opened.

        Args:
            clock: What it stamps with.

        Raises:
            BadConfig: It is no class that can be made with these arguments.
        """
        source: FrameSource = build({**self.source, "clock": clock})
        return source


def read_camera(document: Mapping[str, Any], name: str) -> CameraSettings:
    """One camera of a robot.

    Args:
        document: What `read_config` returned.
        name: Its key below `cameras`.

    Raises:
        BadConfig: There is no such camera, or its settings make no sense; names the setting.
    """
    cameras = document.get("cameras") or {}
    if name not in cameras:
        known = ", ".join(cameras) or "none"
        raise BadConfig(f"the robot has no camera {name!r} (-p camera:=...); there is {known}")
    return read_section(f"cameras.{name}", cameras[name], CameraSettings)
