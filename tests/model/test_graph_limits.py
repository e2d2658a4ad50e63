"""Graphs that a bundle may not have: weights elsewhere, more memory or time than it may take, code of their own."""

import itertools
import resource
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mia_daemon.errors import BundleError
from mia_daemon.model import bundle, onnx_session
from mia_daemon.model.graph import Graph
from mia_daemon.model.graph_limits import MAX_ELEMENTS, MAX_NODES, check_graph
from mia_daemon.training.onnx_graphs import tanh_policy

node = helper.make_node


def policy():
    return onnx.load_from_string(tanh_policy(np.full(157, 0.01), 0.0))


def whole(numbers, name):
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def ones(*shape, name):
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def model(nodes, *tensors):
    """A policy that adds up what `nodes` make of the observation, their output being "made"."""
    rest = [
        node("ReduceMax", ["made"], ["peak"], keepdims=0),
        node("Reshape", ["peak", "one_by_one"], ["action"]),
    ]
    graph = helper.make_graph(
        [*nodes, *rest],
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, [1, 157])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, 1])],
        [*tensors, whole([1, 1], "one_by_one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def refusal(made):
    """What is said of it: one line. It takes no memory and no time to say so."""
    data = made if isinstance(made, bytes) else made.SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError) as refused:
        Graph(data, "policy.onnx", "observation", 157, "action")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (onnx_session.MEMORY_MIB + 128) << 10
    text = str(refused.value)
    assert text.startswith("policy.onnx ")
    assert "\n" not in text
    return text


def external(tensor, *, keep_values=False):
    if not keep_values:
        tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "628")):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("keep_values", [False, True])
def test_weights_in_another_file_are_refused_though_the_file_is_there(tmp_path, monkeypatch, keep_values):
    made = policy()
    (tmp_path / "weights.bin").write_bytes(made.graph.initializer[0].raw_data)
    external(made.graph.initializer[0], keep_values=keep_values)
    monkeypatch.chdir(tmp_path)  # where onnxruntime would find it
    assert "the values of weights are in another file, which its hash does not cover" in refusal(made)


def test_a_constant_in_another_file_is_refused(tmp_path, monkeypatch):
    tensor = ones(157, 1, name="w")
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    external(tensor)
    monkeypatch.chdir(tmp_path)
    made = model([node("Constant", [], ["w"], value=tensor), node("MatMul", ["observation", "w"], ["made"])])
    assert "in another file" in refusal(made)


def test_a_bundle_with_weights_in_another_file_is_refused(copy, monkeypatch):
    made = onnx.load_from_string((copy.path / "policy.onnx").read_bytes())
    external(made.graph.initializer[0])
    copy.replace("policy.onnx", made.SerializeToString())
    with pytest.raises(BundleError, match=r"^policy\.onnx is refused: the values of weights are in another file"):
        copy.load()


HUGE = [1 << 15, 1 << 15]  # 4 GiB of float32


def declared(*sizes):
    tensor = TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=sizes)
    return model([node("Identity", ["huge"], ["made"])], tensor)


def doubled(times):
    nodes = [node("Identity", ["observation"], ["x0"])]
    nodes += [node("Concat", [f"x{n}", f"x{n}"], [f"x{n + 1}"], axis=1) for n in range(times)]
    return model([*nodes, node("Identity", [f"x{times}"], ["made"])])


SUM = node("ReduceSum", ["observation"], ["sum"])
COLUMN, ROW = ones(1 << 15, 1, name="column"), ones(1, 1 << 15, name="row")
BEYOND = "within 5 s and 256 MiB of memory"

BOMBS = {
    "a size in a constant": (
        model([node("ConstantOfShape", ["size"], ["made"])], whole(HUGE, "size")), "operator ConstantOfShape",
    ),
    "an expanded value": (
        model([SUM, node("Expand", ["sum", "size"], ["made"])], whole(HUGE, "size")), "operator Expand",
    ),
    "a declared size": (declared(1 << 20, 1 << 12), f"elements, {MAX_ELEMENTS} are allowed"),
    "a negative size": (declared(-1, 1 << 40), "huge has a negative size"),
    "a product of constants": (model([node("Mul", ["column", "row"], ["made"])], COLUMN, ROW), BEYOND),
    "a product of the observation": (
        model([SUM, node("Mul", ["sum", "row"], ["long"]), node("Mul", ["long", "column"], ["made"])], COLUMN, ROW),
        BEYOND,
    ),
    "doubled again and again": (doubled(40), BEYOND),
    "a large tensor for many nodes": (
        model(
            [node("Identity", ["observation"], ["made"]), *[node("Mul", ["w", "w"], ["z"])] * 2000],
            ones(1 << 20, name="w"),
        ),
        "2003 nodes and a tensor of 1048576 elements",
    ),
    "more nodes than a network has": (
        model([node("Identity", ["observation"], ["made"])] * (MAX_NODES + 1)), f"{MAX_NODES} are allowed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "says"), BOMBS.values(), ids=BOMBS)
def test_a_small_graph_that_asks_for_much_memory_is_refused_before_it_has_it(made, says):
    assert says in refusal(made)


def test_a_graph_that_runs_too_long_is_ended():
    side = 1500  # 13 trillion operations in all
    nodes = [node("ReduceSum", ["observation"], ["sum"]), node("Mul", ["a", "sum"], ["x0"])]
    nodes += [node("MatMul", [f"x{n}", f"x{n}"], [f"x{n + 1}"]) for n in range(2000)]
    nodes += [node("Identity", ["x2000"], ["made"])]
    data = model(nodes, ones(side, side, name="a")).SerializeToString()
    session = onnx_session.open_session(data)
    binding = session.io_binding()
    binding.bind_cpu_input("observation", np.zeros((1, 157), np.float32))
    binding.bind_output("action")
    with pytest.raises(onnx_session.REFUSALS, match="terminate"):
        onnx_session.run_once(session, binding, limit_s=0.1)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def looped():
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"])], "body",
        [helper.make_tensor_value_info(*value, []) for value in (("n", TensorProto.INT64), ("go", TensorProto.BOOL))],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )  # fmt: skip
    return model([node("Loop", ["count", ""], [], body=body), node("Identity", ["observation"], ["made"])])


def hidden_graph():
    """An operator that may be used, with a graph as an attribute that it does not have."""
    made = model([node("Identity", ["observation"], ["made"])])
    made.graph.node[0].attribute.append(helper.make_attribute("body", policy().graph))
    return made


def with_function():
    made = policy()
    made.functions.append(
        helper.make_function("own", "Mine", ["x"], ["y"], [node("Tanh", ["x"], ["y"])], made.opset_import)
    )
    return made


def of_text():
    text = helper.make_tensor("text", TensorProto.STRING, [1], [b"a"])
    return model([node("Identity", ["observation"], ["made"])], text)


OTHERS = {
    "a loop": (looped, "operator Loop"),
    "a graph in an attribute": (hidden_graph, "a loop or a branch"),
    "a function": (with_function, "functions or training steps of its own"),
    "an operator of onnxruntime's own": (
        lambda: model([node("Gelu", ["observation"], ["made"], domain="com.microsoft")]), "operator com.microsoft:Gelu",
    ),
    "chance": (lambda: model([node("RandomNormal", [], ["made"], shape=[1, 157])]), "operator RandomNormal"),
    "text": (of_text, "text holds text"),
    "a sparse tensor": (
        lambda: model([node("Constant", [], ["made"], sparse_value=helper.make_sparse_tensor(
            ones(1, name="v"), whole([0], "i"), [157]))]), "sparse tensor",
    ),
    "no graph": (lambda: b"not a graph", "is not an ONNX graph"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "says"), OTHERS.values(), ids=OTHERS)
def test_what_no_policy_needs_is_refused(make, says):
    assert says in refusal(make())


def test_a_network_of_the_usual_operators_passes():
    sizes = (157, 256, 256, 1)
    nodes, tensors, last = [], [], "observation"
    for n, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        tensors += [ones(wide, narrow, name=f"w{n}"), ones(narrow, name=f"b{n}")]
        nodes += [node("Gemm", [last, f"w{n}", f"b{n}"], [f"g{n}"]), node("Relu", [f"g{n}"], [f"r{n}"])]
        last = f"r{n}"
    data = model([*nodes, node("Tanh", [last], ["made"])], *tensors).SerializeToString()
    graph = Graph(data, "policy.onnx", "observation", 157, "action")
    assert graph(np.zeros(157, np.float32)) == pytest.approx(np.tanh(256.0 * 257.0 + 1.0))


def test_the_shipped_graphs_pass():
    for path in bundle.shipped().glob("*.onnx"):
        check_graph(path.read_bytes(), path.name)
