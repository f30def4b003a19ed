"""LeRobot's half of `window_reading.py`; runs under LeRobot's own Python and imports nothing of ours.

Writes the episodes it is given as a LeRobotDataset with its default codec, then times random windows out of it.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def write_dataset(job, root):
    height, width = job["size"]
    image = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    numbers = {"dtype": "float32", "shape": (job["numbers"],), "names": None}
    features = {f"observation.images.{name}": image for name in job["cameras"]}
    features |= {"observation.state": numbers, "action": numbers}
    dataset = LeRobotDataset.create("local/windows", job["fps"], features, root=root, image_writer_threads=2)
    for folder in job["episodes"]:
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in Path(folder).glob("*.npy")}
        for tick in range(len(arrays["state"])):
            frame = {f"observation.images.{name}": np.array(arrays[name][tick]) for name in job["cameras"]}
            state, action = (np.array(arrays[name][tick]) for name in ("state", "action"))
            dataset.add_frame({**frame, "observation.state": state, "action": action, "task": "t"})
        dataset.save_episode()
    dataset.finalize()


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    root = Path(job["root"])
    begun = time.perf_counter()
    write_dataset(job, root)
    write_s = time.perf_counter() - begun
    past = [index / job["fps"] for index in range(1 - job["observation_count"], 1)]
    ahead = [index / job["fps"] for index in range(job["horizon"])]
    windows = {f"observation.images.{name}": past for name in job["cameras"]}
    windows |= {"observation.state": past, "action": ahead}
    dataset = LeRobotDataset("local/windows", root=root, delta_timestamps=windows)
    indices = np.random.default_rng(0).integers(0, len(dataset), 100_000)
    for index in indices[:3]:
        dataset[int(index)]
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < job["seconds"]:
        dataset[int(indices[count])]
        count += 1
    elapsed_s = time.perf_counter() - begun
    checked = [dataset[index] for index in job["checked"]]
    np.savez(
        job["answer"],
        state=np.stack([each["observation.state"].numpy() for each in checked]),
        action=np.stack([each["action"].numpy() for each in checked]),
        padding=np.stack([each["action_is_pad"].numpy() for each in checked]),
        **{name: np.stack([each[f"observation.images.{name}"].numpy() for each in checked]) for name in job["cameras"]},
    )
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    result = {"samples_per_second": count / elapsed_s, "samples": count, "write_s": write_s, "bytes": size}
    Path(job["report"]).write_text(
        json.dumps({**result, "lerobot": version("lerobot"), "backend": dataset.video_backend})
    )


main()
