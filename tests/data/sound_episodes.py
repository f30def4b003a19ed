"""An episode without a fault, for tests that break it or store it."""

from __future__ import annotations

import numpy as np

from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Source, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

TICK_NS = 50_000_000
SPEC = RobotSpec(
    name="arm",
    observations={
        "state": ArraySpec((3,), "float32", "m", low=-1.0, high=1.0),
        "camera": ArraySpec((8, 6, 3), "uint8", "rgb"),
    },
    action=ArraySpec((2,), "float32", "m", low=-0.1, high=0.1),
    action_kinds=(ActionKind.POSITION, ActionKind.POSITION),
    control_hz=20.0,
)


def make_episode(ticks: int = 12, seed: int = 0) -> Episode:
    """State at every tick and a camera at half the rate, both a little older than the tick."""
    generator = np.random.default_rng(seed)
    stamps_ns = 10**9 + TICK_NS * np.arange(ticks, dtype=np.int64)
    frames = (ticks + 1) // 2
    action = generator.uniform(-0.1, 0.1, (ticks, 2)).astype(np.float32)
    reward = generator.uniform(0, 1, ticks).astype(np.float32)
    return Episode(
        spec=SPEC,
        header=EpisodeHeader("reach", "script", "", seed, "2026-01-01T00:00:00Z", "0"),
        result=EpisodeResult(
            Outcome.SUCCESS, True, False, "judge", ticks, float(reward.sum(dtype=np.float64)), float(reward.max())
        ),
        stamps_ns=stamps_ns,
        streams={
            "state": Stream(stamps_ns - 10**6, generator.uniform(-1, 1, (ticks, 3)).astype(np.float32)),
            "camera": Stream(stamps_ns[::2] - 10**7, generator.integers(0, 256, (frames, 8, 6, 3), dtype=np.uint8)),
        },
        frame_index={"state": np.arange(ticks), "camera": np.arange(ticks) // 2},
        requested=action,
        applied=action.copy(),
        source=np.full(ticks, Source.OPERATOR, dtype=np.uint8),
        reward=reward,
        filter_reasons=np.zeros(ticks, dtype=np.uint32),
    )
