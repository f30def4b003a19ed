"""What a node reaches as `rclpy.<name>`: starting, stopping and spinning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hardware.ros.pip_client.context import (
    Context,
    SignalHandlerOptions,
    default_context,
    install_signal_handlers,
    renew_default_context,
    uninstall_signal_handlers,
)
from hardware.ros.pip_client.executors import Executor, SingleThreadedExecutor
from hardware.ros.pip_client.node import Node
from hardware.ros.pip_client.task import Future

_executors: dict[int, tuple[Context, SingleThreadedExecutor]] = {}


def init(
    *,
    args: Sequence[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> None:
    """Start a context.

    Args:
        args: Command line; None takes the process's own.
        context: None takes the default one, whose signal handlers are installed too.
        domain_id: DDS domain; None takes ROS_DOMAIN_ID.
        signal_handler_options: Which signals shut down; None is all for the default context.
    """
    if context is None:
        renew_default_context().init(args, domain_id=domain_id)
        options = SignalHandlerOptions.ALL if signal_handler_options is None else signal_handler_options
        install_signal_handlers(options)
        return
    context.init(args, domain_id=domain_id)
    if signal_handler_options is not None:
        install_signal_handlers(signal_handler_options)


def ok(*, context: Context | None = None) -> bool:
    """Whether the context runs."""
    return (context or default_context()).ok()


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Stop a context.

    Raises:
        RuntimeError: It does not run.
    """
    (context or default_context()).shutdown()
    _clean_up(context, uninstall_handlers)


def try_shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Stop a context, if it runs."""
    (context or default_context()).try_shutdown()
    _clean_up(context, uninstall_handlers)


def _clean_up(context: Context | None, uninstall_handlers: bool | None) -> None:
    used = context or default_context()
    held = _executors.pop(id(used), None)
    if held is not None:
        held[1].shutdown(timeout_sec=0)
    if uninstall_handlers or (uninstall_handlers is None and context is None):
        uninstall_signal_handlers()


def create_node(node_name: str, **arguments: Any) -> Node:
    """A node; arguments as `Node`."""
    return Node(node_name, **arguments)


def get_global_executor() -> Executor:
    """The executor that `spin` uses where none is given."""
    context = default_context()
    held = _executors.get(id(context))
    if held is None:
        held = _executors[id(context)] = context, SingleThreadedExecutor(context=context)
    return held[1]


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run one of a node's callbacks; see `Executor.spin_once`."""
    used = get_global_executor() if executor is None else executor
    used.add_node(node)
    try:
        used.spin_once(timeout_sec=timeout_sec)
    finally:
        used.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Run a node's callbacks until the context is shut down."""
    used = get_global_executor() if executor is None else executor
    used.add_node(node)
    try:
        while used.context.ok():
            used.spin_once()
    finally:
        used.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Run a node's callbacks until a future is done or a time [s] has passed."""
    used = get_global_executor() if executor is None else executor
    used.add_node(node)
    try:
        used.spin_until_future_complete(future, timeout_sec)
    finally:
        used.remove_node(node)
