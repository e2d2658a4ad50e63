"""What an ONNX graph of a bundle may contain, checked before onnxruntime sees it.

A graph computes one number from one vector. It needs no file beside its own, no loop, no branch and no operator that
makes an output of a size stated by values, so each of these is refused: the hash of its file then covers all that it
computes with, and how much one run needs is known from the first. `mia_daemon.model.onnx_session` limits that.

Only the fields that these rules are about are parsed (numbers of onnx.proto); everything else is skipped.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from mia_daemon.errors import BundleError

MAX_NODES: Final = 10_000
"""Loads in a quarter of a second; a network of fifty layers has some two hundred."""

MAX_ELEMENTS: Final = 1 << 24
"""Of all tensors in the file together: 64 MiB of float32."""

MAX_WORK: Final = 1_000_000_000
"""Nodes times elements of the largest tensor: onnxruntime rearranges a tensor for every node that takes it."""

_STRING_TENSOR: Final = 8  # TensorProto.DataType

_STANDARD: Final = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu
    Clip Concat Constant Conv Cos Cosh CumSum Div Dropout Einsum Elu Equal Erf Exp Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pow
    RMSNormalization Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu TopK Transpose Trilu Unsqueeze Where
    Xor
"""
_MACHINE_LEARNING: Final = """
    ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer LinearClassifier LinearRegressor Normalizer SVMClassifier
    SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
"""
_OPERATORS: Final = {"": frozenset(_STANDARD.split()), "ai.onnx.ml": frozenset(_MACHINE_LEARNING.split())}
"""By domain."""

_Field: Final = descriptor_pb2.FieldDescriptorProto
_MESSAGES: Final = {
    "Model": (("graph", 7, "Graph"), ("training_info", 20, "*Any"), ("functions", 25, "*Any")),
    "Graph": (("node", 1, "*Node"), ("initializer", 5, "*Tensor"), ("sparse_initializer", 15, "*Any")),
    "Node": (("op_type", 4, _Field.TYPE_BYTES), ("attribute", 5, "*Attribute"), ("domain", 7, _Field.TYPE_BYTES)),
    "Attribute": (
        ("t", 5, "Tensor"), ("g", 6, "*Any"), ("tensors", 10, "*Tensor"), ("graphs", 11, "*Any"),
        ("sparse_tensor", 22, "*Any"), ("sparse_tensors", 23, "*Any"),
    ),
    "Tensor": (
        ("dims", 1, "*"), ("data_type", 2, _Field.TYPE_INT32), ("name", 8, _Field.TYPE_BYTES),
        ("external_data", 13, "*Any"), ("data_location", 14, _Field.TYPE_INT32),
    ),
    "Any": (),
}  # fmt: skip
"""Message: its fields, each with its number in onnx.proto and its type; "*" before the type: repeated, alone: int64."""


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="graph_limits.proto", package="graph_limits", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            entry = message.field.add(name=field, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(kind, int):
                entry.type = kind
                continue
            if kind.startswith("*"):
                entry.label = _Field.LABEL_REPEATED
            if kind == "*":
                entry.type = _Field.TYPE_INT64
            else:
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".graph_limits.{kind.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("graph_limits.Model"))


_Model: Final = _message_class()


def check_graph(data: bytes, file: str) -> None:
    """Refuse what a bundle's graph may not contain.

    Args:
        data: the content of an .onnx file.
        file: its name, for the message.

    Raises:
        BundleError: `data` is no ONNX model, or breaks one of the rules above.
    """
    model = _Model()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"{file} is not an ONNX graph ({error}): export it again") from error
    if fault := next(_faults(model), None):
        raise BundleError(f"{file} is refused: {fault}")


def _faults(model: Any) -> Iterator[str]:
    graph, tensors = model.graph, list(model.graph.initializer)
    if len(graph.node) > MAX_NODES:
        yield f"it has {len(graph.node)} nodes, {MAX_NODES} are allowed: export a smaller network"
    if model.training_info or model.functions:
        yield "it brings functions or training steps of its own: export the plain graph"
    if graph.sparse_initializer:
        yield _SPARSE
    for node in graph.node:
        yield from _operator_faults(_text(node.domain), _text(node.op_type))
        for attribute in node.attribute:
            if attribute.g or attribute.graphs:
                yield "it has a loop or a branch: export a graph without control flow"
            if attribute.sparse_tensor or attribute.sparse_tensors:
                yield _SPARSE
            tensors += [attribute.t, *attribute.tensors]
    yield from _tensor_faults(tensors, len(graph.node))


_SPARSE: Final = "it has a sparse tensor: export it with dense ones"


def _operator_faults(domain: str, name: str) -> Iterator[str]:
    if name not in _OPERATORS.get("" if domain == "ai.onnx" else domain, ()):
        yield (
            f"operator {f'{domain}:' if domain else ''}{name} is not among those that a bundle may use "
            "(mia_daemon/model/graph_limits.py lists them): export it with others"
        )


def _tensor_faults(tensors: list[Any], nodes: int) -> Iterator[str]:
    elements = largest = 0
    for tensor in tensors:
        name = _text(tensor.name) or "a constant"
        if tensor.external_data or tensor.data_location:
            yield f"the values of {name} are in another file, which its hash does not cover: export it as one file"
        if tensor.data_type == _STRING_TENSOR:
            yield f"{name} holds text: export a graph of numbers"
        if any(size < 0 for size in tensor.dims):
            yield f"{name} has a negative size: export it again"
        size = math.prod(tensor.dims) if tensor.data_type else 0
        elements, largest = elements + size, max(largest, size)
    if elements > MAX_ELEMENTS:
        yield f"its tensors have {elements} elements, {MAX_ELEMENTS} are allowed: export a smaller network"
    if nodes * largest > MAX_WORK:
        yield f"it has {nodes} nodes and a tensor of {largest} elements: export a smaller network"


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
