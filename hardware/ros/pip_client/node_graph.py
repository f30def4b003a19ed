"""What a node can ask about the others in its domain."""

from __future__ import annotations

from hardware.ros.pip_client import names
from hardware.ros.pip_client.context import Context
from hardware.ros.pip_client.graph import TopicEndpointInfo


class NodeGraph:
    """Mixed into `Node`, which gives it a context and name resolution."""

    context: Context

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """Absolute name after remapping."""
        raise NotImplementedError

    def _full(self, topic: str) -> str:
        return names.TOPIC + self.resolve_topic_name(topic)

    def count_publishers(self, topic_name: str) -> int:
        """Publishers of a topic, in all processes."""
        wanted = self._full(topic_name)
        return sum(sample.topic_name == wanted for sample in self.context.graph.writers())

    def count_subscribers(self, topic_name: str) -> int:
        """Subscriptions to a topic, in all processes."""
        wanted = self._full(topic_name)
        return sum(sample.topic_name == wanted for sample in self.context.graph.readers())

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        """Publishers of a topic with node, type and quality of service."""
        return self.context.graph.endpoints(topic_name if no_mangle else self._full(topic_name), writers=True)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        """Subscriptions to a topic with node, type and quality of service."""
        return self.context.graph.endpoints(topic_name if no_mangle else self._full(topic_name), writers=False)

    def get_topic_names_and_types(self, no_demangle: bool = False) -> list[tuple[str, list[str]]]:
        """Every topic in the domain."""
        return self.context.graph.types_by_name("" if no_demangle else names.TOPIC)

    def get_service_names_and_types(self) -> list[tuple[str, list[str]]]:
        """Every service in the domain."""
        found = self.context.graph.types_by_name(names.REQUEST)
        ends = ((name.removesuffix("Request"), types) for name, types in found if name.endswith("Request"))
        return [(name, [kind.removesuffix("_Request") for kind in types]) for name, types in ends]

    def get_node_names(self) -> list[str]:
        """Every node in the domain, without namespaces."""
        return [node.name for node in self.context.graph.nodes()]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        """Every node in the domain."""
        return [(node.name, node.namespace) for node in self.context.graph.nodes()]

    def get_fully_qualified_node_names(self) -> list[str]:
        """Every node in the domain, namespace and name."""
        return [names.join(node.namespace, node.name) for node in self.context.graph.nodes()]
