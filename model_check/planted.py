"""Faults that an earlier order table had, to test that the search finds them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mia_daemon.execution import working_order, working_orders
from mia_daemon.execution.order_states import OPEN_AT_SERVER, TRANSITIONS, Cause, OrderState

Undo = Callable[[], None]


def _set(owner: Any, name: str, value: Any) -> Undo:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def _acked_after_a_fill() -> Undo:
    """An order with a contract booked is ACKED again by a late ACCEPTED."""
    return _set(working_orders, "_BEFORE_A_FILL", frozenset())


def _acked_is_no_cover() -> Undo:
    """A stop that is acknowledged, and not reported as working yet, counts for nothing."""
    return _set(working_order, "OPEN_AT_SERVER", OPEN_AT_SERVER - {OrderState.ACKED})


def _partial_is_no_cover() -> Undo:
    """A stop of which a contract has filled counts for nothing."""
    return _set(working_order, "OPEN_AT_SERVER", OPEN_AT_SERVER - {OrderState.PARTIAL})


def _absent_for_good() -> Undo:
    """An order that was not in a list stays absent, whatever is reported of it."""
    before = dict(TRANSITIONS)
    for cause in (Cause.ACCEPTED, Cause.HELD, Cause.WORKING, Cause.PARTIAL, Cause.REPLACED):
        TRANSITIONS[OrderState.ABSENT, cause] = OrderState.ABSENT
    return lambda: TRANSITIONS.update(before)


FAULTS: dict[str, Callable[[], Undo]] = {
    "acked-after-a-fill": _acked_after_a_fill,
    "acked-is-no-cover": _acked_is_no_cover,
    "partial-is-no-cover": _partial_is_no_cover,
    "absent-for-good": _absent_for_good,
}
"""By name; what each does wrong is its docstring."""


@contextmanager
def planted(fault: str) -> Iterator[None]:
    """Context with the fault of this name. Raises KeyError for one that does not exist."""
    undo = FAULTS[fault]()
    try:
        yield
    finally:
        undo()
