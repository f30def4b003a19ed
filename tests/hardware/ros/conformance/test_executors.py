"""Executors and callback groups."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hardware.ros.client import (
    BACKEND,
    CallbackGroup,
    ExternalShutdownException,
    Future,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    ReentrantCallbackGroup,
    SingleThreadedExecutor,
    message,
    rclpy,
)
from hardware.ros.spinning_thread import SpinningThread
from tests.hardware.ros.conformance.spinning import GIVE_UP_S, Bench

pytestmark = pytest.mark.ros


@pytest.fixture
def pool(bench: Bench) -> Iterator[MultiThreadedExecutor]:
    bench.executor.remove_node(bench.node)
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(bench.node)
    yield executor
    executor.shutdown()


class Meeting:
    """Counts how many callbacks are inside at once; each stays until two have met or time is up."""

    def __init__(self, stay_s: float) -> None:
        self.most = 0
        self.visits = 0
        self._inside = 0
        self._stay_s = stay_s
        self._changed = threading.Condition()

    def visit(self, *_: object) -> None:
        with self._changed:
            self._inside += 1
            self.visits += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most > 1, self._stay_s)
            self._inside -= 1


def test_mutually_exclusive_callbacks_never_run_together(bench: Bench, pool: MultiThreadedExecutor):
    meeting, group = Meeting(stay_s=0.05), MutuallyExclusiveCallbackGroup()
    boolean = message("std_msgs/msg/Bool")
    publisher = bench.node.create_publisher(boolean, "visit", 10)
    bench.node.create_subscription(boolean, "visit", meeting.visit, 10, callback_group=group)
    for _ in range(3):
        bench.node.create_timer(0.005, meeting.visit, callback_group=group)
    bench.node.create_timer(0.01, lambda: publisher.publish(boolean()), callback_group=ReentrantCallbackGroup())
    bench.until(lambda: meeting.visits >= 12, pool)
    assert meeting.most == 1


def test_callbacks_of_a_node_are_mutually_exclusive_by_default(bench: Bench, pool: MultiThreadedExecutor):
    meeting = Meeting(stay_s=0.05)
    for _ in range(2):
        bench.node.create_timer(0.005, meeting.visit)
    bench.until(lambda: meeting.visits >= 8, pool)
    assert meeting.most == 1


@pytest.mark.parametrize("kind", ["one reentrant group", "two exclusive groups"])
def test_callbacks_that_may_run_together_do(bench: Bench, pool: MultiThreadedExecutor, kind: str):
    meeting = Meeting(stay_s=GIVE_UP_S)
    shared = ReentrantCallbackGroup()
    groups: list[CallbackGroup] = [shared, shared]
    if kind == "two exclusive groups":
        groups = [MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()]
    for group in groups:
        bench.node.create_timer(0.01, meeting.visit, callback_group=group)
    bench.until(lambda: meeting.most >= 2, pool)


def test_a_reentrant_callback_can_run_beside_itself(bench: Bench, pool: MultiThreadedExecutor):
    meeting = Meeting(stay_s=GIVE_UP_S)
    boolean = message("std_msgs/msg/Bool")
    publisher = bench.node.create_publisher(boolean, "visit", 10)
    bench.node.create_subscription(boolean, "visit", meeting.visit, 10, callback_group=ReentrantCallbackGroup())
    bench.until(lambda: publisher.get_subscription_count(), pool)
    for _ in range(2):
        publisher.publish(boolean())
    bench.until(lambda: meeting.most >= 2, pool)


def test_a_slow_callback_does_not_hold_up_other_groups(bench: Bench, pool: MultiThreadedExecutor):
    release = threading.Event()
    quick: list[int] = []
    slow = bench.node.create_timer(
        0.01, lambda: release.wait(GIVE_UP_S), callback_group=MutuallyExclusiveCallbackGroup()
    )
    bench.node.create_timer(0.01, lambda: quick.append(1), callback_group=MutuallyExclusiveCallbackGroup())
    bench.until(lambda: len(quick) >= 10, pool)
    assert not release.is_set()
    slow.cancel()
    release.set()


@pytest.mark.parametrize("kind", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_an_exception_in_a_callback_ends_spinning(bench: Bench, kind: type):
    bench.executor.remove_node(bench.node)
    executor = kind()
    executor.add_node(bench.node)

    def fail() -> None:
        raise ZeroDivisionError("in the callback")

    timer = bench.node.create_timer(0.01, fail)
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        bench.until(lambda: False, executor)
    timer.cancel()
    executor.shutdown()


def test_spin_once_without_work_returns_after_its_time(bench: Bench):
    bench.executor.spin_once(timeout_sec=0)
    bench.executor.spin_once(timeout_sec=0.01)


def test_shutdown_of_the_context_ends_spinning_in_another_thread(bench: Bench):
    ended = threading.Event()
    spinning = threading.Event()
    bench.node.create_timer(0.01, spinning.set)

    def spin() -> None:
        try:
            bench.executor.spin()
        except ExternalShutdownException:
            pass
        finally:
            ended.set()

    thread = threading.Thread(target=spin)
    thread.start()
    assert spinning.wait(GIVE_UP_S)
    rclpy.shutdown()
    assert ended.wait(GIVE_UP_S)
    thread.join()


def test_shutdown_of_the_executor_ends_spinning_in_another_thread(bench: Bench):
    spinning = threading.Event()
    bench.node.create_timer(0.01, spinning.set)
    thread = threading.Thread(target=bench.executor.spin)
    thread.start()
    assert spinning.wait(GIVE_UP_S)
    bench.executor.shutdown()
    thread.join(GIVE_UP_S)
    assert not thread.is_alive()
    assert rclpy.ok()


def test_a_message_wakes_an_executor_that_waits_without_end(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    got = bench.collect(boolean, "flag", 10)
    publisher = bench.node.create_publisher(boolean, "flag", 10)
    bench.connected(publisher)
    timer = threading.Timer(0.2, lambda: publisher.publish(boolean()))
    timer.start()
    while not got:
        bench.executor.spin_once()
    timer.join()


def test_a_subscription_made_while_spinning_is_served(bench: Bench):
    boolean = message("std_msgs/msg/Bool")
    got: list[object] = []
    made: list[object] = []

    def subscribe() -> None:
        if not made:
            made.append(bench.node.create_subscription(boolean, "late", got.append, 10))

    bench.node.create_timer(0.01, subscribe)
    publisher = bench.node.create_publisher(boolean, "late", 10)
    bench.connected(publisher)
    publisher.publish(boolean())
    bench.until(lambda: got)


def change_while_spun(bench: Bench, kind: type, change: Callable[[list[object]], None]) -> None:
    """Changes a node that another thread spins, and expects that it still hears."""
    bench.executor.remove_node(bench.node)
    executor = kind()
    executor.add_node(bench.node)
    hearing = SpinningThread(executor, "bench")
    hearing.start()
    received: list[object] = []
    change(received)
    publisher = bench.node.create_publisher(message("std_msgs/msg/Int32"), "flood", 10)
    end_s = time.monotonic() + GIVE_UP_S
    while not received and time.monotonic() < end_s:
        publisher.publish(message("std_msgs/msg/Int32")(data=0))
        time.sleep(0.01)
    hearing.end()
    assert hearing.failure is None
    assert received


@pytest.mark.parametrize("kind", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_a_node_can_grow_while_another_thread_spins_it(bench: Bench, kind: type):
    def grow(received: list[object]) -> None:
        integer = message("std_msgs/msg/Int32")
        publisher = bench.node.create_publisher(integer, "flood", 10)
        for number in range(30):
            bench.node.create_subscription(integer, "flood", received.append, 10)
            bench.node.create_timer(0.01, lambda: None)
            publisher.publish(integer(data=number))

    change_while_spun(bench, kind, grow)


@pytest.mark.skipif(
    BACKEND == "rclpy",
    reason="rclpy's executor may raise InvalidHandle when what it waits for is destroyed (seen on Jazzy); "
    "no node here destroys what is spun",
)
@pytest.mark.parametrize("kind", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_a_node_can_shrink_while_another_thread_spins_it(bench: Bench, kind: type):
    def replace(received: list[object]) -> None:
        integer = message("std_msgs/msg/Int32")
        publisher = bench.node.create_publisher(integer, "flood", 10)
        kept = [bench.node.create_subscription(integer, "flood", received.append, 10) for _ in range(4)]
        for number in range(300):
            bench.node.destroy_subscription(kept.pop(number % len(kept)))
            kept.append(bench.node.create_subscription(integer, "flood", received.append, 10))
            timer = bench.node.create_timer(0.001, lambda: None)
            publisher.publish(integer(data=number))
            bench.node.destroy_timer(timer)

    change_while_spun(bench, kind, replace)


def test_a_node_has_one_executor(bench: Bench):
    other = SingleThreadedExecutor()
    other.add_node(bench.node)
    assert bench.node.executor is other
    assert bench.node not in bench.executor.get_nodes()
    other.shutdown()


def test_spinning_until_a_future_is_done_stops_there(bench: Bench):
    future = Future()
    bench.node.create_timer(0.01, lambda: None if future.done() else future.set_result(7))
    bench.executor.spin_until_future_complete(future, timeout_sec=GIVE_UP_S)
    assert future.done()
    assert future.result() == 7


def test_spinning_until_a_future_gives_up_after_its_time(bench: Bench):
    future = Future()
    bench.executor.spin_until_future_complete(future, timeout_sec=0.05)
    assert not future.done()


def test_a_coroutine_callback_can_await_a_future(bench: Bench):
    future, after = Future(), []

    async def wait_for_it() -> None:
        timer.cancel()
        after.append(await future)

    timer = bench.node.create_timer(0.01, wait_for_it, callback_group=ReentrantCallbackGroup())
    bench.node.create_timer(
        0.05, lambda: None if future.done() else future.set_result("answer"), callback_group=ReentrantCallbackGroup()
    )
    bench.until(lambda: after)
    assert after == ["answer"]


def test_tasks_run_in_the_executor(bench: Bench):
    task = bench.executor.create_task(lambda a, b: a + b, 3, 4)
    bench.executor.spin_until_future_complete(task, timeout_sec=GIVE_UP_S)
    assert task.result() == 7


def test_a_guard_condition_runs_its_callback_from_any_thread(bench: Bench):
    calls: list[int] = []
    guard = bench.node.create_guard_condition(lambda: calls.append(threading.get_ident()))
    thread = threading.Thread(target=guard.trigger)
    thread.start()
    bench.until(lambda: calls)
    thread.join()
    assert calls == [threading.get_ident()]
    bench.node.destroy_guard_condition(guard)


def test_spin_of_the_module_uses_an_executor_of_its_own(bench: Bench):
    bench.executor.remove_node(bench.node)
    calls: list[int] = []
    bench.node.create_timer(0.01, lambda: calls.append(1))
    while not calls:
        rclpy.spin_once(bench.node, timeout_sec=1.0)
