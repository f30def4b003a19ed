import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SLOW_TO_LEAVE = """
import asyncio.selector_events, sys, threading, time

wake = asyncio.selector_events.BaseSelectorEventLoop._write_to_self

def wake_and_stay(loop):
    wake(loop)
    if stays and threading.get_ident() not in {thread.ident for thread in threading.enumerate()}:
        time.sleep(0.2)

stays = False
asyncio.selector_events.BaseSelectorEventLoop._write_to_self = wake_and_stay

from data.archive.store import DatasetStore
from tests.data.recordings import LOSSLESS, SPEC, episode

store = DatasetStore.create(sys.argv[1], SPEC, LOSSLESS)
store.append(episode(0, 5))
stays = True
store.read("000000")
"""


def test_a_process_that_ends_right_after_a_read_does_not_abort(tmp_path):
    """A storage thread that had woken zarr's loop, but had not left Python yet, ended 3 of 100 processes by SIGABRT."""
    command = [sys.executable, "-c", SLOW_TO_LEAVE, str(tmp_path / "set")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=200)
    assert (ended.returncode, ended.stderr) == (0, "")
