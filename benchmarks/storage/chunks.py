"""Which codec and which chunk size store camera frames best: size, quality, encode, decode, random windows.

    python -m benchmarks.storage.chunks

Prints two Markdown tables. Pictures are 480x640 from two cameras of a moving Meta-World arm, once as rendered and once
with a real sensor's noise. A window is 2 successive frames of both cameras, read from the committed dataset and
decoded, in one process, files in the page cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import data.archive.layout
from benchmarks.storage.camera_frames import CAMERAS, Frames, film
from data.archive.codecs import Codec
from data.archive.store import DatasetStore
from robot_rl.core.episode import Episode, EpisodeHeader, EpisodeResult, Outcome, Stream
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

CODECS = ("jpeg:80", "jpeg:90", "jpeg:95", "png", "raw")
CHUNK_KB = (256, 512, 1024, 4096, 16384)
FPS = 30
WINDOW_FRAMES = 2


def robot(size: tuple[int, int]) -> RobotSpec:
    action = ArraySpec((1,), "float32", "m")
    images = {camera: ArraySpec((*size, 3), "uint8", "rgb") for camera in CAMERAS}
    return RobotSpec("bench", images, action, (ActionKind.POSITION,), FPS)


def episode(frames: dict[str, Frames], size: tuple[int, int], seconds: float) -> Episode:
    """The film played to and fro for this long."""
    ticks = int(seconds * FPS)
    stamps = np.arange(ticks, dtype=np.int64) * 1_000_000_000 // FPS
    count = len(frames[CAMERAS[0]])
    order = np.abs((np.arange(ticks) + count - 1) % (2 * count - 2) - (count - 1))
    zeros = np.zeros((ticks, 1), np.float32)
    return Episode(
        spec=robot(size),
        header=EpisodeHeader("bench", "none", "", 0, "", ""),
        result=EpisodeResult(Outcome.SUCCESS, True, False, "", ticks),
        stamps_ns=stamps,
        streams={camera: Stream(stamps, pictures[order]) for camera, pictures in frames.items()},
        frame_index={camera: np.arange(ticks, dtype=np.int64) for camera in CAMERAS},
        requested=zeros,
        applied=zeros,
        source=np.zeros(ticks, np.uint8),
        reward=zeros[:, 0],
        filter_reasons=np.zeros(ticks, np.uint32),
    )


def codec_row(name: str, frames: dict[str, Frames]) -> str:
    """Size, quality and speed of one codec on single frames; times are of the CPU, so load does not count."""
    codec = Codec.parse(name)
    pictures = [picture for camera in CAMERAS for picture in frames[camera]]
    spec = ArraySpec(pictures[0].shape, "uint8", "rgb")
    encoded, encode_ms = [], []
    for picture in pictures:
        began = time.thread_time()
        encoded.append(codec.encode(picture))
        encode_ms.append(1e3 * (time.thread_time() - began))
    decode_ms, quality = [], []
    for data_bytes, picture in zip(encoded, pictures, strict=True):
        began = time.thread_time()
        decoded = codec.decode(data_bytes, spec)
        decode_ms.append(1e3 * (time.thread_time() - began))
        quality.append(cv2.PSNR(decoded, picture) if not codec.lossless else np.inf)
    ratio = sum(picture.nbytes for picture in pictures) / sum(map(len, encoded))
    gigabytes_per_hour = sum(map(len, encoded)) / len(encoded) * 2 * FPS * 3600 / 1e9
    cells = (
        name,
        f"{ratio:.1f}",
        f"{gigabytes_per_hour:.0f}",
        "exact" if codec.lossless else f"{np.mean(quality):.1f} / {np.min(quality):.1f}",
        f"{np.median(encode_ms):.2f} / {np.percentile(encode_ms, 99):.2f}",
        f"{np.median(decode_ms):.2f} / {np.percentile(decode_ms, 99):.2f}",
    )
    return "| " + " | ".join(cells) + " |"


def store_row(name: str, chunk_kb: int, whole: Episode, directory: Path, seconds_each: float) -> str:
    """Commit, read and random windows of one episode with one codec and chunk size."""
    data.archive.layout.FRAME_CHUNK_BYTES = chunk_kb << 10
    url = str(directory / f"{name.replace(':', '-')}-{chunk_kb}")
    with DatasetStore.create(url, whole.spec, dict.fromkeys(CAMERAS, name)) as store:
        store.append(whole)
        encoded = store.read_encoded("000000")
        began = time.process_time()
        store.append_encoded(encoded)
        commit_s = time.process_time() - began
    # The two episodes of this dataset share nothing.
    files = [path.stat().st_size for path in Path(url, "icechunk").rglob("*") if path.is_file()]
    raw_bytes = 2 * sum(stream.values.nbytes for stream in whole.streams.values())
    store = DatasetStore.open(url)
    began = time.process_time()
    store.read("000000")
    read_s = time.process_time() - began
    cells = (
        name,
        f"{chunk_kb}",
        f"{raw_bytes / sum(files):.1f}",
        f"{len(files) / 2:.0f}",
        f"{commit_s:.2f}",
        f"{read_s:.2f}",
        "{:.0f} / {:.0f}".format(*windows_per_second(store, seconds_each)),
    )
    return "| " + " | ".join(cells) + " |"


def windows_per_second(store: DatasetStore, seconds: float) -> tuple[float, float]:
    """Random windows read from the dataset and decoded, per second of the clock and per second of CPU."""
    generator = np.random.default_rng(0)
    encoded = store.read_encoded("000000")
    frames, count, began, began_cpu = len(encoded), 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        first = int(generator.integers(frames - WINDOW_FRAMES))
        for camera in CAMERAS:
            stream = encoded.streams[camera]
            for index in range(first, first + WINDOW_FRAMES):
                Codec.parse(stream.codec).decode(stream.frame(index), store.spec.observations[camera])
        count += 1
    return count / (time.perf_counter() - began), count / (time.process_time() - began_cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40, help="rendered per camera")
    parser.add_argument("--episode-seconds", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=4.0, help="of random windows per row")
    parser.add_argument("--noise", type=float, default=3.0, help="sensor noise, standard deviation in 0-255")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    # One process as a recorder or a reader has it; OpenCV would take every core for itself.
    cv2.setNumThreads(1)
    size = (arguments.size[0], arguments.size[1])
    print(f"load average before {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    films = {f"sensor noise {noise:g}": film(arguments.frames, size, noise) for noise in (0.0, arguments.noise)}
    for title, frames in films.items():
        print(f"Codecs, {size[0]}x{size[1]}, {title}\n")
        print(
            "| codec | size ratio | GB per hour of two cameras | PSNR mean / worst [dB] | encode p50 / p99 [CPU ms] |",
            end="",
        )
        print(" decode p50 / p99 [CPU ms] |\n|---|---|---|---|---|---|")
        for codec in CODECS:
            print(codec_row(codec, frames), flush=True)
        print()
    noisy = episode(films[f"sensor noise {arguments.noise:g}"], size, arguments.episode_seconds)
    print(f"One episode of {arguments.episode_seconds:g} s in the store, sensor noise {arguments.noise:g}\n")
    print("| codec | chunk [KiB] | size ratio | files | commit [CPU s] | read and decode all [CPU s] |", end="")
    print(" random windows per s / per CPU s |")
    print("|---|---|---|---|---|---|---|")
    chosen = data.archive.layout.FRAME_CHUNK_BYTES >> 10
    rows = [("jpeg:90", chunk_kb) for chunk_kb in CHUNK_KB] + [(codec, chosen) for codec in ("jpeg:95", "png", "raw")]
    for codec, chunk_kb in rows:
        with tempfile.TemporaryDirectory() as directory:
            print(store_row(codec, chunk_kb, noisy, Path(directory), arguments.seconds), flush=True)
    print(f"\nload average after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
