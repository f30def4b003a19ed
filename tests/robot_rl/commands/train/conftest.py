"""A dataset with every outcome, and one thread to learn in."""

import pytest
import torch
from accelerate.state import AcceleratorState

from robot_rl.core.episode import Outcome
from tests.robot_rl.toy_dataset import write_toy_dataset


@pytest.fixture
def one_thread():
    """Sums are then made in one order, as in the other processes that these tests start."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    outcomes = [Outcome.SUCCESS] * 8 + [Outcome.FAILURE, Outcome.ABORTED]
    return write_toy_dataset(tmp_path_factory.mktemp("datasets") / "toy", outcomes)
