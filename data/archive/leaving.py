"""Lets the storage libraries' threads come to rest before the interpreter ends.

A thread of Icechunk hands its result to zarr's event loop by calling `call_soon_threadsafe`, and for a moment inside it
lets the interpreter's lock go. If the process ends in that moment, Python ends the thread in the middle of Rust code,
which cannot be unwound: the process aborts (SIGABRT) after everything has gone well. On a loaded machine 3 of 100
processes did that were a few milliseconds from a read or a commit to their end.
"""

from __future__ import annotations

import asyncio
import sys
import time

import zarr.core.sync

LONGEST_S = 10.0
POLL_S = 0.001


def come_to_rest() -> None:
    """Ends zarr's loop after its last task, then waits until no other thread is still handing it a result.

    To be called at the interpreter's exit, before zarr's own cleaning up: that waits for its thread 0.2 s only, and for
    nobody else.
    """
    loop, thread = zarr.core.sync.loop[0], zarr.core.sync.iothread[0]
    if loop is None or thread is None or not thread.is_alive():
        return
    give_up = time.monotonic() + LONGEST_S
    asyncio.run_coroutine_threadsafe(_stop_after_the_others(), loop)
    thread.join(LONGEST_S)
    while _handing_over() and time.monotonic() < give_up:
        time.sleep(POLL_S)


async def _stop_after_the_others() -> None:
    # A failed transaction or read leaves the tasks of its other chunks running.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    asyncio.get_running_loop().stop()


def _handing_over() -> bool:
    """Whether a thread that Python did not start is inside `call_soon_threadsafe`."""
    entry = asyncio.BaseEventLoop.call_soon_threadsafe.__code__
    for frame in sys._current_frames().values():
        while frame.f_back is not None:
            frame = frame.f_back
        if frame.f_code is entry:
            return True
    return False
