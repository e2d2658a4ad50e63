"""Gives the tests of the feature families their driver (tests are no package, so it can't be imported by name)."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("kernel_driver", Path(__file__).with_name("kernel_driver.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["kernel_driver"] = _module
_spec.loader.exec_module(_module)
