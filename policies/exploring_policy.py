"""A denoising policy in closed loop that explores, and remembers by which denoising chains it decided.

Legend: `K` denoising steps, `H` chunk length, `A` action dimension.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from policies.history import draw_noise, stack_history
from policies.trainable import DenoisingPolicy
from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.errors import RobotRLError

WARM_UP_CALLS = 3
"""A traced function compiles itself during its first calls."""


class RememberedChain(NamedTuple):
    """One decision: the stamp of the newest observation it saw [ns], and every state from the noise to the chunk."""

    stamp_ns: int
    states: npt.NDArray[np.float32]
    """Normalised units. Shape (K + 1, H, A)."""


class DeterministicKernel(RobotRLError):
    """A denoising step without noise has no density, so nothing can be learned from having taken it."""


class ExploringPolicy:
    """A `robot_rl.core.protocols.Policy` whose last denoising step is noisy too, as in training by policy gradients.

    It holds a copy of the weights as they are now, can be pickled, and draws everything from the seed of `reset`.

    Args:
        policy: From `DenoisingPolicy.with_exploration`: each of its K steps has a positive standard deviation.
        device: Where to run it.
        explore: Whether the last step's noise is on; without it the policy acts as it would when deployed.
        provenance: Where its weights come from.

    Raises:
        DeterministicKernel: A step's standard deviation is 0.
    """

    def __init__(
        self,
        policy: DenoisingPolicy,
        device: str | torch.device = "cpu",
        explore: bool = True,
        provenance: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        policy.normalizer.require_fitted()
        require_noise(policy)
        self.spec = policy.spec
        self.observation_count = policy.observation_count
        self.execute_horizon = policy.execute_horizon
        self.fingerprint = policy.fingerprint()
        self.provenance = dict(provenance)
        self.explore = explore
        self._policy = copy.deepcopy(policy).to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        steps, *chunk = policy.noise_shape
        self._noise_shape = (steps + explore, chunk[0], chunk[1])
        self._generator = np.random.default_rng(0)
        self._chains: list[RememberedChain] = []
        self._denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the traced chain, which each process makes for itself."""
        return {**vars(self), "_denoise": None}

    def reset(self, seed: int) -> None:
        """Forgets the last episode and seeds the noise."""
        if self._denoise is None:
            # Here, so that no tick has to wait for it.
            self._denoise = self._traced_chain()
        self._generator = np.random.default_rng(seed)
        self._chains = []

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk of all `H` rows; see `robot_rl.core.protocols.Policy`."""
        if self._denoise is None:
            raise RobotRLError("the exploring policy has no seed yet: call reset(seed) before each episode")
        arrays = stack_history(history, self.spec, self.observation_count)
        noise = torch.from_numpy(draw_noise(self._generator, self._noise_shape)).to(self._device)
        observations = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
        with torch.inference_mode():
            states = self._denoise(self._policy.encode(observations), noise)
            chunk = self._policy.to_actions(states[:, -1])[0].cpu().numpy()
        stamp_ns = history[-1].stamp_ns
        self._chains.append(RememberedChain(stamp_ns, states[0].float().cpu().numpy()))
        return ActionChunk(chunk.astype(self.spec.action.dtype), stamp_ns)

    def take_chains(self) -> list[RememberedChain]:
        """This episode's chains in the order in which they were made, which are then forgotten."""
        chains, self._chains = self._chains, []
        return chains

    def _traced_chain(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The whole chain as one function of condition (1, C) and noise (1, K or K + 1, H, A).

        With batches of one, Python's share of a chain is larger than its arithmetic: for an MLP of 0.65 M parameters a
        chunk takes 1.2 ms instead of 3.0. What it returns is the same bit for bit.
        """
        chain = _Chain(self._policy)
        condition = torch.zeros(1, self._policy.condition_size, device=self._device)
        noise = torch.zeros(1, *self._noise_shape, device=self._device)
        with torch.no_grad(), warnings.catch_warnings():
            # Shapes are checked in Python while tracing, and never change afterwards.
            warnings.simplefilter("ignore")
            traced: Callable[..., torch.Tensor] = torch.jit.trace(  # type: ignore[no-untyped-call]
                chain, (condition, noise), check_trace=False
            )
            for _ in range(WARM_UP_CALLS):
                traced(condition, noise)
        return traced


class _Chain(torch.nn.Module):
    """Only what is traced."""

    def __init__(self, policy: DenoisingPolicy) -> None:
        super().__init__()
        self._policy = policy

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self._policy.denoise(condition, noise).states


def require_noise(policy: DenoisingPolicy) -> None:
    """Refuses a policy with a deterministic denoising step.

    Raises:
        DeterministicKernel: Names the step and what to do.
    """
    silent = [number for number, sigma in enumerate(policy.sigmas) if not sigma > 0]
    if silent:
        raise DeterministicKernel(
            f"denoising step {silent[0]} of {len(policy.sigmas)} has standard deviation 0, so its choices have no "
            "density: explore with policy.with_exploration(sampling_steps, sigma_min, sigma_max), sigma_min above 0"
        )
