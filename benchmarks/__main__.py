"""Run every benchmark of this folder, each in a process of its own: `python -m benchmarks [NAME ...]`."""

import subprocess
import sys
from pathlib import Path

from benchmarks import machine

HERE = Path(__file__).parent


def main() -> int:
    wanted = sys.argv[1:]
    scripts = [path for path in sorted(HERE.glob("bench_*.py")) if not wanted or path.stem[6:] in wanted]
    print(machine.line())
    failed = 0
    for script in scripts:
        print(f"\n== {script.stem[6:]}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=False).returncode != 0
    return 1 if failed or not scripts else 0


if __name__ == "__main__":
    sys.exit(main())
