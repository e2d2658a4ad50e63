"""`python -m model_check --minutes 10`: exit status 1, and the shortest trace, when something is wrong."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial

from model_check.planted import FAULTS, planted
from model_check.search import Bounds, Found, search
from model_check.states import Left
from model_check.venue import HABITS


def main() -> int:
    """Search with each of the server's habits; exit status 1 when something was wrong."""
    options = _options()
    workers = min(len(os.sched_getaffinity(0)), len(HABITS))
    bounds = [
        Bounds(
            states=options.states // len(HABITS),
            seconds=60.0 * options.minutes * workers / len(HABITS),
            left=Left(faults=options.faults),
            habits=habits,
        )
        for habits in HABITS
    ]
    with (
        planted(options.plant) if options.plant else nullcontext(),
        ProcessPoolExecutor(workers) as pool,  # the planted fault is in the processes, as they are forked
    ):
        every = list(pool.map(partial(search, report=_print), bounds))
    for found in every:
        _print(_result(found))
    violated = sum(bool(found.violation) for found in every)
    states, steps = sum(found.states for found in every), sum(found.steps for found in every)
    _print(f"{states:,} states, {steps:,} steps, {violated} violations")
    return 1 if violated else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m model_check", description="All that can become of an entry, its stop and its target."
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="at most (default: 10)")
    parser.add_argument("--states", type=int, default=4_000_000, metavar="N", help="at most (default: 4000000)")
    parser.add_argument("--faults", type=int, default=Left().faults, metavar="N", help="in one history (default: 2)")
    parser.add_argument("--plant", choices=sorted(FAULTS), help="a known fault, which is to be found")
    return parser.parse_args()


def _result(found: Found) -> str:
    answers = ", ".join(f"{count:,} after {asked}" for asked, count in sorted(found.answers.items()))
    lines = [f"{found}{', no others' if found.exhausted else ''}; complete answers until all agreed: {answers}"]
    if found.violation:
        lines += [f"  VIOLATION: {found.violation}", *(f"    {line}" for line in found.trace)]
    return "\n".join(lines)


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
