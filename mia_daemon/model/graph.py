"""One ONNX graph as a function of one vector: one thread, buffers bound once, nothing allocated in a call."""

from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from mia_daemon.errors import BundleError

_FLOAT: Final = "tensor(float)"
_REFUSALS = (
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


class Graph:
    """A graph with one input (1, width) and one output (1, 1), both float32, in an onnxruntime session.

    The session has one thread and does not spin: at this size more threads gain nothing and would take a second core.
    Not for use from several threads at once.

    Attributes:
        vector: (width,) float32, the input buffer; whoever calls writes here, then calls `run`. Several graphs may be
            given the same one, or parts of it.

    Raises:
        BundleError: the bytes are no graph, or its input or output is not as named here.
    """

    def __init__(
        self,
        data: bytes,
        file: str,
        input_name: str,
        width: int,
        output_name: str,
        vector: NDArray[np.float32] | None = None,
    ) -> None:
        self.file = file
        self.vector = np.zeros(width, np.float32) if vector is None else vector
        assert self.vector.shape == (width,)
        assert self.vector.flags.c_contiguous
        try:
            self._session = ort.InferenceSession(data, _options(), providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            first_line = str(error).partition("\n")[0]
            raise BundleError(
                f"{file} is not an ONNX graph that onnxruntime {ort.__version__} can run ({first_line}): "
                "export it again"
            ) from error
        self._check("input", self._session.get_inputs(), input_name, width)
        self._check("output", self._session.get_outputs(), output_name, 1)
        self._result = np.zeros((1, 1), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_input(input_name, "cpu", 0, np.float32, (1, width), self.vector.ctypes.data)
        self._binding.bind_output(output_name, "cpu", 0, np.float32, (1, 1), self._result.ctypes.data)

    def _check(self, what: str, found: list[ort.NodeArg], name: str, width: int) -> None:
        expected = (name, [1, width], _FLOAT)
        have = [(node.name, node.shape, node.type) for node in found]
        if have != [expected]:
            raise BundleError(
                f"{self.file} must have one {what} {_spell(expected)}, found "
                f"{' and '.join(map(_spell, have)) or 'none'}: export it again"
            )

    def run(self) -> float:
        """The output for what `vector` holds. A NaN goes through: refuse it before."""
        self._session.run_with_iobinding(self._binding)
        return float(self._result[0, 0])

    def __call__(self, vector: NDArray[np.float32]) -> float:
        """The output for `vector`, (width,) float32."""
        self.vector[:] = vector
        return self.run()


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what is wrong with a graph is said by the error, not on stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _spell(node: tuple[str, list[int], str]) -> str:
    name, shape, kind = node
    return f"{name!r} {tuple(shape)} {kind}"
