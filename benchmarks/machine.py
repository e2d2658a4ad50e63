"""One line that says what a figure was measured on."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def line() -> str:
    """Processor, cores, kernel, Python and the libraries that decide the speed."""
    model = next(
        (row.split(":", 1)[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row),
        platform.processor() or "unknown processor",
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "onnxruntime", "uvloop"))
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, "
        f"Python {'.'.join(map(str, sys.version_info[:3]))}, {libraries}"
    )
