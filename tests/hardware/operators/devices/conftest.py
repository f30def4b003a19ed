"""A kernel into which a test plugs pads."""

import pytest

from tests.hardware.operators.devices.kernel_fakes import InputKernel


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return InputKernel(tmp_path, monkeypatch)
