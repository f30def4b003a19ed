"""From a trained policy to a bundle that runs without torch, with proof that both compute the same."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.bundle import (
    ACTION_SCALE,
    INPUT_PREFIX,
    MODEL_FILE,
    OUTPUTS,
    PARITY_FILE,
    SPEC_FILE,
    Bundle,
    disagreement,
    file_sha256,
)
from policies.onnx_policy import open_session
from policies.trainable import DenoisingPolicy, Trainable, require_denoising
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ActionKind, AnyArray

OPSET = 21
PARITY_CASES = 8
ROUNDING = 5e-5
"""Deviation of a network's float32 output between runtimes, as a share of its scale: ten times what was seen."""
UNDECIDED = 1e-3
"""Binary channels closer than this to their threshold may fall either way: such cases prove nothing."""
PATCHES = 7
"""Per side of a random camera frame."""


class ExportFailed(RobotRLError):
    """A policy could not be turned into a bundle; none is left behind."""


class SamplingGraph(nn.Module):
    """Everything between robot units and robot units, as one graph."""

    def __init__(self, policy: DenoisingPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """Streams in order (B, N, *shape), then noise (B, K, H, A), to the bundle's outputs."""
        observations = dict(zip(self.policy.spec.observations, arrays[:-1], strict=True))
        chain = self.policy.denoise(self.policy.encode(observations), arrays[-1])
        return self.policy.to_actions(chain.states[:, -1]), chain.predictions


def export_bundle(
    policy: Trainable,
    directory: Path,
    *,
    provenance: Mapping[str, Any],
    sampling_steps: int | None = None,
    replace: bool = False,
    seed: int = 0,
) -> Bundle:
    """Writes `model.onnx`, `spec.json` and `parity.npz`, all or nothing.

    Args:
        policy: With statistics; left as it is.
        directory: Where to; must not exist unless `replace`.
        provenance: What `spec.json` should say about the weights: dataset and snapshot, checkpoint, software version.
        sampling_steps: Denoising steps `K` in the graph; None for the policy's own.
        replace: Whether an older bundle may be overwritten.
        seed: Of the parity cases.

    Raises:
        ExportFailed: The directory is taken, or the graph and torch disagree.
        MissingStatistics: The policy was never fitted.
        NotTrainable: It has no chain of denoising steps to export.
    """
    directory = Path(directory)
    policy.normalizer.require_fitted()
    _refuse_to_overwrite(directory, replace)
    denoising = require_denoising(policy)
    ready = denoising.with_sampling_steps(sampling_steps or denoising.noise_shape[0]).to("cpu").float().eval()
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        bundle = _write_files(ready, staging, provenance, np.random.default_rng(seed))
        if directory.exists():
            shutil.rmtree(directory)
        staging.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return bundle


def _write_files(
    policy: DenoisingPolicy, staging: Path, provenance: Mapping[str, Any], generator: np.random.Generator
) -> Bundle:
    staging.chmod(0o755)
    cases = parity_cases(policy, PARITY_CASES, generator)
    write_graph(policy, staging / MODEL_FILE)
    bundle = Bundle(
        spec=policy.spec,
        observation_count=policy.observation_count,
        horizon=policy.horizon,
        execute_horizon=policy.execute_horizon,
        sampling_steps=policy.noise_shape[0],
        fingerprint=policy.fingerprint(),
        model_sha256=file_sha256(staging / MODEL_FILE),
        parity_tolerance=parity_tolerance(policy),
        provenance=provenance,
    )
    check_graph(staging / MODEL_FILE, cases, bundle.parity_tolerance)
    np.savez(staging / PARITY_FILE, **cases)  # type: ignore[arg-type]
    (staging / SPEC_FILE).write_text(json.dumps(bundle.to_json(), indent=2) + "\n")
    return bundle


def write_graph(policy: DenoisingPolicy, path: Path) -> None:
    """Writes the graph for a batch of one, the whole sampling loop unrolled in it."""
    count = policy.observation_count
    specs = policy.spec.observations.values()
    arrays = [torch.from_numpy(np.zeros((1, count, *spec.shape), spec.dtype)) for spec in specs]
    arrays.append(torch.zeros(1, *policy.noise_shape))
    with _quiet_exporter():
        torch.onnx.export(
            SamplingGraph(policy).eval(),
            tuple(arrays),
            path,
            input_names=[*(INPUT_PREFIX + name for name in policy.spec.observations), "noise"],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps the exporter's remarks on its own internals from the user; what it makes is checked against torch."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def check_graph(path: Path, cases: Mapping[str, AnyArray], tolerance: float) -> None:
    """Runs every parity case.

    Raises:
        ExportFailed: An answer differs from torch's.
    """
    session = open_session(path, threads=1)

    def run(feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        return dict(zip(OUTPUTS, session.run(OUTPUTS, dict(feeds)), strict=True))

    problem = disagreement(run, cases, tolerance)
    if problem:
        raise ExportFailed(f"the ONNX graph and torch disagree, so no bundle was written: {problem}")


def parity_tolerance(policy: DenoisingPolicy) -> float:
    """Allowed deviation as a share of an output's scale: rounding, times the largest gain of a denoising step.

    Where little signal is left, predicting noise divides by it and the error grows with it.
    """
    return ROUNDING * max(1.0, policy.prediction_gain)


def parity_cases(policy: DenoisingPolicy, count: int, generator: np.random.Generator) -> dict[str, AnyArray]:
    """Random inputs, a little beyond the range of the training data, with torch's answers; see `policies.bundle`."""
    lowest, highest = (policy.to_actions(torch.full(policy.spec.action.shape, end)) for end in (-1.0, 1.0))
    switches = torch.from_numpy(policy.spec.kind_mask(ActionKind.BINARY)) & (lowest != highest)
    cases: list[dict[str, AnyArray]] = []
    for _ in range(20 * count):
        streams = {name: _random_stream(policy, name, generator) for name in policy.spec.observations}
        noise = generator.standard_normal((1, *policy.noise_shape), dtype=np.float32)
        with torch.inference_mode():
            condition = policy.encode({name: torch.from_numpy(values) for name, values in streams.items()})
            chain = policy.denoise(condition, torch.from_numpy(noise))
            clean = chain.states[:, -1]
            if bool((clean[..., switches].abs() < UNDECIDED).any()):
                continue
            action = policy.to_actions(clean)
        inputs = {INPUT_PREFIX + name: values for name, values in streams.items()}
        cases.append({**inputs, "noise": noise, "action": action.numpy(), "predictions": chain.predictions.numpy()})
        if len(cases) == count:
            scale = torch.maximum(lowest.abs(), highest.abs())
            joined = {key: np.concatenate([case[key] for case in cases]) for key in cases[0]}
            return {**joined, ACTION_SCALE: torch.where(scale > 0, scale, 1.0).numpy()}
    raise ExportFailed("a binary action channel is never decided either way: has this policy been trained?")


def _random_stream(policy: DenoisingPolicy, name: str, generator: np.random.Generator) -> AnyArray:
    spec = policy.spec.observations[name]
    shape = (1, policy.observation_count, *spec.shape)
    if spec.is_image:
        # Patches, since an encoder averages pixel noise away and would not notice a shifted or mirrored image.
        patches = generator.integers(0, 256, (*shape[:2], PATCHES, PATCHES, 3), dtype=np.uint8)
        rows, columns = (np.arange(size) * PATCHES // size for size in spec.shape[:2])
        frames: AnyArray = patches[:, :, rows][:, :, :, columns]
        return frames
    normalized = torch.from_numpy(generator.uniform(-1.2, 1.2, shape).astype(np.float32))
    values: AnyArray = policy.normalizer.unnormalize(name, normalized).numpy().astype(spec.dtype)
    return values


def _refuse_to_overwrite(directory: Path, replace: bool) -> None:
    if not directory.exists():
        return
    if not replace:
        raise ExportFailed(f"{directory} exists: choose another directory, or allow it to be replaced (replace=true)")
    if not (directory / SPEC_FILE).is_file():
        raise ExportFailed(f"{directory} is not a bundle, so it will not be replaced: choose another directory")
