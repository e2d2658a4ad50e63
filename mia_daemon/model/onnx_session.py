"""onnxruntime: the one module that imports it (ruff refuses it elsewhere), so that it is set up in one way.

Its telemetry is off: mia_daemon/__init__.py sets ORT_DISABLE_TELEMETRY, which onnxruntime reads when it is imported.
"""

import functools
import threading
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


MEMORY_MIB: Final = 256
"""For the tensors of all graphs of a process together; the shipped policy needs less than one."""

RUN_S: Final = 5.0
"""For one run while a bundle is loaded; the shipped policy needs 10 µs."""


def open_session(data: bytes) -> ort.InferenceSession:
    """A session for the graph in `data`.

    It has one thread and does not spin: at this size more threads gain nothing and would take a second core. What its
    tensors need is taken from the memory that all graphs share; a graph that needs more fails in `run`.

    Raises:
        one of REFUSALS: the bytes are no graph.
    """
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what is wrong with a graph is said by the error, not on stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Folding computes constants while the graph is loaded, in memory and time that nothing limits.
    return ort.InferenceSession(
        data, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
    )


@functools.cache
def _limit_memory() -> None:
    """Once a process: onnxruntime refuses an allocation beyond the limit before it is made."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": MEMORY_MIB << 20}))


def run_once(session: ort.InferenceSession, binding: ort.IOBinding, limit_s: float = RUN_S) -> None:
    """Run a session, ended after the node at which `limit_s` have passed.

    Raises:
        one of REFUSALS: it needs more memory or time than it may.
    """
    options = ort.RunOptions()
    options.log_severity_level = 4
    timer = threading.Timer(limit_s, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        session.run_with_iobinding(binding, options)
    finally:
        timer.cancel()
        timer.join()
