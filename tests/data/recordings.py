"""Deterministic robot recordings for the storage tests: the same seed is the same episode, in any process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.archive.codecs import Codec
from data.recorder.log import LogHead, LogWriter, frame_record, tick_dtype, tick_record
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Observation, Outcome, Source, Step, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

TICK_NS = 10_000_000
FRAME_NS = 33_333_333
SPEC = RobotSpec(
    name="toy",
    observations={
        "state": ArraySpec((3,), "float32", "m", names=("x", "y", "z")),
        "force": ArraySpec((2,), "float64", "N", low=(-1.0, -np.inf), high=5.0),
        "camera": ArraySpec((8, 12, 3), "uint8", "rgb"),
        "wrist": ArraySpec((6, 6, 3), "uint8", "rgb"),
    },
    action=ArraySpec((2,), "float32", "m", low=-1.0, high=1.0),
    action_kinds=(ActionKind.POSITION, ActionKind.RATE),
    control_hz=100.0,
)
LOSSLESS = {"camera": "png", "wrist": "raw"}


def header(seed: int) -> EpisodeHeader:
    return EpisodeHeader("peg", "script", "", seed, "2026-01-02T03:04:05+00:00", "0.1.0")


def result(ticks: int, outcome: Outcome = Outcome.SUCCESS) -> EpisodeResult:
    return EpisodeResult(outcome, outcome is not Outcome.ABORTED, False, "done", ticks, 1.5, 1.0, {"late_ms": [0.1, 2]})


def _values(seed: int, name: str, frame: int) -> np.ndarray:
    spec = SPEC.observations[name]
    generator = np.random.default_rng([seed, frame, *name.encode()])
    if spec.is_image:
        return generator.integers(0, 256, spec.shape, dtype=np.uint8)
    return generator.normal(size=spec.shape).astype(spec.dtype)


def steps(seed: int, ticks: int) -> Iterator[Step]:
    """Steps at 100 Hz whose cameras have a new frame at 30 Hz and whose force sensor is 3 ms old."""
    for tick in range(ticks):
        stamp_ns = 1_000_000_000 + tick * TICK_NS
        frame = tick * TICK_NS // FRAME_NS
        ages = {
            "state": 0,
            "force": 3_000_000,
            "camera": tick * TICK_NS - frame * FRAME_NS,
            "wrist": tick * TICK_NS - frame * FRAME_NS + 1_000_000,
        }
        values = {name: _values(seed, name, frame if name in SPEC.images else tick) for name in SPEC.observations}
        generator = np.random.default_rng([seed, tick])
        requested = generator.normal(size=2).astype(np.float32)
        yield Step(
            Observation(stamp_ns, values, ages),
            requested,
            np.clip(requested, -1, 1),
            Source(int(generator.integers(2))),
            float(np.float32(generator.random())),
            int(generator.integers(2**32)),
        )


def episode(seed: int, ticks: int, outcome: Outcome = Outcome.SUCCESS) -> Episode:
    """The episode that `steps` make."""
    taken = list(steps(seed, ticks))
    streams, index = {}, {}
    for name, spec in SPEC.observations.items():
        stamps = [step.observation.stamp_ns - step.observation.age_ns[name] for step in taken]
        new = [i for i in range(ticks) if i == 0 or stamps[i] != stamps[i - 1]]
        values = [taken[i].observation.values[name] for i in new]
        streams[name] = Stream(
            np.array([stamps[i] for i in new], np.int64), np.array(values, spec.dtype).reshape(len(new), *spec.shape)
        )
        index[name] = np.searchsorted(streams[name].stamps_ns, np.array(stamps, np.int64)).astype(np.int64)
    return Episode(
        spec=SPEC,
        header=header(seed),
        result=result(ticks, outcome),
        stamps_ns=np.array([step.observation.stamp_ns for step in taken], np.int64),
        streams=streams,
        frame_index=index,
        requested=np.array([step.requested for step in taken], np.float32).reshape(ticks, 2),
        applied=np.array([step.applied for step in taken], np.float32).reshape(ticks, 2),
        source=np.array([step.source for step in taken], np.uint8),
        reward=np.array([step.reward for step in taken], np.float32),
        filter_reasons=np.array([step.filter_reasons for step in taken], np.uint32),
    )


def prefix(whole: Episode, ticks: int, ending: EpisodeResult | None = None) -> Episode:
    """The first ticks of an episode and the frames that they saw."""
    index = {name: frames[:ticks] for name, frames in whole.frame_index.items()}
    counts = {name: int(frames.max(initial=-1)) + 1 for name, frames in index.items()}
    return dataclasses.replace(
        whole,
        result=ending or whole.result,
        streams={
            name: Stream(stream.stamps_ns[: counts[name]], stream.values[: counts[name]])
            for name, stream in whole.streams.items()
        },
        frame_index=index,
        **{
            name: getattr(whole, name)[:ticks]
            for name in ("stamps_ns", "requested", "applied", "source", "reward", "filter_reasons")
        },
    )


def write_log(path: Path, seed: int, ticks: int, finished: bool = True) -> list[int]:
    """Logs an episode as the recorder does; returns the file's size after each tick."""
    log = LogWriter(path, LogHead("u1", SPEC, header(seed), LOSSLESS))
    codecs = [Codec.parse(LOSSLESS[name]) if name in LOSSLESS else None for name in SPEC.observations]
    stamps, counts, sizes = [None] * len(codecs), [0] * len(codecs), []
    for step in steps(seed, ticks):
        records = []
        for number, (name, values) in enumerate(step.observation.values.items()):
            stamp = step.observation.stamp_ns - step.observation.age_ns[name]
            if stamp != stamps[number]:
                stamps[number], counts[number] = stamp, counts[number] + 1
                codec = codecs[number]
                records.append(frame_record(number, stamp, codec.encode(values) if codec else values.tobytes()))
        log.write(*records, tick_record(step, [count - 1 for count in counts], tick_dtype(SPEC)))
        sizes.append(path.stat().st_size)
    if finished:
        log.finish(result(ticks))
    log.close()
    return sizes


def difference(left: Episode, right: Episode) -> str | None:
    """The first field in which two episodes differ by a bit, or None."""
    for name in ("spec", "header", "result"):
        if getattr(left, name) != getattr(right, name):
            return f"{name}: {getattr(left, name)} != {getattr(right, name)}"
    for name in ("stamps_ns", "requested", "applied", "source", "reward", "filter_reasons"):
        if not same(getattr(left, name), getattr(right, name)):
            return name
    if list(left.streams) != list(right.streams):
        return f"streams: {list(left.streams)} != {list(right.streams)}"
    for name in left.streams:
        if not same(left.frame_index[name], right.frame_index[name]):
            return f"frame_index of {name}"
        for part in ("stamps_ns", "values"):
            if not same(getattr(left.streams[name], part), getattr(right.streams[name], part)):
                return f"{part} of {name}"
    return None


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the bit: NaN equals itself and -0.0 is not 0.0."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
