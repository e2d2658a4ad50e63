"""Planted bugs, to test that the simulation finds them: each is known from real trading systems.

A planted bug replaces a method of the daemon within the context `planted`; the rest of the daemon is unchanged.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import Protection
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.records import OrderRole

Change = tuple[type, str, Callable[..., Any]]
"""A class, the name of a method, and what takes its place."""


def _resend() -> list[Change]:
    """An order that is not answered in time is sent again."""
    watch = Reconciler.watch

    def resend(self: Any) -> int:
        late_ns = self._market.now_ns - self._policy.answer_ns
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

    def emit_again(self: Any, fill: Any) -> None:
        self._orders.add_execution(fill)
        self._sink(fill)

    on_fill = OrderEventHandler.on_fill

    def apply_again(self: Any, fill: Any) -> None:
        entry = self._orders.find(fill.client_order_id, fill.server_order_id)
        if entry is not None and fill.execution_id in entry.fills.executions:
            self._ledger.apply(fill)
        else:
            on_fill(self, fill)

    return [(SierraBroker, "_emit_fill", emit_again), (OrderEventHandler, "on_fill", apply_again)]


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


BUGS: dict[str, Callable[[], list[Change]]] = {
    "resend": _resend,
    "journal-after-send": _journal_after_send,
    "forget-unknown": _forget_unknown,
    "fills-twice": _fills_twice,
    "drop-stop": _drop_stop,
}
"""By name; what each does wrong is its docstring."""


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """Context with the bug of this name. Raises KeyError for one that does not exist."""
    changes = BUGS[bug]()
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, method in changes:
        setattr(owner, name, method)
    try:
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)
