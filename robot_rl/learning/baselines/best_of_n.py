"""Acting by choice (IDQL, arXiv 2304.10573): sample several chunks, execute the one that the critic thinks best.

The policy's weights stay as imitation made them; what improves is the choice. A baseline for offline RL, and the
cheapest use of a critic.

Legend: `S` samples to choose from, `K` denoising steps, `H` chunk length, `n` executed rows, `A` action dimension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from policies.history import draw_noise, stack_history
from policies.trainable import DenoisingPolicy
from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.errors import RobotRLError
from robot_rl.learning.offline.critic import IqlCritic


class BestOfN:
    """A `robot_rl.core.protocols.Policy` that executes the best of several sampled chunks.

    Its first sample consumes the noise that the policy alone would have: with one sample they act alike, and with a
    critic that tells nothing apart, too.

    Args:
        policy: Samples chunks; moved to the device and set to evaluation mode.
        critic: Trained on transitions that this policy encoded; moved likewise.
        samples: Chunks to choose from, `S`.
        device: Where to run both.
        provenance: Where the weights come from: dataset and snapshot, software version.

    Raises:
        RobotRLError: Fewer than one sample.
        MissingStatistics: The policy has none.
    """

    def __init__(
        self,
        policy: DenoisingPolicy,
        critic: IqlCritic,
        samples: int = 16,
        device: str | torch.device = "cpu",
        provenance: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if samples < 1:
            raise RobotRLError(f"best of {samples} samples: wanted at least 1")
        policy.normalizer.require_fitted()
        self.spec = policy.spec
        self.observation_count = policy.observation_count
        self.execute_horizon = policy.execute_horizon
        self.fingerprint = _fingerprint(policy, critic, samples)
        self.provenance = dict(provenance)
        self._policy = policy.to(device).eval()
        self._critic = critic.to(device).eval()
        self._samples = samples
        self._device = torch.device(device)
        self._generator = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Seeds the sampling noise; there is no other state."""
        self._generator = np.random.default_rng(seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """The chunk, all `H` rows, whose first `n` have the largest min Q; of equals the first sampled."""
        arrays = stack_history(history, self.spec, self.observation_count)
        noise = [draw_noise(self._generator, self._policy.noise_shape) for _ in range(self._samples)]
        observations = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
        with torch.inference_mode():
            condition = self._policy.encode(observations).expand(self._samples, -1)
            chunks = self._policy.denoise(condition, torch.from_numpy(np.concatenate(noise)).to(self._device)).states
            candidates = chunks[:, -1]
            scores = self._critic.min_q(condition, candidates[:, : self.execute_horizon])
            if not scores.isfinite().all():
                raise RobotRLError("the critic gives NaN or infinity for a sampled chunk: train it again")
            # numpy's argmax takes the first of equals; torch leaves open which one it takes.
            best = int(np.argmax(scores.cpu().numpy()))
            values = self._policy.to_actions(candidates[best : best + 1])[0].cpu().numpy()
        return ActionChunk(values.astype(self.spec.action.dtype), history[-1].stamp_ns)


def _fingerprint(policy: DenoisingPolicy, critic: IqlCritic, samples: int) -> str:
    digest = hashlib.sha256(f"best of {samples}, {policy.fingerprint()}".encode())
    for name, tensor in sorted(critic.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
