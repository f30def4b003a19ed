"""Opens a stored episode in Rerun: images as they were stored, everything else as curves over the same time.

Frames appear when they were captured, actions when they were applied. Rerun is imported here and only when asked for.

Legend: `T` ticks in an episode, `N` frames of one stream.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from data.archive.codecs import Codec
from data.archive.schema import CompressedStream, EncodedEpisode
from robot_rl.core.episode import Episode, Stream
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, ArraySpec, RobotSpec

MOST_CURVES = 128
"""A stream with more elements than this is drawn as a tensor."""
POINT_RADIUS_M = 0.003
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}


class ShowError(RobotRLError):
    """An episode cannot be shown here."""


def show(encoded: EncodedEpisode, title: str, save: Path | None) -> None:
    """Opens the viewer on an episode, or writes what it would show to a file.

    Args:
        encoded: As stored.
        title: Names the recording, for example `datasets/peg 000003`.
        save: A `.rrd` file to write instead of opening a window; None opens one.

    Raises:
        ShowError: Rerun is not installed, there is no display, or the file cannot be written.
    """
    rerun = _import_rerun()
    recording = rerun.RecordingStream("robot-rl", recording_id=title)
    if save is not None:
        _check_writable(save)
        recording.save(save, default_blueprint=_blueprint(encoded.episode.spec))
    elif not has_display():
        raise ShowError("no display here: write a file with --save episode.rrd and open it elsewhere with `rerun`")
    else:
        recording.spawn(default_blueprint=_blueprint(encoded.episode.spec))
    _Log(rerun, recording, encoded).everything()
    recording.flush()
    recording.disconnect()


def has_display() -> bool:
    """Whether a window can be opened on this machine."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _import_rerun() -> ModuleType:
    try:
        import rerun
    except ImportError as error:
        raise ShowError("showing an episode needs the package rerun-sdk: pip install rerun-sdk") from error
    return rerun


def _check_writable(path: Path) -> None:
    if path.exists():
        raise ShowError(f"{path} exists; remove it or save to another file")
    if not path.parent.is_dir():
        raise ShowError(f"{path} cannot be written: there is no directory {path.parent}")


def _blueprint(spec: RobotSpec) -> Any:
    """Cameras and point clouds above, curves below."""
    import rerun.blueprint as rrb

    cameras: list[Any] = [rrb.Spatial2DView(origin=f"observation/{name}", name=name) for name in spec.images]
    cameras += [rrb.Spatial3DView(origin=f"observation/{name}", name=name) for name in spec.point_clouds]
    streams = [
        rrb.TimeSeriesView(origin=f"observation/{name}", name=name)
        for name, stream in spec.observations.items()
        if not (stream.is_image or stream.is_point_cloud) and stream.size <= MOST_CURVES
    ]
    ticks = [rrb.TimeSeriesView(origin=name, name=name) for name in ("action", "reward", "age_ms", "source")]
    words = [rrb.TextLogView(origin="filter", name="filter"), rrb.TextDocumentView(origin="episode", name="episode")]
    rows = [rrb.Horizontal(*cameras)] if cameras else []
    return rrb.Blueprint(rrb.Vertical(*rows, rrb.Grid(*ticks, *streams), rrb.Horizontal(*words)))


class _Log:
    """Sends the parts of one episode to a recording."""

    def __init__(self, rerun: ModuleType, recording: Any, encoded: EncodedEpisode) -> None:
        self.rerun, self.recording = rerun, recording
        self.episode, self.streams = encoded.episode, encoded.streams
        firsts = [stream.stamps_ns[0] for stream in self.streams.values() if len(stream.stamps_ns)]
        self.start_ns = min([*firsts, *self.episode.stamps_ns[:1]], default=0)

    def everything(self) -> None:
        episode, spec = self.episode, self.episode.spec
        self.recording.log(
            "episode", self.rerun.TextDocument(_summary(episode), media_type="text/markdown"), static=True
        )
        for name, stream in self.streams.items():
            if isinstance(stream, CompressedStream):
                self._images(name, stream)
            else:
                self._values(name, stream, spec.observations[name])
        action_names = element_names(spec.action)
        self._curves("action/requested", episode.stamps_ns, episode.requested, action_names)
        self._curves("action/applied", episode.stamps_ns, episode.applied, action_names)
        self._curves("reward", episode.stamps_ns, episode.reward, ["reward"])
        self._curves("source", episode.stamps_ns, episode.source, ["operator"])
        for name, index in episode.frame_index.items():
            ages_ms = (episode.stamps_ns - self.streams[name].stamps_ns[index]) / 1e6
            self._curves(f"age_ms/{name}", episode.stamps_ns, ages_ms, [name])
        self._filter_reasons()

    def _images(self, name: str, stream: CompressedStream) -> None:
        codec = Codec.parse(stream.codec)
        frames = [stream.frame(index) for index in range(len(stream.stamps_ns))]
        if codec.kind not in MEDIA_TYPES:
            shape = self.episode.spec.observations[name]
            frames = [Codec("png").encode(codec.decode(frame, shape)) for frame in frames]
            codec = Codec("png")
        media = [MEDIA_TYPES[codec.kind]] * len(frames)
        columns = self.rerun.EncodedImage.columns(blob=frames, media_type=media)
        self.recording.send_columns(f"observation/{name}", self._times(stream.stamps_ns), columns)

    def _values(self, name: str, stream: Stream, spec: ArraySpec) -> None:
        if spec.size <= MOST_CURVES and not spec.is_point_cloud:
            self._curves(f"observation/{name}", stream.stamps_ns, stream.values, element_names(spec))
            return
        for stamp_ns, value in zip(stream.stamps_ns, stream.values, strict=True):
            self.recording.set_time("time", duration=np.timedelta64(int(stamp_ns - self.start_ns), "ns"))
            self.recording.log(
                f"observation/{name}", self._points(value) if spec.is_point_cloud else self.rerun.Tensor(value)
            )

    def _points(self, value: AnyArray) -> Any:
        colours = (value[:, 3:] * 255).round().clip(0, 255).astype(np.uint8) if value.shape[1] > 3 else None
        return self.rerun.Points3D(value[:, :3], colors=colours, radii=POINT_RADIUS_M)

    def _curves(self, path: str, stamps_ns: npt.NDArray[np.int64], values: AnyArray, names: Sequence[str]) -> None:
        if not len(values):
            return
        flat = values.reshape(len(values), -1).astype(np.float64)
        self.recording.log(path, self.rerun.SeriesLines(names=list(names)), static=True)
        self.recording.send_columns(path, self._times(stamps_ns), self.rerun.Scalars.columns(scalars=flat))

    def _filter_reasons(self) -> None:
        reasons = self.episode.filter_reasons
        changed = np.flatnonzero(reasons)
        if not len(changed):
            return
        words = [reason_words(int(bits)) for bits in reasons[changed]]
        times = self._times(self.episode.stamps_ns[changed])
        self.recording.send_columns("filter", times, self.rerun.TextLog.columns(text=words))

    def _times(self, stamps_ns: npt.NDArray[np.int64]) -> list[Any]:
        """Seconds since the first sample, and the first tick that could have seen it."""
        ticks = np.searchsorted(self.episode.stamps_ns, stamps_ns)
        since_start = (stamps_ns - self.start_ns).astype("timedelta64[ns]")
        return [
            self.rerun.TimeColumn("time", duration=since_start),
            self.rerun.TimeColumn("tick", sequence=ticks),
        ]


def element_names(spec: ArraySpec) -> list[str]:
    """A name for every element: the spec's own, or its index."""
    if spec.names:
        return list(spec.names)
    return [",".join(map(str, index)) or "value" for index in np.ndindex(spec.shape)]


def reason_words(bits: int) -> str:
    """The command filter's reasons in words."""
    from hardware.safety.filter import FilterReason

    words = [str(reason.name).lower().replace("_", " ") for reason in FilterReason if reason & bits]
    unknown = bits & ~sum(FilterReason)
    return ", ".join([*words, *([f"unknown bits {unknown:#x}"] if unknown else [])])


def _summary(episode: Episode) -> str:
    header, result = episode.header, episode.result
    rows = {
        "robot": episode.spec.name,
        "task": header.task,
        "outcome": f"{result.outcome} ({'terminated' if result.terminated else 'truncated'}: {result.reason})",
        "operator": header.operator,
        "policy": header.policy or "none",
        "seed": header.seed,
        "started": header.started_at,
        "ticks": len(episode),
        "reward": f"sum {result.reward_sum:g}, largest {result.reward_max:g}",
        "software": header.software_version,
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())
