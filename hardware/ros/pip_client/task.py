"""Futures and the coroutines that await them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any


class Future:
    """A result that arrives later."""

    def __init__(self, *, executor: Any = None) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._done = False
        self._cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    def done(self) -> bool:
        """Whether it has a result, an exception or was cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def result(self) -> Any:
        """The result; raises the exception where it has one."""
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self) -> BaseException | None:
        """The exception, if any."""
        return self._error

    def set_result(self, result: Any) -> None:
        """Complete it."""
        self._finish(result, None)

    def set_exception(self, exception: BaseException) -> None:
        """Complete it with a failure."""
        self._finish(None, exception)

    def cancel(self) -> None:
        """Give it up."""
        if not self._done:
            self._cancelled = True
            self._finish(None, None)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        with self._lock:
            self._result, self._error, self._done = result, error, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call when done; at once if it is."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback(self)

    def __await__(self) -> Generator[Future, None, Any]:
        while not self._done:
            yield self
        return self.result()


class Task(Future):
    """A callback or coroutine run by an executor.

    Args:
        handler: Function, coroutine function or coroutine.
        args: For the handler.
        kwargs: For the handler.
        executor: Continues it.
    """

    def __init__(
        self, handler: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, executor: Any = None
    ) -> None:
        super().__init__(executor=executor)
        self._handler, self._args, self._kwargs = handler, args, kwargs or {}
        self._coroutine: Any = handler if inspect.iscoroutine(handler) else None

    def __call__(self) -> None:
        """Run until it ends or awaits something; what it awaits continues it."""
        try:
            if self._coroutine is None:
                result = self._handler(*self._args, **self._kwargs)
                if not inspect.iscoroutine(result):
                    self.set_result(result)
                    return
                self._coroutine = result
            awaited = self._coroutine.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
        except BaseException as error:
            self.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            if isinstance(awaited, Future):
                awaited.add_done_callback(lambda _: self._executor.resume(self))
            else:
                self._executor.resume(self)
