"""Each habit of the second venue alone, without other faults: whether the daemon trades, and what it says if not."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from fault_simulation.habits import CHANGES, EXPECTED_HALT, SLOW
from fault_simulation.plan import Wanted
from fault_simulation.world import Outcome, simulate

LEAST = 0.5
"""Of the plain venue's contracts: what a legal habit leaves at least."""

Case = tuple[int, tuple[str, ...]]
"""A seed, and the habits there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What came of one habit over some seeds.

    Attributes:
        share: of the contracts that the plain venue filled with the same seeds.
        halted: why the daemon had stopped trading by itself at the end, and how often.
        problems: violations, and too little trading where no halt is expected.
    """

    habit: str
    share: float
    halted: Counter[str]
    problems: tuple[str, ...]


def each_habit(seeds: Sequence[int], workers: Executor, habits: Iterable[str] = CHANGES) -> list[Activity]:
    """Run each habit with all `seeds`."""
    names = tuple(habits)
    cases: list[Case] = [(seed, ()) for seed in seeds] + [(seed, (name,)) for name in names for seed in seeds]
    outcomes = list(workers.map(_run, cases, chunksize=2))
    plain = _contracts(outcomes[: len(seeds)])
    return [
        _activity(name, outcomes[place : place + len(seeds)], plain)
        for name, place in zip(names, range(len(seeds), len(cases), len(seeds)), strict=True)
    ]


def _run(case: Case) -> Outcome:
    seed, habits = case
    return simulate(seed, Wanted(venue=2, habits=habits, undisturbed=True))


def _contracts(outcomes: Iterable[Outcome]) -> int:
    return sum(outcome.contracts for outcome in outcomes)


def _activity(habit: str, outcomes: Sequence[Outcome], plain: int) -> Activity:
    share = _contracts(outcomes) / plain
    halted = Counter(outcome.halted for outcome in outcomes if outcome.halted)
    problems = [f"seed {outcome.seed}: {violation}" for outcome in outcomes for violation in outcome.violations]
    least = SLOW.get(habit, LEAST)
    if share < least and habit not in EXPECTED_HALT:
        problems.append(f"{share:.0%} of the plain venue's contracts")
    elif share < least and not halted:
        problems.append(f"{share:.0%} of the plain venue's contracts, and nothing said")
    return Activity(habit=habit, share=share, halted=halted, problems=tuple(problems))


def described(activity: Activity, shown: int) -> str:
    """As text: one line, and one for each problem."""
    halts = "; ".join(f"{count} x {why}" for why, count in activity.halted.most_common())
    lines = [f"{activity.share:7.0%} {activity.habit}" + (f"    halted: {halts}" if halts else "")]
    lines += [f"          {problem}" for problem in activity.problems[:shown]]
    return "\n".join(lines)
