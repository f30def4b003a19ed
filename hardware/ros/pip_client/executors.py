"""Executors: wait for timers, messages and requests, and run their callbacks."""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from hardware.ros.pip_client.context import Context, default_context
from hardware.ros.pip_client.exceptions import ExternalShutdownException, NotInitializedException, RCLError
from hardware.ros.pip_client.node import Node
from hardware.ros.pip_client.task import Future, Task
from hardware.ros.pip_client.time import NS_PER_S
from hardware.ros.pip_client.transport import Waiter

SIGNAL_POLL_NS = 100_000_000
"""Python runs signal handlers only between waits, so no wait is longer than this [ns]."""


class Executor:
    """Base of both executors.

    Args:
        context: None takes the default one.
    """

    def __init__(self, *, context: Context | None = None) -> None:
        self.context = context if context is not None else default_context()
        self._nodes: list[Node] = []
        self._ready: collections.deque[Any] = collections.deque()
        self._tasks: collections.deque[Task] = collections.deque()
        self._waiter: Waiter | None = None
        self._lock = threading.RLock()
        self._spinning = threading.Lock()
        self._stopped = False
        self._running = 0
        self._idle = threading.Condition()
        self._error: BaseException | None = None
        self._spinner: int | None = None
        self.context.executors.add(self)

    # Nodes and tasks

    def add_node(self, node: Node) -> bool:
        """Spin a node as well; False where it is already."""
        with self._lock:
            if node in self._nodes:
                return False
            self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        """Do not spin a node any more."""
        with self._lock:
            if node not in self._nodes:
                return
            self._nodes.remove(node)
        if node.executor is self:
            node.executor = None
        self.wake()

    def get_nodes(self) -> list[Node]:
        """Nodes now."""
        return list(self._nodes)

    def create_task(self, callback: Any, *args: Any, **kwargs: Any) -> Task:
        """Run a function or coroutine; the task is its future."""
        task = Task(callback, args, kwargs, self)
        self.resume(task)
        return task

    def resume(self, task: Task) -> None:
        """Run a task's next step."""
        self._tasks.append(task)
        self.wake()

    def wake(self) -> None:
        """End the present wait."""
        waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    # Spinning

    def spin(self) -> None:
        """Run callbacks until the context or the executor is shut down."""
        while self.context.ok() and not self._stopped:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback.

        Args:
            timeout_sec: Longest wait for one [s]; None or negative waits without end.

        Raises:
            ExternalShutdownException: The context was shut down meanwhile.
            RuntimeError: Another thread spins this executor.
        """
        if not self._spinning.acquire(blocking=False):
            raise RuntimeError("Executor is already spinning in another thread")
        self._spinner = threading.get_ident()
        try:
            self._spin_once(timeout_sec)
        finally:
            self._spinner = None
            self._spinning.release()
        self._raise_error()

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Run callbacks until a future is done, or for a time [s]."""
        future.add_done_callback(lambda _: self.wake())
        end_s = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self.context.ok() and not self._stopped and not future.done():
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            self._spin_until(future, left_s)

    def _spin_until(self, future: Future, timeout_s: float | None) -> None:
        if not self._spinning.acquire(blocking=False):
            raise RuntimeError("Executor is already spinning in another thread")
        self._spinner = threading.get_ident()
        try:
            self._spin_once(timeout_s, future.done)
        finally:
            self._spinner = None
            self._spinning.release()
        self._raise_error()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, RCLError) and not self.context.ok():
            raise ExternalShutdownException() from error  # a signal came while a callback was about to publish
        if error is not None:
            raise error

    def _spin_once(self, timeout_s: float | None, enough: Callable[[], bool] = lambda: False) -> None:
        unlimited = timeout_s is None or timeout_s < 0
        end_ns = None if unlimited else time.monotonic_ns() + int((timeout_s or 0) * NS_PER_S)
        while not self._stopped and not enough():
            if self._step():
                return
            self._raise_error()
            if not self.context.ok():
                raise ExternalShutdownException()
            left_ns = SIGNAL_POLL_NS if end_ns is None else end_ns - time.monotonic_ns()
            try:
                self._collect(max(0, min(left_ns, SIGNAL_POLL_NS)))
            except NotInitializedException:  # shut down since asked
                raise ExternalShutdownException() from None
            if not self._ready and not self._tasks and left_ns <= 0:
                return

    def _step(self) -> bool:
        """Start the next callback that is ready, if any."""
        if self._tasks:
            self._run(self._tasks.popleft(), None)
            return True
        while self._ready:
            waitable = self._ready.popleft()
            group = waitable.callback_group
            if not group.beginning_execution():
                continue
            arguments = waitable.take()
            if not arguments:
                group.ending_execution()
                continue
            task = Task(waitable.callback, arguments[0], executor=self)
            self._run(task, group)
            return True
        return False

    def _collect(self, timeout_ns: int) -> None:
        """Wait, and note what became ready: timers first, then guards, then messages."""
        with self._lock:
            nodes = list(self._nodes)
        if self._waiter is None:
            self._waiter = Waiter(self.context.participant)
        graph = self.context.graph
        timers = [t for node in nodes for t in node.timers if not t.is_canceled() and t.callback_group.can_execute()]
        waitables = [w for node in nodes for w in node.waitables if w.callback_group.can_execute()]
        by_ref = {w.condition_ref: w for w in waitables if w.condition_ref}
        due = [left_ns for timer in timers if (left_ns := timer.time_until_next_call()) is not None]
        timeout_ns = max(0, min([timeout_ns, *due]))
        if self._tasks:
            timeout_ns = 0
        triggered = self._waiter.wait(set(by_ref) | {graph.condition_ref}, timeout_ns)
        if graph.condition_ref in triggered:
            graph.update()
        self._ready.extend(timer for timer in timers if timer.is_ready())
        self._ready.extend(w for w in waitables if not w.condition_ref)
        self._ready.extend(by_ref[ref] for ref in triggered if ref in by_ref)

    def _run(self, task: Task, group: Any) -> None:
        """Run a task; its callback group is held until it is done."""
        raise NotImplementedError

    def _execute(self, task: Task, group: Any) -> None:
        if group is not None:
            task.add_done_callback(lambda _: self._release(group))
            task.add_done_callback(self._keep_error)
        task()

    def _release(self, group: Any) -> None:
        group.ending_execution()
        self.wake()

    def _keep_error(self, task: Task) -> None:
        error = task.exception()
        if isinstance(error, Exception) and self._error is None:
            self._error = error
            self.wake()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """End spinning and wait for running callbacks; False where they did not end in time."""
        self._stopped = True
        self.wake()
        with self._idle:
            ended = self._idle.wait_for(lambda: self._running == 0, timeout_sec)
        if not ended:
            return False
        for node in self.get_nodes():
            self.remove_node(node)
        self._close_waiter(timeout_sec)
        return True

    def _close_waiter(self, timeout_s: float | None) -> None:
        inside_a_callback = self._spinner == threading.get_ident()
        if inside_a_callback or not self._spinning.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return  # it ends with the context
        try:
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                waiter.close()
        finally:
            self._spinning.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class SingleThreadedExecutor(Executor):
    """Runs callbacks in the spinning thread, one after the other."""

    def _run(self, task: Task, group: Any) -> None:
        self._execute(task, group)


class MultiThreadedExecutor(Executor):
    """Runs callbacks in a pool of threads, as their groups allow.

    Args:
        num_threads: Threads in the pool; None takes one per core, at least two.
        context: None takes the default one.
    """

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self.num_threads = num_threads or max(2, usable_cores())
        self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="ros")
        self._free = threading.Semaphore(self.num_threads)

    def _run(self, task: Task, group: Any) -> None:
        while not self._free.acquire(timeout=SIGNAL_POLL_NS / NS_PER_S):
            if self._stopped:
                if group is not None:
                    self._release(group)
                return
        with self._idle:
            self._running += 1
        self._pool.submit(self._work, task, group)

    def _work(self, task: Task, group: Any) -> None:
        try:
            self._execute(task, group)
        finally:
            self._free.release()
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """As `Executor.shutdown`; the pool's threads end too."""
        ended = super().shutdown(timeout_sec)
        self._pool.shutdown(wait=ended)
        return ended


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
