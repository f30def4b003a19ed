from pathlib import Path

import pytest

from tests.robot_rl.commands.finetune.finetune_runs import save_start


@pytest.fixture
def place(tmp_path) -> Path:
    save_start(tmp_path)
    return tmp_path
