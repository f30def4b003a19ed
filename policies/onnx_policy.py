"""An exported policy in closed loop: onnxruntime and numpy, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from policies.bundle import INPUT_PREFIX, MODEL_FILE, OUTPUTS, InvalidBundle, disagreement, read_bundle, read_parity
from policies.history import draw_noise, stack_history
from robot_rl.core.episode import ActionChunk, Observation
from robot_rl.core.specs import AnyArray


class OnnxPolicy:
    """A `robot_rl.core.protocols.Policy`. Loading it runs one parity case, which also warms the graph up.

    Args:
        directory: A bundle, as `robot-rl export` writes it.
        threads: CPU threads per inference.

    Raises:
        InvalidBundle: The bundle is absent, damaged, or computes something else on this machine.
    """

    def __init__(self, directory: str | Path, *, threads: int = 1) -> None:
        directory = Path(directory)
        self.bundle = read_bundle(directory)
        self.spec = self.bundle.spec
        self.observation_count = self.bundle.observation_count
        self.execute_horizon = self.bundle.execute_horizon
        self.fingerprint = self.bundle.fingerprint
        self.provenance = self.bundle.provenance
        self._session = open_session(directory / MODEL_FILE, threads)
        self._generator = np.random.default_rng(0)
        problem = disagreement(self.run, read_parity(directory), self.bundle.parity_tolerance, count=1)
        if problem:
            raise InvalidBundle(f"{directory} computes something else here than where it was exported: {problem}")

    def reset(self, seed: int) -> None:
        """Seeds the sampling noise; there is no other state."""
        self._generator = np.random.default_rng(seed)

    def act(self, history: Sequence[Observation]) -> ActionChunk:
        """Chunk of all `H` rows; see `robot_rl.core.protocols.Policy`."""
        arrays = stack_history(history, self.spec, self.observation_count)
        feeds = {INPUT_PREFIX + name: array for name, array in arrays.items()}
        feeds["noise"] = draw_noise(self._generator, self.bundle.noise_shape)
        (chunk,) = self._session.run(OUTPUTS[:1], feeds)
        return ActionChunk(chunk[0].astype(self.spec.action.dtype), history[-1].stamp_ns)

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """The graph itself, from input names to every output; a batch of one."""
        return dict(zip(OUTPUTS, self._session.run(OUTPUTS, dict(feeds)), strict=True))


def open_session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """A graph ready to run on this machine's CPU.

    Args:
        model: The graph.
        threads: CPU threads per inference.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take cores from the control tick between inferences.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
