"""Services and clients between peers of one middleware."""

from __future__ import annotations

import threading

import pytest

from hardware.ros.client import MultiThreadedExecutor, ReentrantCallbackGroup, srv
from tests.hardware.ros.conformance.spinning import GIVE_UP_S, Bench

pytestmark = pytest.mark.ros
SET_BOOL, TRIGGER, EMPTY = "std_srvs/srv/SetBool", "std_srvs/srv/Trigger", "std_srvs/srv/Empty"


def answer(request: object, response: object) -> object:
    response.success = request.data
    response.message = f"data was {request.data}"
    return response


def test_a_request_gets_its_response(bench: Bench):
    bench.node.create_service(srv(SET_BOOL), "switch", answer)
    client = bench.node.create_client(srv(SET_BOOL), "switch")
    bench.until(client.service_is_ready)
    future = client.call_async(srv(SET_BOOL).Request(data=True))
    bench.executor.spin_until_future_complete(future, timeout_sec=GIVE_UP_S)
    assert (future.result().success, future.result().message) == (True, "data was True")


def test_responses_find_their_requests_and_their_clients(bench: Bench):
    bench.node.create_service(srv(SET_BOOL), "switch", answer)
    clients = [bench.node.create_client(srv(SET_BOOL), "switch") for _ in range(2)]
    bench.until(lambda: all(client.service_is_ready() for client in clients))
    asked = [bool(number % 3) for number in range(10)]
    futures = [clients[number % 2].call_async(srv(SET_BOOL).Request(data=data)) for number, data in enumerate(asked)]
    bench.until(lambda: all(future.done() for future in futures))
    assert [future.result().success for future in futures] == asked


def test_empty_requests_and_responses_work(bench: Bench):
    asked: list[object] = []
    bench.node.create_service(srv(EMPTY), "reset", lambda request, response: asked.append(request) or response)
    client = bench.node.create_client(srv(EMPTY), "reset")
    bench.until(client.service_is_ready)
    future = client.call_async(srv(EMPTY).Request())
    bench.executor.spin_until_future_complete(future, timeout_sec=GIVE_UP_S)
    assert len(asked) == 1
    assert isinstance(future.result(), srv(EMPTY).Response)


def test_a_service_of_another_process_answers(bench: Bench):
    program = bench.start("service")
    client = bench.node.create_client(srv(TRIGGER), "/greet")
    assert client.wait_for_service(timeout_sec=GIVE_UP_S)
    future = client.call_async(srv(TRIGGER).Request())
    bench.executor.spin_until_future_complete(future, timeout_sec=GIVE_UP_S)
    assert future.result().message == "hello"
    assert program.poll() is None


def test_a_service_that_is_not_there_is_not_waited_for_longer_than_asked(bench: Bench):
    client = bench.node.create_client(srv(TRIGGER), "nobody")
    assert not client.wait_for_service(timeout_sec=0.05)


def test_a_blocking_call_works_from_outside_the_executor(bench: Bench):
    bench.executor.remove_node(bench.node)
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(bench.node)
    group = ReentrantCallbackGroup()
    bench.node.create_service(srv(SET_BOOL), "switch", answer, callback_group=group)
    client = bench.node.create_client(srv(SET_BOOL), "switch", callback_group=group)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        assert client.wait_for_service(timeout_sec=GIVE_UP_S)
        assert client.call(srv(SET_BOOL).Request(data=True)).success
    finally:
        executor.shutdown()
        thread.join()


def test_a_coroutine_can_answer(bench: Bench):
    async def later(request: object, response: object) -> object:
        return answer(request, response)

    bench.node.create_service(srv(SET_BOOL), "switch", later)
    client = bench.node.create_client(srv(SET_BOOL), "switch")
    bench.until(client.service_is_ready)
    future = client.call_async(srv(SET_BOOL).Request(data=True))
    bench.executor.spin_until_future_complete(future, timeout_sec=GIVE_UP_S)
    assert future.result().success


def test_a_callback_can_await_a_service(bench: Bench):
    group = ReentrantCallbackGroup()
    bench.node.create_service(srv(SET_BOOL), "switch", answer, callback_group=group)
    client = bench.node.create_client(srv(SET_BOOL), "switch", callback_group=group)
    bench.until(client.service_is_ready)
    got: list[bool] = []

    async def ask() -> None:
        timer.cancel()
        response = await client.call_async(srv(SET_BOOL).Request(data=True))
        got.append(response.success)

    timer = bench.node.create_timer(0.01, ask, callback_group=group)
    bench.until(lambda: got)
    assert got == [True]
