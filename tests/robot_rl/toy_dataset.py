"""A small dataset that can be learned: the state turns in a circle, the action follows it, the camera shows noise."""

from pathlib import Path

import numpy as np

from data.archive.store import DatasetStore
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

SPEC = RobotSpec(
    name="toy",
    observations={"state": ArraySpec((3,), "float32", "m"), "camera": ArraySpec((150, 180, 3), "uint8", "rgb")},
    action=ArraySpec((2,), "float32", "m"),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=10.0,
)


def toy_episode(number: int, ticks: int = 20, outcome: Outcome = Outcome.SUCCESS) -> Episode:
    generator = np.random.default_rng(number)
    angle = generator.uniform(0, 2 * np.pi) + generator.uniform(0.1, 0.3) * np.arange(ticks)
    state = np.stack([np.cos(angle), np.sin(angle), np.full(ticks, 0.5)], axis=1).astype(np.float32)
    frames = generator.integers(0, 256, (2, 150, 180, 3), dtype=np.uint8)
    stamps = np.arange(ticks, dtype=np.int64) * SPEC.tick_ns
    action = np.ascontiguousarray(state[:, :2] * 0.5 + 0.1)
    return Episode(
        spec=SPEC,
        header=EpisodeHeader("toy", "script", "", number, "2026-01-01T00:00:00+00:00", "0"),
        result=EpisodeResult(outcome, True, False, "done", ticks),
        stamps_ns=stamps,
        streams={"state": Stream(stamps, state), "camera": Stream(stamps[[0, ticks // 2]], frames)},
        frame_index={"state": np.arange(ticks), "camera": (np.arange(ticks) >= ticks // 2).astype(np.int64)},
        requested=action + 1,
        applied=action,
        source=np.ones(ticks, np.uint8),
        reward=np.zeros(ticks, np.float32),
        filter_reasons=np.zeros(ticks, np.uint32),
    )


def write_toy_dataset(place: Path, outcomes: list[Outcome]) -> str:
    """Returns the dataset's address."""
    with DatasetStore.create(str(place), SPEC, {"camera": "jpeg:90"}) as store:
        for number, outcome in enumerate(outcomes):
            store.append(toy_episode(number, outcome=outcome))
    return str(place)
