import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data.archive.codecs import Codec
from data.archive.lock import DatasetLocked
from data.archive.schema import DatasetError
from data.archive.store import DatasetStore
from data.recorder.background_commits import CommitFailed
from data.recorder.log import LogHead, LogWriter
from data.recorder.recording import RecordingFailed
from data.recorder.recovery import recover, recoverable
from data.recorder.writer import EpisodeWriter, RecorderSettings
from robot_rl.core.episode import Outcome
from robot_rl.core.errors import SpecMismatch
from robot_rl.core.specs import ArraySpec
from tests.data.recordings import LOSSLESS, SPEC, difference, episode, header, result, steps, write_log

FAST = RecorderSettings(sync_s=None, durable=False, min_free_bytes=0, lock_wait_s=30.0, niceness=0)


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "set")


def journal(url):
    return sorted(os.listdir(f"{url}/journal"))


def record(writer, seed, ticks, outcome=Outcome.SUCCESS):
    writer.begin(SPEC, header(seed))
    for step in steps(seed, ticks):
        writer.append(step)
    writer.end(result(ticks, outcome))


def test_recorded_episodes_read_back_identical_and_in_order(url):
    told = []
    with EpisodeWriter(url, SPEC, LOSSLESS, on_progress=told.append) as writer:
        for seed in range(3):
            record(writer, seed, 40, Outcome.FAILURE)
        assert writer.wait(300)
        assert writer.pending() == 0
        assert writer.committed() == ["000000", "000001", "000002"]
    store = DatasetStore.open(url)
    for seed, episode_id in enumerate(store.episode_ids()):
        assert difference(store.read(episode_id), episode(seed, 40, Outcome.FAILURE)) is None
    assert journal(url) == []
    assert [event.episode_id for event in told if event.fraction == 1.0] == store.episode_ids()


def test_the_next_episode_begins_while_the_last_one_is_still_being_committed(url):
    gate = threading.Event()
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST, on_progress=lambda event: gate.wait(30)) as writer:
        for seed in range(3):
            record(writer, seed, 5)
        assert writer.pending() > 0
        assert not writer.wait(0.0)
        gate.set()
    assert len(DatasetStore.open(url).episode_ids()) == 3


def test_a_progress_display_that_fails_is_reported_and_holds_nothing_up(url):
    def broken(progress):
        raise ZeroDivisionError("no terminal")

    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST, on_progress=broken) as writer:
        record(writer, 0, 5)
        with pytest.raises(CommitFailed, match="showing progress failed: ZeroDivisionError: no terminal"):
            writer.wait(300)
        record(writer, 1, 5)
    assert len(DatasetStore.open(url).episode_ids()) == 2


def test_every_tick_is_acknowledged_without_waiting_for_the_end(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(0))
        for step in steps(0, 10):
            writer.append(step)
        give_up = time.monotonic() + 30
        while writer.acknowledged < 10 and time.monotonic() < give_up:
            time.sleep(0.001)
        assert writer.acknowledged == 10
        writer.discard()


def test_a_robot_may_reuse_its_buffers_after_append(url):
    taken = list(steps(7, 9))
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(7))
        for step in taken:
            scratch = {name: values.copy() for name, values in step.observation.values.items()}
            action = step.requested.copy()
            observation = dataclasses.replace(step.observation, values=scratch)
            writer.append(dataclasses.replace(step, observation=observation, requested=action))
            for values in (*scratch.values(), action):
                values[...] = 0
        writer.end(result(9))
    assert difference(DatasetStore.open(url).read("000000"), episode(7, 9)) is None


def test_a_closed_recorder_leaves_no_thread(url):
    before = set(threading.enumerate())
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        record(writer, 0, 20)
        writer.begin(SPEC, header(1))
        for step in steps(1, 20):
            writer.append(step)
        writer.discard()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left & {"recording", "log sync", "commit events"}


def test_a_discarded_episode_leaves_nothing(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(0))
        for step in steps(0, 5):
            writer.append(step)
        writer.discard()
        record(writer, 1, 5)
    assert DatasetStore.open(url).episode_ids() == ["000000"]
    assert journal(url) == []


def test_an_episode_that_ended_before_its_first_tick_is_not_kept(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(0))
        writer.end(result(0, Outcome.ABORTED))
        record(writer, 1, 5)
        assert writer.wait(300)
    with DatasetStore.open(url) as store:
        assert [store.info(each).header.seed for each in store.episode_ids()] == [1]
    assert not recoverable(url)


def test_an_episode_cut_off_by_an_error_is_kept_as_aborted(url):
    def session():
        with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
            writer.begin(SPEC, header(3))
            for step in steps(3, 8):
                writer.append(step)
            raise ZeroDivisionError("robot on fire")

    with pytest.raises(ZeroDivisionError):
        session()
    read = DatasetStore.open(url).read("000000")
    assert (read.result.outcome, read.result.truncated, len(read)) == (Outcome.ABORTED, True, 8)
    assert "robot on fire" in read.result.reason
    assert read.result.reward_sum == pytest.approx(float(read.reward.sum()))


class SlowCodec:
    """A codec that waits until it is let go."""

    def __init__(self):
        self.go = threading.Event()

    def encode(self, codec, frame):
        self.go.wait(30)
        return frame.tobytes()


def test_a_queue_that_overflows_raises_at_the_next_append_and_keeps_what_came_before(url, monkeypatch):
    slow = SlowCodec()
    monkeypatch.setattr(Codec, "encode", lambda self, frame: slow.encode(self, frame))
    options = dataclasses.replace(FAST, queue_s=0.05)
    with EpisodeWriter(url, SPEC, {"camera": "raw", "wrist": "raw"}, options=options) as writer:
        writer.begin(SPEC, header(5))
        taken = 0
        error = None
        for step in steps(5, 50):
            try:
                writer.append(step)
            except RecordingFailed as failure:
                error = failure
                break
            taken += 1
        assert "5 ticks behind" in str(error)
        with pytest.raises(RecordingFailed, match="5 ticks behind"):
            writer.append(step)
        slow.go.set()
        writer.end(result(taken + 1))
        assert writer.wait(300)
    read = DatasetStore.open(url).read("000000")
    assert len(read) == taken
    assert read.result.outcome is Outcome.ABORTED
    assert "5 ticks behind" in read.result.reason
    assert (read.requested == episode(5, taken).requested).all()


def _changed(step, **values):
    return dataclasses.replace(
        step, observation=dataclasses.replace(step.observation, values={**step.observation.values, **values})
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda step: _changed(step, state=np.zeros(4, np.float32)),
            r"'state' is float32 \(4,\), wanted float32 \(3,\)",
        ),
        (lambda step: _changed(step, state=np.zeros(3)), "'state' is float64"),
        (lambda step: dataclasses.replace(step, applied=np.zeros(3, np.float32)), r"applied has shape \(3,\)"),
        (
            lambda step: dataclasses.replace(
                step, observation=dataclasses.replace(step.observation, stamp_ns=step.observation.stamp_ns - 10**9)
            ),
            "the clock went back",
        ),
        (
            lambda step: dataclasses.replace(
                step,
                observation=dataclasses.replace(step.observation, age_ns={**step.observation.age_ns, "force": 10**9}),
            ),
            "'force' has a frame of .* its stamps went back",
        ),
        (
            lambda step: dataclasses.replace(step, observation=dataclasses.replace(step.observation, values={})),
            "'state' is missing",
        ),
    ],
)
def test_a_step_that_does_not_fit_is_refused_in_words_and_the_ones_before_are_kept(url, spoil, words):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(0))
        taken = list(steps(0, 5))
        for step in taken[:4]:
            writer.append(step)
        with pytest.raises(RecordingFailed, match=words):
            writer.append(spoil(taken[4]))
        writer.end(result(4))
    assert len(DatasetStore.open(url).read("000000")) == 4


def test_a_result_of_other_length_is_refused(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        writer.begin(SPEC, header(0))
        writer.append(next(steps(0, 1)))
        with pytest.raises(RecordingFailed, match="2 ticks, but 1"):
            writer.end(result(2))
        writer.end(result(1))


def test_calls_out_of_order_are_refused_in_words(url):
    writer = EpisodeWriter(url, SPEC, LOSSLESS, options=FAST)
    with pytest.raises(DatasetError, match="use it in a with statement"):
        writer.begin(SPEC, header(0))
    with writer:
        with pytest.raises(DatasetError, match=r"begin\(\) one first"):
            writer.append(next(steps(0, 1)))
        writer.begin(SPEC, header(0))
        with pytest.raises(DatasetError, match="an episode is running"):
            writer.begin(SPEC, header(0))
        writer.discard()


def test_another_robot_is_refused_before_anything_is_recorded(url):
    DatasetStore.create(url, SPEC, LOSSLESS).close()
    other = dataclasses.replace(SPEC, control_hz=20.0)
    with pytest.raises(SpecMismatch, match=r"control_hz: dataset has 100.0, robot has 20.0"):
        EpisodeWriter(url, other, options=FAST).__enter__()
    with EpisodeWriter(url, SPEC, options=FAST) as writer, pytest.raises(SpecMismatch, match="control_hz"):
        writer.begin(other, header(0))


def test_a_second_recorder_is_refused_while_the_first_one_runs(url):
    hasty = dataclasses.replace(FAST, lock_wait_s=0.0)
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        with pytest.raises(DatasetLocked, match=f"process {os.getpid()}"):
            EpisodeWriter(url, SPEC, LOSSLESS, options=hasty).__enter__()
        record(writer, 0, 3)
        with pytest.raises(DatasetLocked):
            recoverable(url)


def test_the_dataset_is_free_again_when_the_recorder_has_ended(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST) as writer:
        record(writer, 0, 3)
    DatasetStore.open(url, writable=True).close()


def test_codecs_of_a_recorder_win_over_those_of_the_dataset(url):
    DatasetStore.create(url, SPEC, {"camera": "jpeg:50", "wrist": "png"}).close()
    with EpisodeWriter(url, SPEC, {"camera": "raw"}, options=FAST) as writer:
        record(writer, 0, 3)
    streams = DatasetStore.open(url).read_encoded("000000").streams
    assert (streams["camera"].codec, streams["wrist"].codec) == ("raw", "png")


def test_a_commit_process_that_dies_is_reported_its_log_kept_and_another_one_started(url):
    gate = threading.Event()
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST, on_progress=lambda event: gate.wait(30)) as writer:
        record(writer, 0, 5)
        gate.set()
        assert writer.wait(300)
        os.kill(writer._commits._process.pid, 9)
        writer._commits._process.wait()
        record(writer, 1, 5)
        assert writer.wait(300)
        process = writer._commits._process
        os.kill(process.pid, 19)
        record(writer, 2, 5)
        # Only a commit that was handed over can be lost with the process; an earlier death is simply made good.
        while not writer._commits.pending():
            time.sleep(0.001)
        os.kill(process.pid, 9)
        with pytest.raises(
            CommitFailed, match=r"(?s)1 recorded episode.*the commit process ended.*nothing acknowledged is lost"
        ):
            writer.wait(300)
        record(writer, 3, 5)
    (left,) = recoverable(url)
    assert (left.ticks, left.finished, left.result) == (5, True, result(5))
    (recovered,) = recover(url)
    store = DatasetStore.open(url)
    assert difference(store.read(recovered.episode_id), episode(2, 5)) is None
    assert len(store.episode_ids()) == 4


def test_a_log_whose_episode_is_committed_already_is_not_committed_again(url):
    with EpisodeWriter(url, SPEC, LOSSLESS, options=FAST, new_uuid=lambda: "same") as writer:
        record(writer, 0, 6)
        writer.wait()
        writer.begin(SPEC, header(0))
        for step in steps(0, 6):
            writer.append(step)
        while writer.acknowledged < 6:
            time.sleep(0.001)
        path = f"{url}/journal/same.log"
        left = Path(path).read_bytes()
        writer.discard()
    Path(path).write_bytes(left)
    (recovered,) = recover(url)
    assert recovered.episode_id == "000000"
    assert DatasetStore.open(url).episode_ids() == ["000000"]
    assert journal(url) == []


def test_logs_left_behind_are_recovered_each_in_its_own_way(url):
    DatasetStore.create(url, SPEC, LOSSLESS).close()
    assert recoverable(url) == recover(url) == []
    os.makedirs(f"{url}/journal")
    place = DatasetStore.open(url)._location.journal
    write_log(place / "b.log", seed=1, ticks=7, finished=False)
    os.rename(place / "b.log", place / "torn.log")
    os.truncate(place / "torn.log", os.path.getsize(place / "torn.log") - 1)
    LogWriter(place / "empty.log", LogHead("e", SPEC, header(0), LOSSLESS)).close()
    (place / "nothing.log").write_bytes(b"")
    (place / "strange.log").write_bytes(b"x" * 4096)
    by_name = {left.path.name: left for left in recoverable(url)}
    assert {name: left.ticks for name, left in by_name.items()} == {
        "torn.log": 6,
        "empty.log": 0,
        "nothing.log": 0,
        "strange.log": 0,
    }
    assert by_name["torn.log"].result.outcome is Outcome.ABORTED
    ids = {each.log.path.name: each.episode_id for each in recover(url)}
    assert ids == {"torn.log": "000000", "empty.log": None, "nothing.log": None, "strange.log": None}
    read = DatasetStore.open(url).read("000000")
    assert (read.requested == episode(1, 6).requested).all()
    assert read.result.truncated
    assert not read.result.terminated
    assert "died at tick 6" in read.result.reason
    assert journal(url) == ["strange.damaged"]


def test_the_recorder_and_its_commit_process_import_no_torch():
    modules = "data.recorder.writer, data.recorder.committer, data.recorder.recovery"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_frames_and_long_streams_survive_the_piecewise_commit(url):
    spec = dataclasses.replace(SPEC, observations={"camera": ArraySpec((300, 500, 3), "uint8", "rgb")})
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (300, 500, 3), dtype=np.uint8) for _ in range(45)]
    with EpisodeWriter(url, spec, {"camera": "png"}, options=FAST) as writer:
        writer.begin(spec, header(0))
        for frame, step in zip(frames, steps(0, 45), strict=True):
            seen = dataclasses.replace(step.observation, values={"camera": frame}, age_ns={"camera": 0})
            writer.append(dataclasses.replace(step, observation=seen))
        writer.end(result(45))
    read = DatasetStore.open(url).read("000000")
    assert all((read.streams["camera"].values[i] == frames[i]).all() for i in range(45))
    assert DatasetStore.open(url).info("000000").bytes > 16 << 20
