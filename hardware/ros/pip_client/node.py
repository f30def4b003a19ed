"""A node: the owner of publishers, subscriptions, timers, services and parameters under one name."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from hardware.ros.pip_client import names
from hardware.ros.pip_client.arguments import parse
from hardware.ros.pip_client.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from hardware.ros.pip_client.context import Context, default_context
from hardware.ros.pip_client.endpoints import (
    Publisher,
    PublisherEventCallbacks,
    Subscription,
    SubscriptionEventCallbacks,
)
from hardware.ros.pip_client.entities import Spinner
from hardware.ros.pip_client.exceptions import InvalidParameterValueException, NotInitializedException
from hardware.ros.pip_client.graph import NodeEntities
from hardware.ros.pip_client.guard import GuardCondition
from hardware.ros.pip_client.logging import RcutilsLogger, get_logger
from hardware.ros.pip_client.node_graph import NodeGraph
from hardware.ros.pip_client.node_parameters import NodeParameters
from hardware.ros.pip_client.parameters import Parameter, ParameterStore
from hardware.ros.pip_client.qos import QoSProfile, as_profile, qos_profile_services_default
from hardware.ros.pip_client.services import Client, Service
from hardware.ros.pip_client.time import NS_PER_S, Clock, ClockType
from hardware.ros.pip_client.timers import Timer


class Node(NodeParameters, NodeGraph):
    """rclpy's Node, as far as robot-rl's nodes use it.

    Args:
        node_name: Letters, digits, underscores; `-r __node:=` replaces it.
        context: None takes the default one.
        cli_args: Arguments for this node only, from `--ros-args` on.
        namespace: Where relative names live; `-r __ns:=` replaces it.
        use_global_arguments: Whether the process's arguments count for it.
        parameter_overrides: Values that win over those of arguments.
        allow_undeclared_parameters: Setting an undeclared parameter declares it.
        automatically_declare_parameters_from_overrides: Declare all that have an override.
        _other: rclpy's further keywords, which name services that are not offered here.
    """

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: Sequence[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        parameter_overrides: Sequence[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        **_other: Any,
    ) -> None:
        self.context = context if context is not None else default_context()
        if not self.context.ok():
            raise NotInitializedException("rclpy.init() has not been called")
        self._rules = [parse(cli_args)] if cli_args else []
        if use_global_arguments:
            self._rules.append(self.context.arguments)
        self._name = self._own("__node", node_name, node_name) or node_name
        self._namespace = names.full_namespace(self._own("__ns", node_name, self._name) or namespace)
        names.check_node_name(self._name)
        self._executor: weakref.ReferenceType[Spinner] | None = None
        self._open = True
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._services: list[Service] = []
        self._clients: list[Client] = []
        self._timers: list[Timer] = []
        self._guards: list[GuardCondition] = []
        self.waitables: tuple[Any, ...] = ()
        self._group = MutuallyExclusiveCallbackGroup()
        self._clock = Clock(clock_type=ClockType.ROS_TIME)
        self._logger = get_logger(self.get_fully_qualified_name().strip("/").replace("/", "."))
        overrides: dict[str, Any] = {}
        for rules in reversed(self._rules):
            overrides |= rules.overrides(self.get_fully_qualified_name())
        overrides |= {parameter.name: parameter.value for parameter in parameter_overrides or []}
        self._parameters = ParameterStore(overrides, allow_undeclared_parameters)
        if self.declare_parameter("use_sim_time", False).value:
            raise InvalidParameterValueException("use_sim_time is true: simulated time is not offered without rclpy")
        if automatically_declare_parameters_from_overrides:
            for name, value in overrides.items():
                if not self._parameters.has(name):
                    self.declare_parameter(name, value)
        self.context.participant  # noqa: B018  # joins the domain
        self.context.add_node(self)
        self.changed()

    def _own(self, what: str, given_name: str, name: str) -> str | None:
        for rules in self._rules:
            found = rules.own_name(what, name) or rules.own_name(what, given_name)
            if found is not None:
                return found
        return None

    # Names, clock and logger

    def get_name(self) -> str:
        """Without namespace."""
        return self._name

    def get_namespace(self) -> str:
        """With a slash in front."""
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name."""
        return names.join(self._namespace, self._name)

    def get_clock(self) -> Clock:
        """The node's clock."""
        return self._clock

    def get_logger(self) -> RcutilsLogger:
        """The node's logger."""
        return self._logger

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Absolute name after remapping."""
        return names.resolve(topic, self._namespace, self._name, self._rules, only_expand)

    resolve_service_name = resolve_topic_name

    # What the node owns

    @property
    def default_callback_group(self) -> CallbackGroup:
        """Group of everything that was not given another; one callback at a time."""
        return self._group

    @property
    def publishers(self) -> list[Publisher]:
        """Publishers now."""
        return list(self._publishers)

    @property
    def subscriptions(self) -> list[Subscription]:
        """Subscriptions now."""
        return list(self._subscriptions)

    @property
    def timers(self) -> list[Timer]:
        """Timers now."""
        return list(self._timers)

    @property
    def services(self) -> list[Service]:
        """Services now."""
        return list(self._services)

    @property
    def clients(self) -> list[Client]:
        """Clients now."""
        return list(self._clients)

    @property
    def executor(self) -> Spinner | None:
        """Executor that spins the node, if any."""
        return self._executor() if self._executor is not None else None

    @executor.setter
    def executor(self, new: Spinner | None) -> None:
        current = self.executor
        if current is new:
            return
        self._executor = None if new is None else weakref.ref(new)
        if current is not None:
            current.remove_node(self)
        if new is not None:
            new.add_node(self)

    def changed(self) -> None:
        """Tell the executor what to wait for and other participants what there is."""
        ends: list[Any] = [*self._publishers, *self._subscriptions]
        events = [event for end in ends for event in end.event_handlers]
        self.waitables = (*self._guards, *self._subscriptions, *self._clients, *self._services, *events)
        if self.executor is not None:
            self.executor.wake()

    def entities(self) -> NodeEntities:
        """What the participant announces of this node."""
        ends: list[Any] = [*self._clients, *self._services]
        readers = [end.reader.guid for end in [*self._subscriptions, *ends]]
        writers = [end.writer.guid for end in [*self._publishers, *ends]]
        return NodeEntities(self._namespace, self._name, tuple(readers), tuple(writers))

    def _announce(self) -> None:
        self.changed()
        self.context.announce()

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
    ) -> Publisher:
        """Publisher of a topic."""
        name, group = self.resolve_topic_name(topic), callback_group or self._group
        publisher = Publisher(self, msg_type, name, as_profile(qos_profile), group, event_callbacks)
        self._publishers.append(publisher)
        self._announce()
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], Any],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        raw: bool = False,
    ) -> Subscription:
        """Subscription to a topic; `raw` hands over the encoded bytes."""
        name, group = self.resolve_topic_name(topic), callback_group or self._group
        profile = as_profile(qos_profile)
        made = Subscription(self, msg_type, name, callback, profile, group, event_callbacks, raw)
        self._subscriptions.append(made)
        self._announce()
        return made

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], Any],
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
    ) -> Timer:
        """Timer that calls back once per period [s]."""
        period_ns = int(float(timer_period_sec) * NS_PER_S)
        timer = Timer(self, period_ns, callback, callback_group or self._group, clock or self._clock)
        self._timers.append(timer)
        self.changed()
        return timer

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        """Service; the callback fills and returns the response."""
        name = self.resolve_service_name(srv_name)
        service = Service(self, srv_type, name, callback, qos_profile, callback_group or self._group)
        self._services.append(service)
        self._announce()
        return service

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        """Client of a service."""
        name = self.resolve_service_name(srv_name)
        client = Client(self, srv_type, name, qos_profile, callback_group or self._group)
        self._clients.append(client)
        self._announce()
        return client

    def create_guard_condition(
        self, callback: Callable[[], Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        """Callback that any thread can ask the executor to run."""
        guard = GuardCondition(self, callback, callback_group or self._group)
        self._guards.append(guard)
        self.changed()
        return guard

    def forget(self, end: Any) -> bool:
        """End something that the node owns; False where it is another's."""
        every: tuple[list[Any], ...] = (
            *(self._publishers, self._subscriptions, self._services, self._clients),
            *(self._timers, self._guards),
        )
        owned = next((each for each in every if end in each), None)
        if owned is None:
            return False
        owned.remove(end)
        self.changed()
        if isinstance(end, Timer):
            end.cancel()
        elif not isinstance(end, GuardCondition):
            end.close()
            self.context.announce()
        return True

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """End a publisher; False where it is not this node's."""
        return publisher in self._publishers and self.forget(publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        """End a subscription; False where it is not this node's."""
        return subscription in self._subscriptions and self.forget(subscription)

    def destroy_service(self, service: Service) -> bool:
        """End a service; False where it is not this node's."""
        return service in self._services and self.forget(service)

    def destroy_client(self, client: Client) -> bool:
        """End a client; False where it is not this node's."""
        return client in self._clients and self.forget(client)

    def destroy_timer(self, timer: Timer) -> bool:
        """End a timer; False where it is not this node's."""
        return timer in self._timers and self.forget(timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        """End a guard condition; False where it is not this node's."""
        return guard in self._guards and self.forget(guard)

    def destroy_node(self) -> None:
        """End everything that the node owns, and the node."""
        if not self._open:
            return
        self._open = False
        ends: list[Any] = [*self._publishers, *self._subscriptions, *self._services, *self._clients]
        for owned in (self._publishers, self._subscriptions, self._services, self._clients):
            owned.clear()
        self._timers.clear()
        self._guards.clear()
        self.changed()
        self.executor = None
        for end in ends:
            end.close()
        self.context.remove_node(self)
