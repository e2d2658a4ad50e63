"""A trading daemon for index futures with Sierra Chart."""

import os

__version__ = "0.1.0"

# onnxruntime reports the machine, the graphs and their runs to its maker unless this is set before it is imported.
# It is set here because nothing of this package is imported earlier, and because training imports libraries that use
# onnxruntime too. Child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
