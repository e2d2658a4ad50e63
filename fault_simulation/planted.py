"""Bugs on purpose, to see that the simulation finds them: each is one that a trading system is known to have.

A planted bug replaces a method of the daemon for as long as `planted` lasts; the rest is the daemon as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.execution.exits import PositionKeeper
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.records import OrderRole

Change = tuple[type, str, Callable[..., Any]]
"""A class, the name of a method, and what takes its place."""


def _resend() -> list[Change]:
    """An order that is not answered in time is sent again."""
    watch_answers = Reconciler.watch_answers

    def watch(self: Any, *, closing: bool) -> int:
        late = self._working.unanswered(self._market.now_ns - self._answer_ns) if self._server.link_up else []
        due_ns = watch_answers(self, closing=closing)
        for entry in late:
            if not entry.server_order_id:
                self._broker.submit(entry.order)
        return due_ns

    return [(Reconciler, "watch_answers", watch)]


def _journal_after_send() -> list[Change]:
    """An entry is written down once it has left."""

    def send_bracket(self: Any, bracket: Any, ts_ns: int) -> None:
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._add(orders, ts_ns)
        self._broker.submit_bracket(bracket)
        self._journal.record_intent(orders, ts_ns)

    return [(OrderManager, "send_bracket", send_bracket)]


def _forget_unknown() -> list[Change]:
    """A restart begins without the orders whose fate is not known."""
    return [(OrderManager, "restore", lambda *_: None)]


def _fills_twice() -> list[Change]:
    """An execution that is told again counts again."""

    def tell(self: Any, fill: Any) -> None:
        self._is_new(fill)
        self._sink(fill)

    hear = OrderEventHandler.fill

    def fill(self: Any, told: Any) -> None:
        entry = self._working.find(told.client_order_id, told.server_order_id)
        if entry is not None and told.execution_id in entry.executions:
            self._ledger.apply(told)
        else:
            hear(self, told)

    return [(SierraBroker, "_tell_fill", tell), (OrderEventHandler, "fill", fill)]


def _drop_stop() -> list[Change]:
    """A partial fill of an entry takes its stop away, and whether there is one is looked at once the entry is done."""
    guard = PositionKeeper._guard

    def careless(self: Any, ts_ns: int, *more: Any) -> None:
        partial = {
            entry.client_order_id
            for entry in self._working.with_role(OrderRole.ENTRY)
            if entry.state is OrderState.PARTIAL
        }
        for stop in self._working.with_role(OrderRole.STOP):
            if stop.order.parent_id in partial:
                self._desk.cancel(stop, ts_ns)
        if not partial:
            guard(self, ts_ns, *more)

    return [(PositionKeeper, "_guard", careless)]


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
    """With this bug. Raises KeyError for one that does not exist."""
    changes = BUGS[bug]()
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, method in changes:
        setattr(owner, name, method)
    try:
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)
