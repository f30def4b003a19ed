"""Small datasets in the Diffusion Policy layout, and their comparison byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

EPISODE_ENDS = (7, 12, 13, 31)


def write_source(path: Path, arrays: dict[str, np.ndarray], episode_ends: tuple[int, ...] = EPISODE_ENDS) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values in arrays.items():
        group.create_array(f"data/{name}", data=values, chunks=(5, *values.shape[1:]))
    group.create_array("meta/episode_ends", data=np.array(episode_ends, dtype=np.int64))
    return path


def pusht_arrays(rows: int = EPISODE_ENDS[-1]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.uniform(0, 512, (rows, *shape)).astype(np.float32)

    return {
        "state": draw(5),
        "keypoint": draw(9, 2),
        "action": draw(2),
        "n_contacts": generator.integers(0, 3, (rows, 1)).astype(np.float32),
        "img": generator.integers(0, 256, (rows, 96, 96, 3)).astype(np.float32),
    }


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    group = zarr.open_group(path, mode="r")
    return {f"{part}/{name}": array[:] for part in ("data", "meta") for name, array in group[part].arrays()}


def assert_byte_equal(first: Path, second: Path) -> None:
    ours, theirs = arrays_of(first), arrays_of(second)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype, name
        assert values.shape == theirs[name].shape, name
        assert values.tobytes() == theirs[name].tobytes(), name
