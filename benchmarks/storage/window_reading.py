"""How fast random training windows are read: our window cache beside LeRobot's dataset, same episodes, same run.

    python -m benchmarks.storage.window_reading --lerobot-python /path/to/venv/bin/python

A window is 2 frames of 2 cameras, the state and 16 actions. One process, files in the page cache for both. LeRobot
decodes its video (its default codec) because that is how it reads, and returns float images; ours returns uint8 from
an array that was decoded once, whose build time is printed too. LeRobot's torchcodec needs FFmpeg's libraries; put
their folder into LD_LIBRARY_PATH if the system has none.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from data.archive.store import DatasetStore
from data.training.window_cache import CacheContent, WindowCache
from data.training.windows import WindowDataset
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

CAMERAS = ("front", "wrist")
FPS = 30
NUMBERS = 14
OBSERVATION_COUNT = 2
HORIZON = 16
BATCH = 64


def robot(height: int, width: int) -> RobotSpec:
    image = ArraySpec((height, width, 3), "uint8", "rgb")
    numbers = ArraySpec((NUMBERS,), "float32", "rad")
    observations = {"state": numbers, **dict.fromkeys(CAMERAS, image)}
    return RobotSpec("bench", observations, numbers, (ActionKind.POSITION,) * NUMBERS, FPS)


def film(ticks: int, height: int, width: int, seed: int) -> np.ndarray:
    """A textured background, three boxes that move and a little sensor noise: compresses about as a camera's does."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 200, (height // 16, width // 16, 3)).astype(np.float32)
    background = np.kron(coarse, np.ones((16, 16, 1), np.float32))[:height, :width]
    frames = np.empty((ticks, height, width, 3), np.uint8)
    for tick in range(ticks):
        scene = background.copy()
        for box in range(3):
            top = int((0.4 + 0.3 * np.sin(0.05 * tick + box)) * height)
            left = int((0.4 + 0.3 * np.cos(0.04 * tick + 2 * box)) * width)
            scene[top : top + height // 5, left : left + width // 6] = 60 * box + 50
        noise = generator.standard_normal((height, width, 1), dtype=np.float32) * 2
        frames[tick] = np.clip(scene + noise, 0, 255)
    return frames


def episode(spec: RobotSpec, ticks: int, seed: int) -> Episode:
    generator = np.random.default_rng(seed)
    stamps = np.arange(ticks, dtype=np.int64) * spec.tick_ns
    height, width = spec.observations[CAMERAS[0]].shape[:2]
    streams = {"state": generator.standard_normal((ticks, NUMBERS), dtype=np.float32)}
    streams |= {name: film(ticks, height, width, seed * 2 + k) for k, name in enumerate(CAMERAS)}
    action = generator.standard_normal((ticks, NUMBERS), dtype=np.float32)
    return Episode(
        spec=spec,
        header=EpisodeHeader("bench", "script", "", seed, "2026-01-01T00:00:00+00:00", "0"),
        result=EpisodeResult(Outcome.SUCCESS, True, False, "", ticks),
        stamps_ns=stamps,
        streams={name: Stream(stamps, values) for name, values in streams.items()},
        frame_index={name: np.arange(ticks) for name in streams},
        requested=action,
        applied=action,
        source=np.ones(ticks, np.uint8),
        reward=np.zeros(ticks, np.float32),
        filter_reasons=np.zeros(ticks, np.uint32),
    )


def write_episodes(spec: RobotSpec, count: int, ticks: int, place: Path) -> list[str]:
    """Into our dataset, and as plain arrays for LeRobot's half. Returns the folders of arrays."""
    folders = []
    with DatasetStore.create(str(place / "ours"), spec) as store:
        for number in range(count):
            made = episode(spec, ticks, number)
            store.append(made)
            folder = place / f"episode{number}"
            folder.mkdir()
            for name, stream in made.streams.items():
                np.save(folder / f"{name}.npy", stream.values)
            np.save(folder / "action.npy", made.applied)
            folders.append(str(folder))
    return folders


def build_cache(place: Path) -> tuple[WindowCache, float]:
    """The cache at the camera's full size, and how long making it took [s]."""
    with DatasetStore.open(str(place / "ours")) as store:
        content = CacheContent(store.snapshot, store.spec, ("state", *CAMERAS), tuple(store.episode_ids()))
        begun = time.perf_counter()
        return WindowCache.build(store, content, place / "cache"), time.perf_counter() - begun


def samples_per_second(dataset: WindowDataset, seconds: float = 0.0, passes: float = 0.0) -> float:
    """Random batches for some time, or for some passes over the dataset, whichever takes longer."""
    generator = np.random.default_rng(0)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds or count < passes * len(dataset):
        dataset.batch(generator.integers(0, len(dataset), BATCH))
        count += BATCH
    return count / (time.perf_counter() - begun)


def forget_pages(directory: Path) -> None:
    """Makes the next reads come from the disk."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def lerobot_half(python: str, job: dict, place: Path) -> dict:
    (place / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("window_reading_lerobot.py")
    command = [python, str(script), str(place / "job.json")]
    done = subprocess.run(command, check=False, cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"LeRobot's half failed:\n{done.stderr[-3000:]}")
    return json.loads((place / "report.json").read_text())


def require_same_windows(dataset: WindowDataset, checked: list[int], answer: Path) -> float:
    """Both must have read the same rows. Returns the mean difference of images [grey levels], both being lossy."""
    theirs, ours = np.load(answer), dataset.batch(checked)
    assert np.array_equal(theirs["padding"], ~ours["valid"])
    assert np.array_equal(theirs["action"][ours["valid"]], ours["action"][ours["valid"]])
    assert np.array_equal(theirs["state"], ours["obs/state"])
    gaps = [
        np.abs(255.0 * theirs[name].transpose(0, 1, 3, 4, 2) - ours[f"obs/{name}"].astype(np.float64)).mean()
        for name in CAMERAS
    ]
    assert max(gaps) < 8, gaps
    return float(np.mean(gaps))


def compare(size: tuple[int, int], options: argparse.Namespace, place: Path) -> dict:
    folders = write_episodes(robot(*size), options.episodes, options.ticks, place)
    cache, build_s = build_cache(place)
    dataset = WindowDataset(cache, OBSERVATION_COUNT, HORIZON)
    result = {
        "size": f"{size[0]}x{size[1]}",
        "ours": samples_per_second(dataset, options.seconds, passes=2),
        "build_s": build_s,
        "frames": len(dataset) * len(CAMERAS),
        "cache_mb": cache.size_bytes() / 1e6,
    }
    if options.lerobot_python:
        checked = np.linspace(0, len(dataset) - 1, 16).astype(int).tolist()
        job = {
            "episodes": folders,
            "size": size,
            "cameras": CAMERAS,
            "fps": FPS,
            "numbers": NUMBERS,
            "observation_count": OBSERVATION_COUNT,
            "horizon": HORIZON,
            "seconds": options.seconds,
            "checked": checked,
            "root": str(place / "lerobot"),
            "answer": str(place / "answer.npz"),
            "report": str(place / "report.json"),
        }
        result["lerobot"] = lerobot_half(options.lerobot_python, job, place)
        result["ours_again"] = samples_per_second(dataset, options.seconds)
        result["image_difference"] = require_same_windows(dataset, checked, place / "answer.npz")
        result["ratio"] = min(result["ours"], result["ours_again"]) / result["lerobot"]["samples_per_second"]
    directory = cache.directory
    # Pages that are still mapped cannot be forgotten.
    del cache, dataset
    gc.collect()
    forget_pages(directory)
    from_disk = WindowDataset(WindowCache(directory), OBSERVATION_COUNT, HORIZON)
    result["ours_first_pass_from_disk"] = samples_per_second(from_disk, passes=1.0)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot-python", help="Python of an environment with LeRobot; ours alone without it")
    parser.add_argument("--sizes", nargs="+", default=["128x128", "480x640"], help="height x width [px]")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--ticks", type=int, default=200, help="per episode, at 30 Hz")
    parser.add_argument("--seconds", type=float, default=10.0, help="of reading, per reader")
    parser.add_argument("--directory", help="where to put some GB while it runs")
    options = parser.parse_args()
    for size in options.sizes:
        height, width = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=options.directory) as place:
            print(json.dumps(compare((height, width), options, Path(place)), indent=1), flush=True)


if __name__ == "__main__":
    main()
