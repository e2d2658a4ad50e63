"""Planted bugs, to test that the simulation finds them: each is known from real trading systems.

A planted bug replaces methods of the daemon within the context `planted`; the rest of the daemon is unchanged. Those of
`planted_orders` and `planted_account` bring back what the daemon once did against servers that nobody here wrote.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fault_simulation import planted_account, planted_orders
from fault_simulation.plan import Wanted
from fault_simulation.planted_bug import Change, PlantedBug
from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.fill_booking import FillBooking
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import Protection
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.records import OrderRole


def _resend() -> list[Change]:
    """An order that is not answered in time is sent again."""
    watch = Reconciler.watch

    def resend(self: Any) -> int:
        late_ns = self._state.own_ns - self._policy.answer_ns
        late = self._orders.unanswered(late_ns) if self._sync.link_up else []
        due_ns = watch(self)
        for entry in late:
            if not entry.server_order_id:
                self._events._order_manager._broker.submit(entry.order)
        return due_ns

    return [(Reconciler, "watch", resend)]


def _journal_after_send() -> list[Change]:
    """An entry is journaled after it was sent."""

    def send_bracket(self: Any, bracket: Any) -> bool:
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._add(orders)
        self._broker.submit_bracket(bracket)
        self._journal.record_intent(orders, self._market.now_ns)
        return True

    return [(OrderManager, "send_bracket", send_bracket)]


def _forget_unknown() -> list[Change]:
    """A restart begins without the unknown orders."""
    return [(OrderManager, "restore", lambda *_: None)]


def _fills_twice() -> list[Change]:
    """An execution that is reported again is applied again."""
    book = FillBooking.book_reported

    def apply_again(self: Any, fill: Any, entry: Any) -> None:
        if any(fill.execution_id == known.execution_id for known in entry.fills.executions):
            self._ledger.apply(fill)
        else:
            book(self, fill, entry)

    return [(FillBooking, "book_reported", apply_again)]


def _drop_stop() -> list[Change]:
    """A partial fill of an entry takes its stop away, and whether there is one is looked at once the entry is done."""
    work = Protection.work

    def careless(self: Any, held: Any) -> int:
        partial = {
            entry.client_order_id
            for entry in self._orders.with_role(OrderRole.ENTRY)
            if entry.state is OrderState.PARTIAL
        }
        for stop in self._orders.with_role(OrderRole.STOP):
            if stop.order.parent_id in partial:
                self._order_manager.cancel(stop)
        return NEVER_NS if partial else work(self, held)

    return [(Protection, "work", careless)]


_at_first = partial(PlantedBug, wanted=Wanted(venue=1))

BUGS: dict[str, PlantedBug] = {
    "resend": _at_first(_resend, seed=3),
    "journal-after-send": _at_first(_journal_after_send, seed=0),
    "forget-unknown": _at_first(_forget_unknown, seed=21),
    "fills-twice": _at_first(_fills_twice, seed=1),
    "drop-stop": PlantedBug(_drop_stop, 3, Wanted(venue=2, habits=("fills in 3 parts",), undisturbed=True)),
    **planted_orders.BUGS,
    **planted_account.BUGS,
}
"""By name; what each does wrong is the docstring of what makes its changes."""


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """Context with the bug of this name. Raises KeyError for one that does not exist."""
    changes = BUGS[bug].changes()
    kept = [(owner, name, vars(owner)[name]) for owner, name, _ in changes]
    for owner, name, instead in changes:
        setattr(owner, name, instead)
    try:
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)
