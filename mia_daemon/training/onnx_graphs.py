"""The baseline's two graphs, spelled out node by node."""

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from mia_daemon.model.manifest import OBSERVATION, SELECTED

_IR_VERSION = 8
_OPSET = 17


def tanh_policy(weights: NDArray[np.float64], bias: float) -> bytes:
    """The policy action = tanh(weights · observation + bias); `weights` (157,)."""
    nodes = [
        helper.make_node("MatMul", ["observation", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["score"]),
        helper.make_node("Tanh", ["score"], ["action"]),
    ]
    return _model("policy", nodes, OBSERVATION, "action", weights=weights.reshape(OBSERVATION, 1), bias=[[bias]])


def sided_logistic(weights: NDArray[np.float64], conviction: float, bias: float) -> bytes:
    """The chance sigmoid(sign(action) · weights · market + conviction · |action| + bias); `weights` (150,).

    The market's values speak for or against a side, so they enter with the side's sign; the policy's own state does
    not enter.
    """
    nodes = [
        helper.make_node("Split", ["observation", "lengths"], ["market", "own", "action"], axis=1),
        helper.make_node("Sign", ["action"], ["side"]),
        helper.make_node("Abs", ["action"], ["size"]),
        helper.make_node("MatMul", ["market", "weights"], ["lean"]),
        helper.make_node("Mul", ["lean", "side"], ["support"]),
        helper.make_node("Mul", ["size", "conviction"], ["boost"]),
        helper.make_node("Add", ["support", "boost"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    lengths = numpy_helper.from_array(np.array([SELECTED, OBSERVATION - SELECTED, 1], np.int64), "lengths")
    constants = {"weights": weights.reshape(SELECTED, 1), "conviction": [[conviction]], "bias": [[bias]]}
    return _model("probability", nodes, OBSERVATION + 1, "probability", lengths, **constants)


def _model(
    name: str, nodes: list[NodeProto], width: int, output: str, *integers: TensorProto, **constants: object
) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 1])],
        [*integers, *(numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in constants.items())],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model: ModelProto = helper.make_model(
        graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="mia-daemon"
    )
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
