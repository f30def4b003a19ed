"""Demonstrations in a tiny world, and a policy that imitates them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.robot_rl.toy_improve import demonstrations, imitation_run


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("improve")


@pytest.fixture(scope="module")
def dataset(place) -> str:
    return demonstrations(place / "demonstrations", 24)


@pytest.fixture(scope="module")
def imitation(place, dataset) -> str:
    return imitation_run(dataset, place / "imitation")
