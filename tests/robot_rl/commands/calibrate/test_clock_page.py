"""The page's clock draws what the decoder reads."""

import json
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest

from hardware.cameras.pattern import COLUMNS, ROWS, STRIP, write_stamp
from robot_rl.commands.calibrate.clock_page import CELLS_SCRIPT, ClockPage, layout_script
from robot_rl.core.errors import RobotRLError

STAMPS = [0, 1, 1_700_000_123_456_789_012, 2**63 - 1, 2**64 - 1, 255 << 56]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here to run the page's script")
def test_the_browser_draws_the_cells_that_the_decoder_reads():
    ask = f"console.log(JSON.stringify([{', '.join(f'{stamp}n' for stamp in STAMPS)}].map(cells)))"
    script = layout_script() + CELLS_SCRIPT + ask
    drawn = json.loads(subprocess.run(["node", "-e", script], capture_output=True, check=True, timeout=60).stdout)
    for stamp, grid in zip(STAMPS, drawn, strict=True):
        picture = np.zeros((round(ROWS * 2 / STRIP), COLUMNS * 2, 3), np.uint8)
        write_stamp(picture, stamp)
        np.testing.assert_array_equal(np.array(grid), picture[: 2 * ROWS : 2, ::2, 0] > 128)


def test_the_page_needs_nothing_from_elsewhere_and_goes_away_with_the_command():
    with ClockPage(0) as clock:
        body = urllib.request.urlopen(clock.url, timeout=10).read().decode()
        assert "requestAnimationFrame(draw)" in body
        assert "http" not in body
        with pytest.raises(RobotRLError, match="choose another with port="):
            ClockPage(int(clock.url.rstrip("/").rpartition(":")[2]))
    with pytest.raises(OSError):
        urllib.request.urlopen(clock.url, timeout=1)
