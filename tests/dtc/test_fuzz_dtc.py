"""A small run of the fuzzer; `python -m benchmarks.fuzz_dtc` runs ten million frames."""

import re
import subprocess
import sys
from pathlib import Path


def test_nothing_escapes_from_mutated_frames():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz_dtc", "--frames", "20000", "--seed", "7", "--quiet"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(re.match(r"([\d,]+) mutated frames", done.stdout)[1].replace(",", "")) >= 20_000
    for name in ("binary", "binary_vls", "json", "json_compact", "rows", "messages", "streams ended with a reason"):
        assert int(re.search(rf"\b{name} ([\d,]+)", done.stdout)[1].replace(",", "")) > 0, name
