"""Latency per chunk on one CPU thread: from a list of observations to an action chunk in robot units.

    OMP_NUM_THREADS=1 python -m benchmarks.runtime.latency [--budget-s 10] [--networks mlp-0.2M unet-4M] [--cameras 0 1]

Every way of computing a chunk is timed through `Policy.act`, in turns, so that a busy machine disturbs all alike:

    torch K=10       our sampler, eager
    diffusers K=10   the same network stepped by diffusers' own `DDIMScheduler.step`
    ONNX K=10, K=1   the exported bundle, onnxruntime
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from policies.diffusion import CameraConfig, DiffusionPolicy, DiffusionPolicyConfig, MlpConfig, UnetConfig
from policies.export import export_bundle
from policies.onnx_policy import OnnxPolicy
from policies.torch_policy import TorchPolicy
from robot_rl.core.episode import Observation
from robot_rl.core.protocols import Policy
from robot_rl.core.specs import ActionKind, ArraySpec, RobotSpec

NETWORKS: dict[str, DiffusionPolicyConfig] = {
    "mlp-0.2M": DiffusionPolicyConfig(),
    "mlp-4M": DiffusionPolicyConfig(mlp=MlpConfig(width=768, blocks=3)),
    "unet-4M": DiffusionPolicyConfig(denoiser="unet", unet=UnetConfig(widths=(64, 128, 256))),
    "unet-65M": DiffusionPolicyConfig(denoiser="unet", unet=UnetConfig(widths=(256, 512, 1024))),
}
IMAGE_SIZE = (84, 84)
MOST_RUNS = 1000
FEWEST_RUNS = 20
WARM_UP_RUNS = 3


class DiffusersStepped(DiffusionPolicy):
    """The baseline: the same network, stepped by diffusers' own scheduler."""

    def sample(self, observations: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """The same chunk by more calls."""
        scheduler = DDIMScheduler(num_train_timesteps=self.config.train_timesteps, beta_schedule="squaredcos_cap_v2")
        scheduler.set_timesteps(self.config.sampling_steps)
        condition, chunk = self.encode(observations), noise[:, 0]
        for step, timestep in enumerate(scheduler.timesteps, start=1):
            prediction = self.denoiser(chunk, timestep.expand(chunk.shape[0]), condition)
            fresh = noise[:, step] if step < noise.shape[1] else torch.zeros_like(chunk)
            chunk = scheduler.step(
                prediction, timestep, chunk, eta=1.0, use_clipped_model_output=True, variance_noise=fresh
            ).prev_sample
        return self.to_actions(chunk)


def robot_spec(cameras: int) -> RobotSpec:
    """A Meta-World-like arm: 39 numbers, four action channels, 84 px cameras."""
    streams = {"state": ArraySpec((4,), "float32", "m"), "environment_state": ArraySpec((35,), "float32", "m")}
    streams |= {f"camera_{index}": ArraySpec((*IMAGE_SIZE, 3), "uint8", "rgb") for index in range(cameras)}
    return RobotSpec("benchmark", streams, ArraySpec((4,), "float32", "1"), (ActionKind.POSITION,) * 4, 80.0)


def build(kind: type[DiffusionPolicy], network: str, cameras: int) -> DiffusionPolicy:
    """A policy with random weights and statistics; latency does not depend on either."""
    spec = robot_spec(cameras)
    chosen = DiffusionPolicyConfig.from_json({**NETWORKS[network].to_json(), "streams": tuple(spec.observations)})
    chosen.camera = CameraConfig(backbone="resnet18", image_size=IMAGE_SIZE, crop=(76, 76))
    torch.manual_seed(0)
    policy = kind(spec, chosen)
    shapes = {name: each.shape for name, each in spec.observations.items() if not each.is_image} | {"action": (4,)}
    policy.set_statistics({key: {"min": -np.ones(shape), "max": np.ones(shape)} for key, shape in shapes.items()})
    return policy


def history(spec: RobotSpec) -> list[Observation]:
    """Two observations, which is what the policies see."""
    generator = np.random.default_rng(0)
    values = {
        name: generator.integers(0, 256, each.shape, np.uint8)
        if each.is_image
        else generator.uniform(-1, 1, each.shape).astype(np.float32)
        for name, each in spec.observations.items()
    }
    return [Observation(stamp_ns, values, dict.fromkeys(values, 0)) for stamp_ns in (0, spec.tick_ns)]


def measure(policies: Mapping[str, Policy], seen: Sequence[Observation], budget_s: float) -> dict[str, list[float]]:
    """Milliseconds per chunk of every policy, called in turns until the budget is spent."""
    times: dict[str, list[float]] = {name: [] for name in policies}
    for policy in policies.values():
        for _ in range(WARM_UP_RUNS):
            policy.act(seen)
    deadline = time.perf_counter() + budget_s
    for run in range(MOST_RUNS):
        if run >= FEWEST_RUNS and time.perf_counter() > deadline:
            break
        for name, policy in policies.items():
            start = time.perf_counter()
            policy.act(seen)
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def compare(network: str, cameras: int, budget_s: float, with_diffusers: bool) -> None:
    """Builds, exports, measures and prints one block of rows."""
    policy = build(DiffusionPolicy, network, cameras)
    with tempfile.TemporaryDirectory() as scratch:
        for steps in (10, 1):
            export_bundle(policy, Path(scratch) / f"{steps}", provenance={}, sampling_steps=steps)
        ways: dict[str, Policy] = {"torch K=10": TorchPolicy(policy)}
        if with_diffusers:
            ways["diffusers K=10"] = TorchPolicy(build(DiffusersStepped, network, cameras))
        ways |= {f"ONNX K={steps}": OnnxPolicy(Path(scratch) / f"{steps}") for steps in (10, 1)}
        agree(ways, policy.spec)
        times = measure(ways, history(policy.spec), budget_s)
    millions = sum(weight.numel() for weight in policy.parameters()) / 1e6
    reference = float(np.median(times["torch K=10"]))
    for way, samples in times.items():
        p50, p99 = np.percentile(samples, [50, 99])
        row = [network, f"{millions:.2f} M", cameras, way, f"{p50:.3g}", f"{p99:.3g}", f"{reference / p50:.1f}x"]
        print("| " + " | ".join(map(str, [*row, len(samples)])) + " |", flush=True)


def agree(ways: Mapping[str, Policy], spec: RobotSpec) -> None:
    """Stops unless all ways with K=10 give the same chunk for the same seed: only equals are compared."""
    chunks = {}
    for name, policy in ways.items():
        policy.reset(0)
        chunks[name] = policy.act(history(spec)).values
    for name, chunk in chunks.items():
        if "K=10" in name and not np.allclose(chunk, chunks["torch K=10"], rtol=0, atol=1e-3):
            raise SystemExit(f"{name} and torch K=10 disagree by {np.abs(chunk - chunks['torch K=10']).max():.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget-s", type=float, default=10.0, help="seconds of timing per block")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mlp-0.2M", "unet-4M", "unet-65M"])
    parser.add_argument("--cameras", nargs="+", type=int, default=[0, 1], help="numbers of ResNet-18 cameras")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, one thread; torch {torch.__version__}, ", end="")
    print(f"onnxruntime {onnxruntime.__version__}; 2 observations, chunk 8, 84 px cameras\n")
    print("| network | parameters | cameras | way | p50 [ms] | p99 [ms] | against torch K=10 | chunks |")
    print("|---|---|---|---|---|---|---|---|")
    for network in arguments.networks:
        for cameras in arguments.cameras:
            compare(network, cameras, arguments.budget_s, with_diffusers=network.startswith("mlp"))


if __name__ == "__main__":
    main()
