"""A trained policy in closed loop, run by torch: for evaluation during training and for machines with a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from policies.history import draw_noise, stack_history
from policies.trainable import Trainable
from robot_rl.core.episode import ActionChunk, Observation


class TorchPolicy:
    """A `robot_rl.core.protocols.Policy`.

    Args:
        policy: Moved to the device and set to evaluation mode.
        device: Where to run it.
        provenance: Where its weights come from: dataset and snapshot, software version.
    """

    def __init__(
        self,
        policy: Trainable,
        device: str | torch.device = "cpu",
        provenance: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        policy.normalizer.require_fitted()
        self.spec = policy.spec
        self.observation_count = policy.observation_count
        self.execute_horizon = policy.execute_horizon
        self.fingerprint = policy.fingerprint()
        self.provenance = provenance
        self._policy = policy.to(device).eval()
        self._device = torch.device(device)
        self._generator = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Seeds the sampling noise; there is no other state."""
        self._generator = np.random.default_rng(seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk of all `H` rows; see `robot_rl.core.protocols.Policy`."""
        arrays = stack_history(history, self.spec, self.observation_count)
        noise = torch.from_numpy(draw_noise(self._generator, self._policy.noise_shape)).to(self._device)
        observations = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
        with torch.inference_mode():
            chunk = self._policy.sample(observations, noise)[0].cpu().numpy()
        return ActionChunk(chunk.astype(self.spec.action.dtype), history[-1].stamp_ns)
