"""Imitation on a frozen encoder: the operator's rows as encoded windows, and the denoising loss on them.

Legend: `W` windows, `B` batch, `H` chunk length, `A` action dimension, `C` encoding size, `T` ticks of one episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from policies.diffusion import hold_last_valid
from policies.normalizer import ACTION
from policies.trainable import DenoisingPolicy
from robot_rl.core.episode import Episode, Source
from robot_rl.learning.randomness import evaluating
from robot_rl.learning.segments import segment
from robot_rl.learning.transitions import encode_ticks


class EncodedWindows(NamedTuple):
    """What was seen and what was then done; all tensors on one device."""

    condition: Tensor
    """Shape (W, C)."""
    chunk: Tensor
    """Applied actions, normalised, within [-1, 1]; rows that are not valid repeat the last valid one. (W, H, A)."""
    valid: Tensor
    """Rows to imitate. Shape (W, H), bool."""

    @classmethod
    def cat(cls, parts: Sequence[EncodedWindows]) -> EncodedWindows:
        """All windows of several, at least one."""
        return cls(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def newest(self, count: int) -> EncodedWindows:
        """The last ones, at most this many."""
        return EncodedWindows(*(tensor[-count:] for tensor in self))

    def draw(self, count: int, generator: torch.Generator) -> EncodedWindows:
        """Random windows, with replacement."""
        index = torch.randint(len(self.valid), (count,), generator=generator, device=generator.device)
        return EncodedWindows(*(tensor[index.to(tensor.device)] for tensor in self))


@torch.no_grad()
def encoded_windows(
    policy: DenoisingPolicy, episodes: Iterable[Episode], only: Source | None = None, *, batch_size: int = 1024
) -> EncodedWindows | None:
    """A window at every tick, as far as the episode goes.

    Args:
        policy: Encodes, in evaluation mode, on its own device; its mode is left as it was.
        episodes: To imitate.
        only: Whose rows: windows begin at this driver's ticks and end where somebody else takes over; None for all.
        batch_size: Ticks encoded at once.

    Returns:
        None if there is not one such tick.
    """
    with evaluating(policy):
        parts = [_windows(policy, episode, only, batch_size) for episode in episodes]
    found = [part for part in parts if len(part.valid)]
    return EncodedWindows.cat(found) if found else None


def denoising_loss(policy: DenoisingPolicy, windows: EncodedWindows, generator: torch.Generator) -> Tensor:
    """The policy's imitation loss without its encoder: equation 5 of arXiv 2303.04137, mean over the valid rows.

    Args:
        policy: Its denoiser gets the gradient.
        windows: Shapes (B, ...).
        generator: Draws timesteps and noise.
    """
    noisy, timestep, target = policy.corrupt(windows.chunk, generator)
    prediction = policy.denoiser(noisy, timestep, windows.condition).float()
    error = (prediction - target).square().mean(dim=-1)
    loss: Tensor = torch.where(windows.valid, error, 0.0).sum() / windows.valid.sum().clamp(min=1)
    return loss


def _windows(policy: DenoisingPolicy, episode: Episode, only: Source | None, batch_size: int) -> EncodedWindows:
    length, device = len(episode), policy.device
    found = segment(episode.source, np.arange(length), True, driver=only, rows=policy.horizon)
    rows = np.arange(policy.horizon)
    inside = np.minimum(found.start[:, None] + rows, max(length - 1, 0))
    valid = torch.from_numpy(rows < (found.end - found.start)[:, None]).to(device)
    actions = policy.normalizer.normalize(ACTION, torch.from_numpy(episode.applied[inside]).to(device))
    chunk = hold_last_valid(actions.clamp(-1.0, 1.0).float(), valid)
    return EncodedWindows(encode_ticks(policy, episode, found.start, batch_size), chunk, valid)
