import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from data.archive.lock import WriterLock
from data.archive.store import DatasetStore
from data.recorder.recovery import recover, recoverable
from robot_rl.core.episode import Outcome
from tests.data.recorder.crashing_recorder import length, record
from tests.data.recordings import difference, episode, prefix, result

KILLS = 54
LONGEST_LIFE_S = 0.6
LONGEST_START_S = 20.0
BOTH, RECORDER, COMMITTER_FIRST = "both at once", "the recorder", "the commit process, then the recorder"
VICTIMS = (BOTH, BOTH, RECORDER, BOTH, COMMITTER_FIRST)


def live_and_die(context, url, first_seed, life_s, victim, stillborn):
    """One life of a recorder: what it acknowledged, seed to ticks, and whether it came to recording at all.

    Its time counts from its first episode; a stillborn one's from the start, so that recovery is hit as well.
    """
    receiver, sender = context.Pipe(duplex=False)
    recorder = context.Process(target=record, args=(url, first_seed, sender))
    recorder.start()
    sender.close()
    acknowledged, committer = {}, None
    death = time.monotonic() + (life_s if stillborn else LONGEST_START_S)
    while (left_s := death - time.monotonic()) > 0:
        if receiver.poll(left_s):
            subject, value = receiver.recv()
            if subject == "ready":
                committer = value
                death = death if stillborn else time.monotonic() + life_s
            else:
                acknowledged[subject] = value
    if committer and victim == COMMITTER_FIRST:
        os.kill(committer, signal.SIGKILL)
        time.sleep(0.01)
    recorder.kill()
    if committer and victim == BOTH:
        os.kill(committer, signal.SIGKILL)
    recorder.join()
    # It may notice first that its commit process is gone, and then it says so and ends.
    assert recorder.exitcode == -signal.SIGKILL or (recorder.exitcode == 0 and victim == COMMITTER_FIRST)
    try:
        while True:
            subject, value = receiver.recv()
            if subject != "ready":
                acknowledged[subject] = value
    except EOFError:
        receiver.close()
    return acknowledged, committer is not None


def problems_in(url, acknowledged):
    """Everything that is not as the recorder acknowledged it."""
    store, problems, seen = DatasetStore.open(url), [], set()
    for episode_id in store.episode_ids():
        read = store.read(episode_id)
        seed, ticks = read.header.seed, len(read)
        if seed in seen:
            problems.append(f"seed {seed} is stored twice")
        seen.add(seed)
        if ticks < acknowledged.get(seed, 0):
            problems.append(f"seed {seed} has {ticks} ticks, {acknowledged[seed]} were acknowledged")
        wanted = prefix(episode(seed, length(seed)), ticks)
        if read.result.outcome is Outcome.ABORTED:
            wanted = prefix(wanted, ticks, read.result)
        elif read.result != result(length(seed)):
            problems.append(f"seed {seed} has another result: {read.result}")
        if (found := difference(read, wanted)) is not None:
            problems.append(f"seed {seed}: {found}")
    lost = [seed for seed, ticks in acknowledged.items() if ticks and seed not in seen]
    return problems + [f"seed {seed} is lost after {acknowledged[seed]} ticks" for seed in lost]


@pytest.mark.slow
def test_no_acknowledged_tick_is_lost_or_changed_by_fifty_kills(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.data.recorder.crashing_recorder"])
    url, generator = str(tmp_path / "set"), np.random.default_rng(0)
    acknowledged, lives = {}, 0
    for kill in range(KILLS):
        told, alive = live_and_die(
            context,
            url,
            first_seed=kill * 1000,
            life_s=float(generator.uniform(0.05, LONGEST_LIFE_S)),
            victim=VICTIMS[kill % len(VICTIMS)],
            stillborn=kill % 4 == 3,
        )
        acknowledged |= told
        lives += alive
    recover(url, wait_s=60)
    assert recoverable(url) == []
    assert os.listdir(f"{url}/journal") == []
    assert problems_in(url, acknowledged) == []
    stored = DatasetStore.open(url)
    outcomes = [stored.info(episode_id).result.outcome for episode_id in stored.episode_ids()]
    # Most lives must have recorded, and the kills must have met episodes at all stages, or this proves nothing.
    assert lives > KILLS // 3
    assert outcomes.count(Outcome.SUCCESS) > 10
    assert outcomes.count(Outcome.ABORTED) > 10
    WriterLock.acquire(stored._location.lock_path).release()
