"""Breadth first over the states of the model, and the shortest trace to one that is wrong.

What is rare counts as several steps, so that histories with few faults are searched further than those with many.
"""

import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from model_check.model import Model
from model_check.states import Left, State, Step
from model_check.venue import HABITS, NAMES, Answer, Habits, Request, Update

_EXTRA_STEPS: Final = Left(faults=2, requests=1, queries=1)
"""Steps that each of them counts beyond one."""

_LOOK_EVERY: Final = 500
"""States between two looks at the clock."""

_REPORT_EVERY_S: Final = 30.0


@dataclass(frozen=True)
class Bounds:
    """Where a search ends.

    Attributes:
        states: it ends once so many have been found.
        seconds: after so long.
        left: what may happen in one history.
        habits: of the server.
    """

    states: int
    seconds: float
    left: Left = field(default_factory=Left)
    habits: Habits = HABITS[0]


@dataclass
class Found:
    """What a search has found.

    Attributes:
        states, steps: distinct states, and steps between states, that were checked.
        depth: every state that is so many steps from a start, or fewer, was followed up.
        exhausted: there are no other states.
        answers: complete answers after which all agreed, and how often.
        violation: what is wrong; "" if nothing is.
        trace: the shortest way there, a line for each step.
    """

    habits: Habits
    states: int = 0
    steps: int = 0
    depth: int = 0
    exhausted: bool = False
    seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    violation: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = self.states / self.seconds if self.seconds else 0.0
        return (
            f"{self.habits}: {self.states:,} states, {self.steps:,} steps, all to depth {self.depth}, "
            f"{self.seconds:.0f} s, {rate:,.0f} states/s"
        )


def search(bounds: Bounds, report: Callable[[str], None] = lambda _: None) -> Found:
    """Search until something is wrong, nothing is left, or a bound is reached; `report` gets a line now and then."""
    gc.disable()  # nothing here is cyclic, and there are millions of it
    try:
        return _Search(bounds, report).run()
    finally:
        gc.enable()


class _Search:
    def __init__(self, bounds: Bounds, report: Callable[[str], None]) -> None:
        self._bounds = bounds
        self._report = report
        self._model = Model(bounds.habits, bounds.left)
        self._found = Found(bounds.habits, answers=self._model.answers)
        self._before: dict[State, tuple[int, State | None]] = {}  # its depth, and the state before
        self._levels: dict[int, list[State]] = {}  # states not followed up yet, by depth
        self._began_s = self._reported_s = time.monotonic()

    def run(self) -> Found:
        found = self._found
        self._levels[0] = [state for _, state in self._model.starts()]
        self._before.update((state, (0, None)) for state in self._levels[0])
        while self._levels:
            depth = min(self._levels)
            for count, state in enumerate(self._levels.pop(depth)):
                known_depth, _ = self._before[state]
                if known_depth == depth and self._follow(state, depth):
                    return self._ended()
                if count % _LOOK_EVERY == 0 and self._over():
                    return self._ended()
            found.depth = depth + 1
        found.exhausted = True
        return self._ended()

    def _follow(self, state: State, depth: int) -> bool:
        """Find the states after one; True when something is wrong with one of them, or with the step to it."""
        before = self._before
        for step in self._model.steps(state):
            self._found.steps += 1
            after = step.state
            if step.wrong:
                self._found.violation = step.wrong
                self._found.trace = self._trace(state, step)
                return True
            spent = zip(state.left, after.left, _EXTRA_STEPS, strict=True)
            deeper = depth + 1 + sum((had - has) * extra for had, has, extra in spent)
            if after not in before or deeper < before[after][0]:
                before[after] = deeper, state
                self._levels.setdefault(deeper, []).append(after)
        return False

    def _over(self) -> bool:
        now_s, found = time.monotonic(), self._found
        found.states, found.seconds = len(self._before), now_s - self._began_s
        if now_s - self._reported_s > _REPORT_EVERY_S:
            self._reported_s = now_s
            self._report(str(found))
        return found.states >= self._bounds.states or found.seconds >= self._bounds.seconds

    def _ended(self) -> Found:
        self._over()
        return self._found

    # The trace.

    def _trace(self, state: State, last: Step) -> tuple[str, ...]:
        way = [state]
        while (before := self._before[way[-1]][1]) is not None:
            way.append(before)
        way.reverse()
        starts = {start: text for text, start in self._model.starts()}
        lines = [f"start: {starts[way[0]]}; {self._bounds.habits}"]
        for one, following in itertools.pairwise(way):
            lines.append(self._line(next(step for step in self._model.steps(one) if step.state == following)))
        return (*lines, self._line(last), *self._where(last.state))

    def _line(self, step: Step) -> str:
        if step.what in _ABOUT_MESSAGES:
            message = self._model.messages[step.about]
            return f"{step.what}: {_said(message)}"
        about_order = step.what.startswith(_ABOUT_ORDERS) and step.what != "we cancel again"
        return f"{step.what}: {NAMES[step.about]}" if about_order else step.what

    def _where(self, state: State) -> tuple[str, ...]:
        ours, server = self._model.known[state.known].ours, self._model.servers[state.server]
        lines = ["then:"]
        for name, one, there in zip(NAMES, ours.orders, server.orders, strict=True):
            here = f"{one.state}, {one.booked} of {one.quantity} booked" if one is not None else "done and forgotten"
            lines.append(f"  {name}: here {here}; at the server {there.text}")
        return tuple(lines)


_ABOUT_MESSAGES: Final = frozenset({"server receives", "we receive", "we receive, and will again", "is lost"})
_ABOUT_ORDERS: Final = (
    "we cancel", "we replace", "we have no answer about", "server opens", "server rejects", "server fills",
    "server cancels",
)  # fmt: skip


def _said(message: Update | Answer | Request) -> str:
    match message:
        case Update():
            name, filled = NAMES[message.order], f"{message.filled} of {message.quantity} filled"
            executed = f", execution {message.execution} of {message.executed}" if message.executed else ""
            return f"{name} {message.number} {message.status}, {filled}{executed}"
        case Answer():
            listed = ", ".join(f"{NAMES[one.order]} {one.status}" for one in message.listed) or "no open order"
            return f"the answer: {listed}; {len(message.fills)} executions; position {message.position:+d}"
    what = {"N": "new", "C": "cancel", "R": "replace", "Q": "query"}[message.kind]
    return f"{what} {NAMES[message.order]}" if message.kind != "Q" else what
