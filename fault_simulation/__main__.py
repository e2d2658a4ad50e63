"""`python -m fault_simulation --seeds 1000`, or `--seed 7` for one of them: the same outcome each time."""

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from fault_simulation.world import Outcome, simulate

SHOWN = 5
"""Violations printed per seed."""


def main() -> int:
    """Run the seeds given; exit status 1 when there was a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m fault_simulation", description="The daemon's trading side, simulated."
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--seed", type=int, metavar="N", help="this one alone, with the hash of its history")
    asked.add_argument("--seeds", type=int, default=10_000, metavar="N", help="the first N (default: 10000)")
    options = parser.parse_args()
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    violated = hours = 0.0
    faults: Counter[str] = Counter()
    with ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), len(seeds) or 1)) as workers:
        for outcome in workers.map(simulate, seeds, chunksize=4 if len(seeds) > 4 else 1):
            hours += outcome.hours
            faults += outcome.faults
            violated += len(outcome.violations)
            if options.seed is not None or outcome.violations:
                print(_said(outcome))
    kinds = ", ".join(f"{kind} {count}" for kind, count in faults.most_common())
    print(f"faults: {kinds}")
    print(f"{len(seeds)} seeds, {hours:.1f} virtual hours, {faults.total()} faults, {violated:.0f} violations")
    return 1 if violated else 0


def _said(outcome: Outcome) -> str:
    lines = [
        f"seed {outcome.seed}: {outcome.lives} lives, {outcome.orders} orders, {outcome.fills} fills, {outcome.hash}"
    ]
    lines += [f"  {violation}" for violation in outcome.violations[:SHOWN]]
    if len(outcome.violations) > SHOWN:
        lines.append(f"  and {len(outcome.violations) - SHOWN} more")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
