"""How one camera frame becomes bytes and bytes become a frame.

Images are RGB everywhere in robot-rl; OpenCV wants BGR, so the swap happens here and nowhere else. The choice
between the codecs was measured by `benchmarks/storage/chunks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ArraySpec

DEFAULT_CODEC = "jpeg:90"
FULL_CHROMA_QUALITY = 95
"""From this JPEG quality on, colour keeps its full resolution: below it the loss is not the subsampling's."""
PNG_LEVEL = 1
"""zlib level: higher ones cost several times the time for a few per cent."""

Frame = npt.NDArray[np.uint8]


class CodecError(RobotRLError):
    """An unknown codec name, or bytes that do not decode to the frame they should."""


@dataclass(frozen=True)
class Codec:
    """Compression of one camera stream.

    Attributes:
        kind: `jpeg` (lossy), `png` (lossless) or `raw` (as it is).
        quality: JPEG quality, 1 to 100; 0 for the others.
    """

    kind: str
    quality: int = 0

    @classmethod
    def parse(cls, name: str) -> Self:
        """The codec of a name such as `jpeg:90`, `png` or `raw`.

        Raises:
            CodecError: No such codec.
        """
        kind, _, quality = name.partition(":")
        if kind in ("png", "raw") and not quality:
            return cls(kind)
        if kind == "jpeg" and quality.isdecimal() and 1 <= int(quality) <= 100:
            return cls(kind, int(quality))
        raise CodecError(f"no image codec '{name}': use jpeg:<quality 1-100> (for example {DEFAULT_CODEC}), png or raw")

    @property
    def lossless(self) -> bool:
        """Whether a decoded frame equals the encoded one."""
        return self.kind != "jpeg"

    def encode(self, frame: Frame) -> bytes:
        """Compresses an RGB frame of shape (height, width, 3)."""
        if self.kind == "raw":
            return frame.tobytes()
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if self.kind == "png":
            _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
            return bytes(data)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        if self.quality >= FULL_CHROMA_QUALITY:
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, data = cv2.imencode(".jpg", bgr, options)
        return bytes(data)

    def decode(self, data: bytes | memoryview, spec: ArraySpec) -> Frame:
        """The RGB frame that `encode` was given, up to the codec's loss.

        Raises:
            CodecError: The bytes are damaged, or hold a frame of another size than `spec` says.
        """
        if self.kind == "raw":
            if len(data) != spec.size:
                raise CodecError(f"raw frame has {len(data)} bytes, wanted {spec.size} for shape {spec.shape}")
            return np.frombuffer(data, dtype=np.uint8).reshape(spec.shape)
        bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if len(data) else None
        if bgr is None:
            raise CodecError(f"{self.kind} frame of {len(data)} bytes does not decode: its file is damaged")
        if bgr.shape != spec.shape:
            raise CodecError(f"{self.kind} frame has shape {bgr.shape}, wanted {spec.shape}")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def __str__(self) -> str:
        return f"jpeg:{self.quality}" if self.kind == "jpeg" else self.kind
