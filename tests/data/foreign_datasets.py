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
    """Same arrays, dtypes, shapes and bytes; read in pieces, as real images fill gigabytes as float32."""
    groups = [zarr.open_group(path, mode="r") for path in (first, second)]
    for part in ("data", "meta"):
        ours, theirs = (dict(group[part].arrays()) for group in groups)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            other = theirs[name]
            assert (array.dtype, array.shape) == (other.dtype, other.shape), name
            for start in range(0, array.shape[0], 10 * array.chunks[0]):
                rows = slice(start, start + 10 * array.chunks[0])
                assert array[rows].tobytes() == other[rows].tobytes(), f"{name} from row {start}"
