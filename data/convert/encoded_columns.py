"""Gathers an episode step by step with its cameras compressed at once, so that a long one still fits in memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.archive.codecs import Codec
from data.archive.schema import CompressedStream, EncodedEpisode, offsets_of
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Step, Stream
from robot_rl.core.specs import AnyArray, ArraySpec, RobotSpec


class EncodedColumns:
    """One episode in the making. A frame seen by several ticks is kept once.

    Args:
        spec: The robot's.
        codecs: Camera stream to codec; every camera of `spec`.
    """

    def __init__(self, spec: RobotSpec, codecs: Mapping[str, str]) -> None:
        self.rewards: list[float] = []
        self._spec = spec
        self._frames = {
            name: _Frames(stream, Codec.parse(codecs[name]) if name in codecs else None)
            for name, stream in spec.observations.items()
        }
        self._index: dict[str, list[int]] = {name: [] for name in spec.observations}
        self._ticks: list[tuple[int, AnyArray, AnyArray, int, int]] = []

    def __len__(self) -> int:
        """Ticks so far."""
        return len(self._ticks)

    def append(self, step: Step) -> None:
        """Takes one step; frames are compressed or copied."""
        seen = step.observation
        for name, frames in self._frames.items():
            self._index[name].append(frames.add(seen.stamp_ns - seen.age_ns[name], seen.values[name]))
        row = (seen.stamp_ns, step.requested.copy(), step.applied.copy(), int(step.source), step.filter_reasons)
        self._ticks.append(row)
        self.rewards.append(step.reward)

    def episode(self, uuid: str, header: EpisodeHeader, result: EpisodeResult) -> EncodedEpisode:
        """Everything so far as an episode. Arguments as in `EncodedEpisode`."""
        action = self._spec.action
        columns: list[tuple[object, ...]] = [*zip(*self._ticks, strict=True)] or [()] * 5
        stamps, requested, applied, source, reasons = columns
        return EncodedEpisode(
            uuid=uuid,
            spec=self._spec,
            header=header,
            result=result,
            stamps_ns=np.array(stamps, np.int64),
            streams={name: frames.stream() for name, frames in self._frames.items()},
            frame_index={name: np.array(index, np.int64) for name, index in self._index.items()},
            requested=np.array(requested, action.dtype).reshape(-1, *action.shape),
            applied=np.array(applied, action.dtype).reshape(-1, *action.shape),
            source=np.array(source, np.uint8),
            reward=np.array(self.rewards, np.float32),
            filter_reasons=np.array(reasons, np.uint32),
        )


class _Frames:
    """Every distinct frame of one stream."""

    def __init__(self, spec: ArraySpec, codec: Codec | None) -> None:
        self._spec, self._codec = spec, codec
        self._stamps_ns: list[int] = []
        self._values: list[AnyArray] = []
        self._encoded: list[bytes] = []

    def add(self, stamp_ns: int, value: AnyArray) -> int:
        """Index of the frame with this stamp, the last one or a new one."""
        if not self._stamps_ns or self._stamps_ns[-1] != stamp_ns:
            self._stamps_ns.append(stamp_ns)
            if self._codec is None:
                self._values.append(value.copy())
            else:
                self._encoded.append(self._codec.encode(value))
        return len(self._stamps_ns) - 1

    def stream(self) -> Stream | CompressedStream:
        stamps_ns = np.array(self._stamps_ns, np.int64)
        if self._codec is None:
            return Stream(stamps_ns, np.array(self._values, self._spec.dtype).reshape(-1, *self._spec.shape))
        data = np.frombuffer(b"".join(self._encoded), np.uint8)
        return CompressedStream(stamps_ns, offsets_of([*map(len, self._encoded)]), data, str(self._codec))
