"""An exported policy on disk: `model.onnx`, `spec.json` and `parity.npz` in one directory.

`parity.npz` holds inputs and what torch answered, so that any machine can check that it computes the same:
`obs.<stream>` (P, N, *shape), `noise` (P, K, H, A), `action` (P, H, A), `predictions` (P, K, H, A) for P cases, and
`action_scale` (A,), the largest magnitude of each action channel in robot units.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import AnyArray, RobotSpec

FORMAT = "robot-rl policy bundle"
VERSION = 1
MODEL_FILE, SPEC_FILE, PARITY_FILE = "model.onnx", "spec.json", "parity.npz"
INPUT_PREFIX = "obs."
"""Prefix of stream names among the graph's inputs."""
ACTION_SCALE = "action_scale"
OUTPUTS = ("action", "predictions")
"""The chunk, and the network's raw output at each step: clamping hides errors of the latter in the former."""

Runner = Callable[[Mapping[str, AnyArray]], Mapping[str, AnyArray]]
"""Runs the graph on one case, a batch of one, from input names to output names."""


class InvalidBundle(RobotRLError):
    """A bundle is absent, damaged or of another version."""


@dataclass(frozen=True)
class Bundle:
    """What `spec.json` says.

    Attributes:
        spec: The robot's streams that the policy sees, and its action.
        observation_count: Newest observations seen at once, `N`.
        horizon: Actions per chunk, `H`.
        execute_horizon: Rows of a chunk to execute before a newer chunk should replace it.
        sampling_steps: Denoising steps in the graph, `K`.
        fingerprint: Hash of the weights.
        model_sha256: Of `model.onnx`.
        parity_tolerance: Largest deviation from torch, as a share of an output's scale.
        provenance: Where the weights come from: dataset and snapshot, checkpoint, software version.
    """

    spec: RobotSpec
    observation_count: int
    horizon: int
    execute_horizon: int
    sampling_steps: int
    fingerprint: str
    model_sha256: str
    parity_tolerance: float
    provenance: Mapping[str, Any]

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape (K, H, A) of the noise that one sample consumes."""
        return self.sampling_steps, self.horizon, self.spec.action.size

    def to_json(self) -> dict[str, Any]:
        """The document that `from_json` reads."""
        fields = {**vars(self), "spec": self.spec.to_json(), "provenance": dict(self.provenance)}
        return {"format": FORMAT, "version": VERSION, **fields}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            InvalidBundle: Another format or version, or a missing field.
        """
        found = document.get("format"), document.get("version")
        if found != (FORMAT, VERSION):
            raise InvalidBundle(f"it says {found[0]!r} version {found[1]!r}, this software reads {FORMAT!r} {VERSION}")
        missing = [name for name in cls.__dataclass_fields__ if name not in document]
        if missing:
            raise InvalidBundle(f"it lacks {', '.join(missing)}")
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "spec": RobotSpec.from_json(document["spec"])})


def read_bundle(directory: Path) -> Bundle:
    """Reads `spec.json` and checks that the model is the one it describes.

    Raises:
        InvalidBundle: A file is absent, unreadable or changed; names it and what to do.
    """
    for name in (SPEC_FILE, MODEL_FILE, PARITY_FILE):
        if not (directory / name).is_file():
            raise InvalidBundle(f"no {name} in {directory}: make a bundle there with `robot-rl export`")
    try:
        bundle = Bundle.from_json(json.loads((directory / SPEC_FILE).read_text()))
    except (json.JSONDecodeError, InvalidBundle) as error:
        raise InvalidBundle(f"cannot read {directory / SPEC_FILE}: {error}; export the policy again") from error
    found = file_sha256(directory / MODEL_FILE)
    if found != bundle.model_sha256:
        raise InvalidBundle(
            f"{directory / MODEL_FILE} has sha256 {found[:12]}..., its spec.json says {bundle.model_sha256[:12]}...: "
            "it was changed or copied in part; copy or export the bundle again"
        )
    return bundle


def read_parity(directory: Path) -> dict[str, AnyArray]:
    """The parity cases. Shapes as in the module's docstring.

    Raises:
        InvalidBundle: The file is damaged.
    """
    try:
        with np.load(directory / PARITY_FILE, allow_pickle=False) as cases:
            found = {name: cases[name] for name in cases.files}
            missing = {"noise", ACTION_SCALE, *OUTPUTS} - set(found)
            if missing:
                raise InvalidBundle(f"it lacks {', '.join(sorted(missing))}")
            return found
    except (OSError, ValueError, zipfile.BadZipFile, InvalidBundle) as error:
        raise InvalidBundle(f"cannot read {directory / PARITY_FILE}: {error}; export the policy again") from error


def disagreement(run: Runner, cases: Mapping[str, AnyArray], tolerance: float, count: int | None = None) -> str | None:
    """How a graph's answers differ from the recorded ones, or None if they agree.

    Args:
        run: The graph.
        cases: As read by `read_parity`.
        tolerance: Allowed deviation as a share of scale: the action's is stored with the cases; the predictions', which
            are normalised, is their largest magnitude, at least 1.
        count: Cases to check, the first ones; None for all.
    """
    inputs = [name for name in cases if name == "noise" or name.startswith(INPUT_PREFIX)]
    scales = {"action": cases[ACTION_SCALE], "predictions": max(1.0, float(np.abs(cases["predictions"]).max()))}
    for case in range(len(cases["noise"]) if count is None else count):
        answers = run({name: cases[name][case : case + 1] for name in inputs})
        for name in OUTPUTS:
            wanted, got = cases[name][case], np.asarray(answers[name])[0]
            if got.shape != wanted.shape:
                return f"'{name}' has shape {got.shape}, torch gave {wanted.shape}"
            share = np.abs(got - wanted) / scales[name]
            if not np.all(share <= tolerance):
                worst = float(np.max(share))
                return f"'{name}' of case {case} deviates by {worst:.2g} of its scale, allowed is {tolerance:.2g}"
    return None


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
