"""onnxruntime: the one module that imports it (ruff refuses it elsewhere), so that it is set up in one way.

Its telemetry is off: mia_daemon/__init__.py sets ORT_DISABLE_TELEMETRY, which onnxruntime reads when it is imported.
"""

from typing import Final

import onnxruntime as ort  # noqa: TID251  this module is its home
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # noqa: TID251  as above

VERSION: Final[str] = ort.__version__

REFUSALS: Final = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What onnxruntime raises for bytes that are no graph it can run; it has no common base class."""


def open_session(data: bytes) -> ort.InferenceSession:
    """A session for the graph in `data`.

    It has one thread and does not spin: at this size more threads gain nothing and would take a second core.

    Raises:
        one of REFUSALS: the bytes are no graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what is wrong with a graph is said by the error, not on stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
