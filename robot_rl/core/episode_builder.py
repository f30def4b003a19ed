"""Episodes put together step by step. A frame seen by several ticks is kept once.

A frame is known by its capture stamp: one with the stamp of its stream's last frame is that frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Observation, Step, Stream
from robot_rl.core.specs import AnyArray, ArraySpec, RobotSpec


class NewFrame(NamedTuple):
    """A frame not seen before: its stream's name, its capture stamp [ns], its value."""

    stream: str
    stamp_ns: int
    value: AnyArray


class FrameCounter:
    """Tells which frames of successive observations are new.

    Args:
        streams: Names.

    Attributes:
        stamps_ns: Capture stamp of each stream's last frame; None before the first.
        newest: Number of each stream's last frame, counted from 0.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = tuple(streams)
        self.stamps_ns: list[int | None] = [None] * len(streams)
        self.newest = [-1] * len(streams)

    def take(self, seen: Observation) -> list[NewFrame]:
        """The new frames; their values are copied, so the robot may use its buffers again."""
        new = []
        for number, name in enumerate(self._streams):
            stamp_ns = seen.stamp_ns - seen.age_ns[name]
            if stamp_ns != self.stamps_ns[number]:
                self.stamps_ns[number] = stamp_ns
                self.newest[number] += 1
                new.append(NewFrame(name, stamp_ns, np.array(seen.values[name], order="C")))
        return new


Encoder = Callable[[AnyArray], bytes]
"""What a frame is kept as."""


class EpisodeBuilder:
    """One episode in the making.

    Args:
        spec: The robot's.
        encoders: Stream to what its frames are encoded by as they come; `encoded` gives these frames, the episode has
            only their `frame_index`.

    Attributes:
        rewards: One for each tick so far.
    """

    def __init__(self, spec: RobotSpec, encoders: Mapping[str, Encoder] = MappingProxyType({})) -> None:
        self.rewards: list[float] = []
        self._spec = spec
        self._encoders = encoders
        self._counter = FrameCounter([*spec.observations])
        self._frames: dict[str, list[tuple[int, Any]]] = {name: [] for name in spec.observations}
        self._newest: list[list[int]] = []
        self._ticks: list[tuple[int, AnyArray, AnyArray, int, int]] = []

    def __len__(self) -> int:
        """Ticks so far."""
        return len(self._ticks)

    def append(self, step: Step) -> None:
        """Takes one step; everything is copied or encoded."""
        for name, stamp_ns, value in self._counter.take(step.observation):
            encode = self._encoders.get(name)
            self._frames[name].append((stamp_ns, value if encode is None else encode(value)))
        self._newest.append([*self._counter.newest])
        stamp_ns = step.observation.stamp_ns
        row = (stamp_ns, step.requested.copy(), step.applied.copy(), int(step.source), step.filter_reasons)
        self._ticks.append(row)
        self.rewards.append(step.reward)

    def encoded(self, name: str) -> tuple[list[int], list[bytes]]:
        """Capture stamps [ns] and bytes of the frames of a stream that has an encoder."""
        return [stamp_ns for stamp_ns, _ in self._frames[name]], [frame for _, frame in self._frames[name]]

    def episode(self, header: EpisodeHeader, result: EpisodeResult) -> Episode:
        """Everything so far as an episode."""
        observations, action = self._spec.observations, self._spec.action
        columns: list[tuple[object, ...]] = [*zip(*self._ticks, strict=True)] or [()] * 5
        stamps, requested, applied, source, reasons = columns
        index = np.array(self._newest, np.int64).reshape(len(self._newest), len(observations))
        return Episode(
            spec=self._spec,
            header=header,
            result=result,
            stamps_ns=np.array(stamps, np.int64),
            streams={
                name: _stream(self._frames[name], spec)
                for name, spec in observations.items()
                if name not in self._encoders
            },
            frame_index={name: index[:, number].copy() for number, name in enumerate(observations)},
            requested=np.array(requested, action.dtype).reshape(-1, *action.shape),
            applied=np.array(applied, action.dtype).reshape(-1, *action.shape),
            source=np.array(source, np.uint8),
            reward=np.array(self.rewards, np.float32),
            filter_reasons=np.array(reasons, np.uint32),
        )


def _stream(frames: Sequence[tuple[int, AnyArray]], spec: ArraySpec) -> Stream:
    values = np.array([value for _, value in frames], spec.dtype)
    return Stream(np.array([stamp_ns for stamp_ns, _ in frames], np.int64), values.reshape(-1, *spec.shape))
