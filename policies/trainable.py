"""What learning asks of a policy: `Trainable` for imitation, `DenoisingPolicy` for all that comes after it.

Both are structural: a policy of one's own, in a package of one's own, inherits from `torch.nn.Module` and has these
names. `DiffusionPolicy` and its kin have them. Imitation, checkpoints and acting ask for a `Trainable`; reinforcement
learning, offline and online, and export ask for a `DenoisingPolicy`.

Legend: `B` batch, `N` observations seen at once, `K` denoising steps, `H` chunk length, `A` action dimension,
`C` size of the observation encoding `c`. Batches hold robot units and uint8 images; "normalised" is in [-1, 1].
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, Self, cast

import torch
from torch import Tensor, nn

from policies.normalizer import Normalizer
from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import RobotSpec

OBSERVATION_PREFIX = "obs/"
"""Prefix of stream names in a training batch."""


class NotTrainable(RobotRLError):
    """A policy lacks something that learning needs."""


class DenoisingChain(NamedTuple):
    """Every state of one sampling run, normalised units."""

    states: Tensor
    """From the initial noise to the clean chunk. Shape (B, K + 1, H, A)."""
    predictions: Tensor
    """The network's raw output at each step. Shape (B, K, H, A)."""


class Corrupted(NamedTuple):
    """A training sample of the network, normalised units."""

    noisy: Tensor
    """Shape (B, H, A)."""
    timestep: Tensor
    """Shape (B,)."""
    target: Tensor
    """What the network should say. Shape (B, H, A)."""


class PolicyConfig(Protocol):
    """Everything about a policy except the robot it drives: a dataclass, stored in each checkpoint."""

    streams: tuple[str, ...]
    """Observation streams to see, in this order; before `validate`, groups of them are resolved to their names."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width to which cameras may be shrunk in the window cache [px]; None leaves them as they are."""

    def validate(self) -> None:
        """Refuses a config that cannot work, whatever the robot.

        Raises:
            RobotRLError: Names the field, what it is and what it may be.
        """

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The config that `to_json` wrote."""


class Trainable(Protocol):
    """A policy that can be trained by imitation, stored in a checkpoint and acted with: a `torch.nn.Module`.

    Its class is called with the robot's spec and a `config`, whose annotation names the dataclass:
    `def __init__(self, spec: RobotSpec, config: MyConfig) -> None`.
    """

    spec: RobotSpec
    """The robot's, with the streams that the policy sees."""

    @property
    def config(self) -> PolicyConfig:
        """What it was made with."""

    @property
    def normalizer(self) -> Normalizer:
        """Robot units to normalised ones and back, for `action` and every low-dimensional stream it sees."""

    @property
    def observation_count(self) -> int:
        """Newest observations seen at once, `N`."""

    @property
    def horizon(self) -> int:
        """Actions per chunk, `H`."""

    @property
    def execute_horizon(self) -> int:
        """Rows of a chunk to execute before a newer chunk should replace it, 1 to `H`."""

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape (K, H, A) of the noise that one sample consumes; `K` is 1 where nothing is denoised."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    def set_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Fits the normaliser, once and before training.

        Args:
            statistics: `{"min": ..., "max": ...}` per low-dimensional stream and for `action`, robot units.

        Raises:
            MissingStatistics: A key is absent or is no finite range of the right shape.
        """

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Imitation's loss, mean over the valid rows.

        Args:
            batch: `obs/<stream>` (B, N, *shape), `action` (B, H, A), `valid` (B, H) bool; robot units.
            generator: Draws all that is random, on any device.

        Returns:
            The loss, and detached metrics.
        """

    def __call__(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Any:
        """The same as `loss`, which `forward` must be: distributed training wraps it."""

    def sample(self, observations: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """Chunks of actions in robot units; two-state channels hold one of their two values.

        Args:
            observations: Stream name to its newest `N` values, robot units. Shapes (B, N, *shape).
            noise: Standard normal. Shape (B, K, H, A).

        Returns:
            Shape (B, H, A).
        """

    def fingerprint(self) -> str:
        """Hash of every weight and statistic: 16 hexadecimal digits, the same wherever they were loaded."""

    training: bool
    """This and the rest are what `torch.nn.Module` brings."""

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode."""

    def eval(self) -> Self:
        """Evaluation mode."""

    def to(self, device: str | torch.device) -> Self:
        """Moves it, in place."""

    def float(self) -> Self:
        """All weights in single precision, in place."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that an optimiser may move."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether all of them gather gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and statistics by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes back what `state_dict` gave."""


class DenoisingPolicy(Trainable, Protocol):
    """A policy whose chunk is the end of a chain of denoising steps, each with a density to learn from.

    `sample(observations, noise)` is `to_actions(denoise(encode(observations), noise).states[:, -1])`.
    """

    @property
    def encoder(self) -> nn.Module:
        """Makes `c`; frozen while critics and models learn on what it makes."""

    @property
    def denoiser(self) -> nn.Module:
        """The network that policy gradients move: `denoiser(noisy, timestep, c)`, shapes as in `Corrupted`."""

    @property
    def condition_size(self) -> int:
        """`C`."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Standard deviation of each denoising step, normalised units. Length `K`; 0 is a step without a density."""

    @property
    def prediction_gain(self) -> float:
        """Largest factor by which a step carries an error of the network's output over into the next state."""

    def encode(self, observations: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """`c`, shape (B, C).

        Args:
            observations: As for `sample`.
            generator: Draws what is random about encoding, such as crops; None for what the policy acts on.
        """

    def corrupt(self, clean: Tensor, generator: torch.Generator) -> Corrupted:
        """Draws what the denoiser learns from; `clean` is normalised, shape (B, H, A)."""

    def denoise(self, condition: Tensor, noise: Tensor) -> DenoisingChain:
        """Runs the whole chain, normalised.

        Args:
            condition: `c`. Shape (B, C).
            noise: Standard normal; row 0 starts the chain, row `k` is added after step `k - 1`, whose share is its
                sigma. Shape (B, K, H, A): the last step returns its mean; or (B, K + 1, H, A): it is noisy too.
        """

    def log_prob(
        self,
        condition: Tensor,
        states: Tensor,
        *,
        rows: int | None = None,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> Tensor:
        """Log-density of each denoising step taken, under the very kernel that `denoise` samples from.

        Args:
            condition: `c`. Shape (B, C).
            states: A chain whose K transitions were all sampled, normalised. Shape (B, K + 1, H, A).
            rows: Rows of the chunk that count, the first ones; None for all `H`.
            reduction: Over the rows' elements: `sum` is the joint density, `mean` is free of the chunk's size.

        Returns:
            log p(states[:, k + 1] | states[:, k], c) for each `k`. Shape (B, K).

        Raises:
            RobotRLError: A shape is wrong, or a step has no density since its sigma is 0.
        """

    def to_actions(self, chunk: Tensor) -> Tensor:
        """A clean normalised chunk in robot units, two-state channels decided. Shapes (B, H, A)."""

    def with_sampling_steps(self, sampling_steps: int) -> Self:
        """A copy that denoises in another number of steps; the weights stay as they are."""

    def with_exploration(self, sampling_steps: int, sigma_min: float, sigma_max: float) -> Self:
        """A copy whose every denoising step is noisy, as policy gradients need.

        Args:
            sampling_steps: Denoising steps `K`.
            sigma_min: Smallest standard deviation of a step, more than 0, normalised units.
            sigma_max: Largest standard deviation of a step.

        Raises:
            RobotRLError: They cannot work, or the policy does not explore.
        """


def require_trainable(policy: nn.Module) -> Trainable:
    """The policy, which has all that imitation, checkpoints and acting need.

    Raises:
        NotTrainable: It has not; says what is missing.
    """
    _require(policy, Trainable, "be trained")
    return cast(Trainable, policy)


def require_denoising(policy: Trainable) -> DenoisingPolicy:
    """The policy, which has all that reinforcement learning and export need.

    Raises:
        NotTrainable: It has not; says what is missing.
    """
    _require(policy, DenoisingPolicy, "be improved or exported")
    return cast(DenoisingPolicy, policy)


def _require(policy: object, protocol: type, purpose: str) -> None:
    # Not isinstance: it looks past the modules of a module.
    missing = [name for name in _names(protocol) if not hasattr(policy, name)]
    if missing:
        raise NotTrainable(
            f"policy {type(policy).__name__} cannot {purpose}: it lacks {', '.join(missing)}, which "
            f"policies/trainable.py describes under {protocol.__name__}"
        )


def _names(protocol: type) -> Iterable[str]:
    """Public members of a protocol and those it extends, in the order in which they are written."""
    kinds = reversed(protocol.__mro__)
    names = (name for kind in kinds for name in (*inspect.get_annotations(kind), *vars(kind)))
    return dict.fromkeys(name for name in names if not name.startswith("_"))
