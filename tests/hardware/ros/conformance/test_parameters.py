"""Parameters and `--ros-args`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.ros.client import Context, Node, Parameter, message, rclpy
from tests.hardware.ros.conformance.spinning import Bench

pytestmark = pytest.mark.ros


def set_result(successful: bool, reason: str = "") -> object:
    return message("rcl_interfaces/msg/SetParametersResult")(successful=successful, reason=reason)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, Parameter.Type.BOOL),
        (7, Parameter.Type.INTEGER),
        (0.5, Parameter.Type.DOUBLE),
        ("text", Parameter.Type.STRING),
        ([True, False], Parameter.Type.BOOL_ARRAY),
        ([1, 2], Parameter.Type.INTEGER_ARRAY),
        ([0.5, 1.0], Parameter.Type.DOUBLE_ARRAY),
        (["a", "b"], Parameter.Type.STRING_ARRAY),
    ],
)
def test_a_declared_parameter_keeps_value_and_type(bench: Bench, value: object, kind: Parameter.Type):
    declared = bench.node.declare_parameter("p", value)
    assert declared.value == value
    found = bench.node.get_parameter("p")
    assert found.value == value
    assert found.type_ == kind
    assert Parameter.from_parameter_msg(found.to_parameter_msg()).type_ == kind


def test_an_undeclared_parameter_cannot_be_read_or_set(bench: Bench):
    with pytest.raises(Exception, match="nothing_like_it"):
        bench.node.get_parameter("nothing_like_it")
    with pytest.raises(Exception, match=r"undeclared|not declared") as refused:  # rclpy leaves the name out
        bench.node.set_parameters([Parameter("nothing_like_it", value=1)])
    assert type(refused.value).__name__ == "ParameterNotDeclaredException"


def test_a_parameter_cannot_be_declared_twice(bench: Bench):
    bench.node.declare_parameter("p", 1)
    with pytest.raises(Exception, match="p"):
        bench.node.declare_parameter("p", 1)


def test_a_parameters_type_is_fixed(bench: Bench):
    bench.node.declare_parameter("rate_hz", 10.0)
    (result,) = bench.node.set_parameters([Parameter("rate_hz", value="fast")])
    assert not result.successful
    assert bench.node.get_parameter("rate_hz").value == 10.0


def test_a_callback_can_refuse_a_value(bench: Bench):
    bench.node.declare_parameter("rate_hz", 10.0)
    bench.node.add_on_set_parameters_callback(lambda given: set_result(given[0].value > 0, "must be positive"))
    refused, taken = bench.node.set_parameters([Parameter("rate_hz", value=-1.0), Parameter("rate_hz", value=5.0)])
    assert (refused.successful, refused.reason) == (False, "must be positive")
    assert taken.successful
    assert bench.node.get_parameter("rate_hz").value == 5.0


def test_parameters_set_atomically_change_together_or_not_at_all(bench: Bench):
    bench.node.declare_parameters("", [("a", 1), ("b", 2)])
    result = bench.node.set_parameters_atomically([Parameter("a", value=5), Parameter("b", value="wrong")])
    assert not result.successful
    assert [p.value for p in bench.node.get_parameters(["a", "b"])] == [1, 2]


def test_parameters_by_prefix_lose_the_prefix(bench: Bench):
    bench.node.declare_parameters("limits", [("low", -1.0), ("high", 1.0)])
    found = bench.node.get_parameters_by_prefix("limits")
    assert {name: p.value for name, p in found.items()} == {"low": -1.0, "high": 1.0}


def test_a_declared_type_without_a_value_cannot_be_read(bench: Bench):
    bench.node.declare_parameter("config", Parameter.Type.STRING)
    with pytest.raises(Exception, match="config"):
        bench.node.get_parameter("config")


def node_with(arguments: list[str], name: str = "arm", namespace: str = "/ur5e") -> Node:
    return Node(name, namespace=namespace, cli_args=["--ros-args", *arguments])


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("true", False, True),
        ("42", 0, 42),
        ("2.5", 0.0, 2.5),
        ("1e3", 0.0, 1000.0),
        ("/path/to.json", "", "/path/to.json"),
        ("'42'", "", "42"),
        ("[1.0, 2.5]", [0.0], [1.0, 2.5]),
        ("[a, b]", [""], ["a", "b"]),
    ],
)
def test_p_overrides_a_parameter_with_its_yaml_value(bench: Bench, text: str, default: object, value: object):
    node = node_with(["-p", f"given:={text}"])
    try:
        assert node.declare_parameter("given", default).value == value
    finally:
        node.destroy_node()


def test_an_override_of_another_type_is_refused(bench: Bench):
    node = node_with(["-p", "rate_hz:=10"])
    try:
        with pytest.raises(Exception, match="rate_hz"):
            node.declare_parameter("rate_hz", 1.0)
    finally:
        node.destroy_node()


@pytest.mark.parametrize(("namespace", "depth"), [("/", 2), ("/ur5e", 9)])
def test_p_with_a_node_means_the_one_of_that_name_in_the_root_namespace(bench: Bench, namespace: str, depth: int):
    node = node_with(["-p", "other:rate:=1", "-p", "arm:depth:=2"], namespace=namespace)
    try:
        assert node.declare_parameter("rate", 9).value == 9
        assert node.declare_parameter("depth", 9).value == depth
    finally:
        node.destroy_node()


@pytest.mark.parametrize("namespace", ["/", "/ur5e"])
@pytest.mark.parametrize(("rule", "topic"), [("arm:flag:=/there", "/there"), ("other:flag:=/there", None)])
def test_r_with_a_node_means_those_of_that_name_in_every_namespace(
    bench: Bench, namespace: str, rule: str, topic: str | None
):
    node = node_with(["-r", rule], namespace=namespace)
    try:
        assert node.resolve_topic_name("flag") == (topic or f"{namespace.rstrip('/')}/flag")
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arm", 9),
        ("/arm", 9),
        ("ur5e/arm", 1),
        ("/ur5e/arm", 1),
        ("/**/arm", 1),
        ("**/arm", 1),
        ("/*/arm", 1),
        ("*", 9),
        ("/*", 9),
        ("/ur5e/*", 1),
        ("**", 1),
        ("ur5e/**", 1),
    ],
)
def test_a_node_in_a_params_file_is_a_full_name_or_a_pattern(bench: Bench, tmp_path: Path, key: str, value: int):
    path = tmp_path / "params.yaml"
    path.write_text(f'"{key}":\n  ros__parameters: {{x: 1}}\n')
    node = node_with(["--params-file", str(path)])
    try:
        assert node.declare_parameter("x", 9).value == value
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "/arm:x:=1"],
        ["-p", "/ur5e/arm:x:=1"],
        ["-p", "ur5e/arm:x:=1"],
        ["-p", "*:x:=1"],
        ["-r", "/ur5e/arm:flag:=there"],
        ["-r", "*:flag:=there"],
        ["-r", "flag:=/"],
        ["-r", "flag:=a//b"],
        ["-r", "__ns:=far"],
        ["-r", "__node:=a-b"],
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(bench: Bench, words: list[str]):
    with pytest.raises(Exception, match=r"ros-args|parse") as refused:
        node_with(words)
    assert type(refused.value).__name__ == "RCLInvalidROSArgsError"


def test_a_params_file_gives_values_by_node(bench: Bench, tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  ros__parameters: {everywhere: 1, twice: 1}\n"
        "/ur5e/arm:\n  ros__parameters:\n    twice: 2\n    limits: {low: -1.5, names: [a, b]}\n"
        "/fr3:\n  arm:\n    ros__parameters: {foreign: 1}\n"
    )
    node = node_with(["--params-file", str(path)])
    try:
        assert node.declare_parameter("everywhere", 0).value == 1
        assert node.declare_parameter("twice", 0).value == 2
        assert node.declare_parameter("limits.low", 0.0).value == -1.5
        assert node.declare_parameter("limits.names", [""]).value == ["a", "b"]
        assert node.declare_parameter("foreign", 0).value == 0
    finally:
        node.destroy_node()


def test_r_renames_topics_node_and_namespace(bench: Bench):
    rules = ["-r", "image:=/camera/image", "-r", "__node:=eye", "-r", "__ns:=/head", "-r", "~/info:=details"]
    node = node_with(rules)
    try:
        assert node.get_fully_qualified_name() == "/head/eye"
        names = [
            node.create_publisher(message("std_msgs/msg/Bool"), name, 1).topic_name for name in ("image", "~/info")
        ]
        assert names == ["/camera/image", "/head/details"]
    finally:
        node.destroy_node()


def test_arguments_of_the_process_count_for_every_node(ros_domain: dict[str, str]):
    context = Context()
    rclpy.init(args=["program", "--ros-args", "-p", "rate:=3", "-r", "a:=b", "--", "other"], context=context)
    node = Node("arm", context=context)
    apart = Node("apart", context=context, use_global_arguments=False)
    try:
        assert node.declare_parameter("rate", 1).value == 3
        assert apart.declare_parameter("rate", 1).value == 1
        assert node.resolve_topic_name("a") == "/b"
        assert apart.resolve_topic_name("a") == "/a"
    finally:
        node.destroy_node()
        apart.destroy_node()
        rclpy.shutdown(context=context)


def test_overrides_in_code_win_over_arguments(bench: Bench):
    node = Node("arm", cli_args=["--ros-args", "-p", "rate:=3"], parameter_overrides=[Parameter("rate", value=4)])
    try:
        assert node.declare_parameter("rate", 1).value == 4
        assert bench.node.declare_parameter("rate", 1).value == 1
    finally:
        node.destroy_node()


def test_overrides_can_declare_themselves(bench: Bench):
    node = Node(
        "arm",
        cli_args=["--ros-args", "-p", "a.b:=3"],
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        assert node.get_parameter("a.b").value == 3
    finally:
        node.destroy_node()
