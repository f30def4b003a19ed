"""Where learning's randomness comes from: numbers that are written down, never a state that is carried on.

A step draws from its seed and its number, first weights from their seed alone, and what a policy is measured by draws
nothing that it was not handed. So a resumed run equals an uninterrupted one, and two runs of a seed each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from policies.trainable import Trainable


def step_generator(device: torch.device, *numbers: int) -> torch.Generator:
    """Randomness of one step from (seed, step, process): there is no generator state to save or to lose."""
    seed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Modules made meanwhile on the CPU get the weights of this seed; the process's own randomness stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def evaluating(policy: Trainable) -> Iterator[None]:
    """Evaluation mode meanwhile, in which nothing is dropped at random; the mode is then what it was."""
    training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(training)
