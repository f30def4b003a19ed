"""Whether the recorder keeps up: two 480x640 cameras at 30 Hz and the state at 100 Hz, episode after episode.

    python -m benchmarks.storage.recorder --seconds 120

Prints one Markdown table. A tick has an absolute deadline; the newest camera frame not after it is offered, as a robot
would. Afterwards every stored frame is compared with the encoding of the frame that was offered at its stamp, and
every tick with what was appended. Restrict it to two cores with `taskset -c 0,1` on a larger machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from benchmarks.storage.camera_frames import CAMERAS, Frames, film
from data.archive.codecs import Codec
from data.archive.store import DatasetStore
from data.recorder.background_commits import CommitProgress
from data.recorder.writer import EpisodeWriter
from robot_rl.core.clock import HostClock, TickGrid, prompt_thread
from robot_rl.core.episode import EpisodeHeader, EpisodeResult, Observation, Outcome, Source, Step
from robot_rl.core.specs import NS_PER_S, ActionKind, ArraySpec, RobotSpec

TICK_HZ, CAMERA_HZ = 100, 30
FRAME_NS = NS_PER_S // CAMERA_HZ
STATE_SIZE = 14


@dataclass
class Measured:
    """What one run showed; times in milliseconds."""

    lateness_ms: list[float] = field(default_factory=list)
    append_ms: list[float] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)
    commit_s: list[float] = field(default_factory=list)
    missed_ticks: int = 0
    offered: list[dict[str, list[int]]] = field(default_factory=list)
    """Episode by episode, camera to the stamps of the frames offered."""
    states: list[list[bytes]] = field(default_factory=list)

    def note(self, progress: CommitProgress) -> None:
        """Keeps the duration of a commit."""
        if progress.seconds is not None:
            self.commit_s.append(progress.seconds)


def robot(size: tuple[int, int]) -> RobotSpec:
    state = ArraySpec((STATE_SIZE,), "float32", "rad")
    image = ArraySpec((*size, 3), "uint8", "rgb")
    observations = {"state": state, **dict.fromkeys(CAMERAS, image)}
    return RobotSpec("bench", observations, state, (ActionKind.POSITION,) * STATE_SIZE, TICK_HZ)


def frame_at(frames: dict[str, Frames], camera: str, stamp_ns: int) -> Frames:
    """The picture that a camera took at a stamp."""
    return frames[camera][(stamp_ns // FRAME_NS) % len(frames[camera])]


def steps(frames: dict[str, Frames], grid: TickGrid, ticks: int, measured: Measured) -> Iterator[Step]:
    """Waits for each deadline and looks at the cameras; the second camera's phase is half a frame behind."""
    generator = np.random.default_rng(0)
    offered: dict[str, list[int]] = {camera: [] for camera in CAMERAS}
    measured.offered.append(offered)
    measured.states.append([])
    for _ in range(ticks):
        tick = grid.wait()
        measured.lateness_ms.append(tick.lateness_ns / 1e6)
        measured.missed_ticks += tick.missed
        state = generator.standard_normal(STATE_SIZE).astype(np.float32)
        values, ages = {"state": state}, {"state": 0}
        for number, camera in enumerate(CAMERAS):
            phase_ns = number * FRAME_NS // 2
            taken_ns = (tick.stamp_ns - phase_ns) // FRAME_NS * FRAME_NS + phase_ns
            values[camera], ages[camera] = frame_at(frames, camera, taken_ns), tick.stamp_ns - taken_ns
            if not offered[camera] or offered[camera][-1] != taken_ns:
                offered[camera].append(taken_ns)
        measured.states[-1].append(state.tobytes())
        yield Step(Observation(tick.stamp_ns, values, ages), state, state, Source.OPERATOR, 0.0)


def record(url: str, frames: dict[str, Frames], episodes: int, seconds: float, codec: str) -> Measured:
    """Records episodes back to back, commits going on behind them."""
    measured, ticks = Measured(), int(seconds * TICK_HZ)
    spec = robot(frames[CAMERAS[0]].shape[1:3])
    header = EpisodeHeader("bench", "none", "", 0, "", "")
    clock = HostClock()
    with prompt_thread(), EpisodeWriter(url, spec, dict.fromkeys(CAMERAS, codec), on_progress=measured.note) as writer:
        ended_s = None
        for _ in range(episodes):
            writer.begin(spec, header)
            if ended_s is not None:
                measured.gap_ms.append(1e3 * (time.perf_counter() - ended_s))
            grid = TickGrid(clock, NS_PER_S // TICK_HZ, clock.now_ns() + NS_PER_S // TICK_HZ)
            for step in steps(frames, grid, ticks, measured):
                began_s = time.perf_counter()
                writer.append(step)
                measured.append_ms.append(1e3 * (time.perf_counter() - began_s))
            ended_s = time.perf_counter()
            writer.end(EpisodeResult(Outcome.SUCCESS, True, False, "", ticks))
    return measured


def count_wrong(url: str, frames: dict[str, Frames], measured: Measured, codec: Codec) -> tuple[int, int]:
    """Frames and ticks that are missing or differ from what was offered."""
    store = DatasetStore.open(url)
    encoded = {camera: [codec.encode(picture) for picture in frames[camera]] for camera in CAMERAS}
    wrong_frames = wrong_ticks = 0
    for episode_id, offered, states in zip(store.episode_ids(), measured.offered, measured.states, strict=True):
        episode = store.read_encoded(episode_id)
        stored_states = episode.episode.per_tick("state")
        wrong_ticks += abs(len(stored_states) - len(states))
        wrong_ticks += sum(one.tobytes() != other for one, other in zip(stored_states, states, strict=False))
        for camera, stamps in offered.items():
            stream = episode.streams[camera]
            stored = {int(stamp): stream.frame(index) for index, stamp in enumerate(stream.stamps_ns)}
            for stamp in stamps:
                number = (stamp // FRAME_NS) % len(frames[camera])
                wrong_frames += stored.get(stamp) != encoded[camera][number]
            wrong_frames += len(stored) - len(stamps)
    return wrong_frames, wrong_ticks


def spread(values: list[float], digits: int = 2) -> str:
    """p50 / p99 / max."""
    return " / ".join(f"{value:.{digits}f}" for value in (*np.percentile(values, [50, 99]), max(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of recording in all")
    parser.add_argument("--episode-seconds", type=float, default=15.0)
    parser.add_argument("--codec", default="jpeg:90")
    parser.add_argument("--noise", type=float, default=3.0, help="sensor noise, standard deviation in 0-255")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--directory", help="where the dataset is made and removed; a temporary one by default")
    arguments = parser.parse_args()
    # As on a robot: OpenCV would otherwise use every core for one picture.
    cv2.setNumThreads(1)
    frames = film(30, (arguments.size[0], arguments.size[1]), arguments.noise)
    episodes = max(1, round(arguments.seconds / arguments.episode_seconds))
    load_before, busy_before = os.getloadavg()[0], time.process_time()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        url = f"{directory}/set"
        began = time.perf_counter()
        measured = record(url, frames, episodes, arguments.episode_seconds, arguments.codec)
        wall_s, busy_s = time.perf_counter() - began, time.process_time() - busy_before
        load_after = os.getloadavg()[0]
        wrong_frames, wrong_ticks = count_wrong(url, frames, measured, Codec.parse(arguments.codec))
        offered = sum(len(stamps) for each in measured.offered for stamps in each.values())
        stored_bytes = sum(DatasetStore.open(url).info(each).bytes for each in DatasetStore.open(url).episode_ids())
    over = sum(late > 1e3 / TICK_HZ for late in measured.lateness_ms)
    rows = {
        "cores, load average before / after": f"{os.cpu_count()}, {load_before:.1f} / {load_after:.1f}",
        "episodes, ticks": f"{episodes} x {arguments.episode_seconds:g} s, {len(measured.lateness_ms)}",
        "camera frames offered / recorded whole / lost or changed": (
            f"{offered} / {offered - wrong_frames} / {wrong_frames}"
        ),
        "ticks lost or changed": f"{wrong_ticks}",
        "deadlines missed": f"{measured.missed_ticks} (lateness over a tick: {over})",
        "tick lateness p50 / p99 / max [ms]": spread(measured.lateness_ms, 3),
        "append() p50 / p99 / max [ms]": spread(measured.append_ms, 3),
        "end() to begin() of the next p50 / p99 / max [ms]": spread(measured.gap_ms or [0.0]),
        "commit behind the next episode p50 / p99 / max [s]": spread(measured.commit_s),
        "CPU of the recording process, share of a core": f"{busy_s / wall_s:.2f}",
        "stored per minute [MB]": f"{stored_bytes / 1e6 / (episodes * arguments.episode_seconds / 60):.0f}",
    }
    size = f"{arguments.size[0]}x{arguments.size[1]}"
    print(f"| two {size} cameras at 30 Hz, state at 100 Hz, {arguments.codec} | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
