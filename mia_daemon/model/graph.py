"""One ONNX graph as a function of one vector: one thread, buffers bound once, nothing allocated in a call."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import BundleError
from mia_daemon.model.graph_limits import check_graph
from mia_daemon.model.onnx_session import MEMORY_MIB, REFUSALS, RUN_S, VERSION, open_session, run_once

_FLOAT: Final = "tensor(float)"


class Graph:
    """A graph with one input (1, width) and one output (1, 1), both float32, in an onnxruntime session.

    Not for use from several threads at once.

    Attributes:
        vector: (width,) float32, the input buffer; whoever calls writes here, then calls `run`. Several graphs may be
            given the same one, or parts of it.

    Raises:
        BundleError: the bytes are no graph, or one that a bundle may not have (`graph_limits`); its input or output is
            not as named here; it needs more time or memory than it may (`onnx_session`).
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
        check_graph(data, file)
        try:
            self._session = open_session(data)
        except REFUSALS as error:
            raise BundleError(
                f"{file} is not an ONNX graph that onnxruntime {VERSION} can run ({_first_line(error)}): "
                "export it again"
            ) from error
        self._check("input", self._session.get_inputs(), input_name, width)
        self._check("output", self._session.get_outputs(), output_name, 1)
        self._result = np.zeros((1, 1), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_input(input_name, "cpu", 0, np.float32, (1, width), self.vector.ctypes.data)
        self._binding.bind_output(output_name, "cpu", 0, np.float32, (1, 1), self._result.ctypes.data)
        try:  # no operator it may have needs more for other values, so one run stands for all
            run_once(self._session, self._binding)
        except REFUSALS as error:
            raise BundleError(
                f"{file} can't be run within {RUN_S:g} s and {MEMORY_MIB} MiB of memory ({_first_line(error)}): "
                "export a smaller network"
            ) from error

    def _check(self, what: str, found: list[Any], name: str, width: int) -> None:
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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _spell(node: tuple[str, list[int], str]) -> str:
    name, shape, kind = node
    return f"{name!r} {tuple(shape)} {kind}"
