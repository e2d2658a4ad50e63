"""`python -m fault_simulation --seeds 1000`, or `--seed 7` for one of them: the same outcome each time."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from fault_simulation.activity import described, each_habit
from fault_simulation.habits import CHANGES
from fault_simulation.plan import Wanted
from fault_simulation.planted import BUGS, planted
from fault_simulation.world import Outcome, simulate

SHOWN = 5
"""Violations printed per seed."""

EVERY = 100
"""Seeds after which a line says how far it is."""

VENUES = {"first": 1, "second": 2, "both": 0}


def main() -> int:
    """Run the seeds given; exit status 1 when there was a violation."""
    options = _options()
    if options.each_habit:
        return _each_habit(range(options.start, options.start + options.seeds))
    seeds = range(options.start, options.start + options.seeds) if options.seed is None else [options.seed]
    if options.bug is not None:
        return _report(map(partial(_planted, options.bug), seeds), alone=options.seed is not None)
    habits = () if options.plain else None if options.habit is None else tuple(sorted(options.habit))
    venue = VENUES[options.venue] if habits is None else 2
    run = partial(simulate, wanted=Wanted(venue=venue, habits=habits, undisturbed=options.undisturbed))
    with ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), len(seeds) or 1)) as workers:
        outcomes = workers.map(run, seeds, chunksize=4 if len(seeds) > 4 else 1)
        return _report(outcomes, alone=options.seed is not None)


def _planted(bug: str, seed: int) -> Outcome:
    with planted(bug):
        return simulate(seed, BUGS[bug].wanted)


def _report(outcomes: Iterable[Outcome], *, alone: bool) -> int:
    total = _Total()
    for outcome in outcomes:
        total.add(outcome)
        if alone or outcome.violations:
            print(_described(outcome), flush=True)
        if total.seeds % EVERY == 0 and not alone:
            print(f"-- next seed {outcome.seed + 1}: {total.violations} violations so far", flush=True)
    kinds = ", ".join(f"{kind} {count}" for kind, count in total.faults.most_common())
    print(f"faults: {kinds}")
    for venue_name, seeds_there, halted, contracts in total.venues():
        print(f"{venue_name} venue: {seeds_there} seeds, {contracts} contracts, {halted / seeds_there:.1%} end halted")
    print(
        f"{total.seeds} seeds, {total.hours:.1f} virtual hours, {total.faults.total()} faults, "
        f"{total.violations} violations"
    )
    return 1 if total.violations else 0


def _each_habit(seeds: range) -> int:
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        found = each_habit(seeds, workers)
    for activity in found:
        print(described(activity, SHOWN))
    problems = sum(len(activity.problems) for activity in found)
    print(f"{len(found)} habits, {len(seeds)} seeds each, {problems} problems")
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fault_simulation", description="The daemon's trading side, simulated."
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--seed", type=int, metavar="N", help="this one alone, with the hash of its history")
    asked.add_argument("--seeds", type=int, default=10_000, metavar="N", help="so many (default: 10000)")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="start", help="the first of them (default: 0)")
    parser.add_argument(
        "--venue", choices=VENUES, default="both", help="both (default): even seeds at the first, odd at the second"
    )
    habits = parser.add_mutually_exclusive_group()
    habits.add_argument(
        "--habit",
        action="append",
        choices=CHANGES,
        metavar="NAME",
        help="of the second venue, instead of those drawn; repeatable",
    )
    habits.add_argument("--plain", action="store_true", help="the second venue, without habits")
    habits.add_argument("--bug", choices=BUGS, help="plant this bug, under the habits at which it is to be found")
    habits.add_argument(
        "--each-habit", action="store_true", help="each habit alone, undisturbed: share of the plain venue's contracts"
    )
    parser.add_argument("--undisturbed", action="store_true", help="no faults but the venue's habits")
    return parser.parse_args()


class _Total:
    """What came of all seeds so far."""

    def __init__(self) -> None:
        self.seeds = self.violations = 0
        self.hours = 0.0
        self.faults: Counter[str] = Counter()
        self._seeds: Counter[str] = Counter()
        self._halted: Counter[str] = Counter()
        self._contracts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        venue = "first" if outcome.habits is None else "second"
        self.seeds += 1
        self.hours += outcome.hours
        self.faults += outcome.faults
        self.violations += len(outcome.violations)
        self._seeds[venue] += 1
        self._halted[venue] += bool(outcome.halted)
        self._contracts[venue] += outcome.contracts

    def venues(self) -> list[tuple[str, int, int, int]]:
        """Of each venue: name, seeds, seeds that ended halted, contracts."""
        return [(name, seeds, self._halted[name], self._contracts[name]) for name, seeds in sorted(self._seeds.items())]


def _described(outcome: Outcome) -> str:
    lines = [
        f"seed {outcome.seed}: {outcome.lives} lives, {outcome.orders} orders, {outcome.fills} fills, {outcome.hash}"
    ]
    if outcome.habits is not None:
        lines.append(f"  second venue: {'; '.join(outcome.habits) or 'no habits'}")
    if outcome.halted:
        lines.append(f"  halted: {outcome.halted}")
    lines += [f"  {violation}" for violation in outcome.violations[:SHOWN]]
    if len(outcome.violations) > SHOWN:
        lines.append(f"  and {len(outcome.violations) - SHOWN} more")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
