"""A recorder that tells over a pipe how far it has got, until somebody kills it."""

from __future__ import annotations

import contextlib
import itertools
import time
from multiprocessing.connection import Connection

import numpy as np

from data.recorder.background_commits import CommitFailed
from data.recorder.recovery import recover
from data.recorder.writer import EpisodeWriter, RecorderSettings
from tests.data.recordings import LOSSLESS, SPEC, header, result, steps

OPTIONS = RecorderSettings(sync_s=None, durable=False, min_free_bytes=0, lock_wait_s=60.0, niceness=0)
TICK_S = 0.001


def length(seed: int) -> int:
    """Ticks of the episode of a seed."""
    return int(np.random.default_rng(seed).integers(5, 120))


def record(url: str, first_seed: int, pipe: Connection) -> None:
    """Recovers what the last recorder left, then records one episode after the other.

    Ends by itself only when its commit process was killed.
    Sends `("ready", pid of the commit process)`, then `(seed, acknowledged ticks)` as often as it can.
    """
    recover(url, wait_s=OPTIONS.lock_wait_s)
    with contextlib.suppress(CommitFailed), EpisodeWriter(url, SPEC, LOSSLESS, options=OPTIONS) as writer:
        assert writer._commits is not None
        pipe.send(("ready", writer._commits._process.pid))
        for seed in itertools.count(first_seed):
            writer.begin(SPEC, header(seed))
            for step in steps(seed, length(seed)):
                writer.append(step)
                time.sleep(TICK_S)
                pipe.send((seed, writer.acknowledged))
            writer.end(result(length(seed)))
            while writer.pending() > 2:
                time.sleep(TICK_S)
