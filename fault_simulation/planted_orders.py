"""Planted bugs of orders: which of them a report is about, and what is sent for lack of an answer."""

from collections.abc import Iterable
from typing import Any

from fault_simulation.plan import Wanted
from fault_simulation.planted_bug import Change, PlantedBug
from mia_daemon.brokers import sierra, sierra_mapping
from mia_daemon.clock import NEVER_NS
from mia_daemon.execution import reconciliation
from mia_daemon.execution.exits import Exits
from mia_daemon.execution.in_doubt import InDoubt
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_identity import OrderIdentity
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import Protection
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.surplus_orders import SurplusOrders
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import OrderRole
from mia_daemon.risk.risk_controller import RiskController


async def _not_asked(*_: Any) -> None:
    """A check at the start that is not made."""


def _old_awaited(self: Any, held: Any) -> str:
    """Whether an answer is awaited, as `Protection` once had it."""
    stops = [stop for stop in self._orders.with_role(OrderRole.STOP) if stop.order.side is held.close_side]
    awaited = any(stop.request.asked_ns or stop.state is OrderState.UNKNOWN for stop in stops)
    return "an answer is awaited" if awaited or self._orders.missing_fills() else ""


def _names_dropped() -> list[Change]:
    """What is reported under another symbol is dropped, and entries that nobody acknowledges are sent on."""
    on_update, on_executions = OrderEventHandler.on_update, Reconciler._on_executions

    def ours(self: Any, report: Any) -> bool:
        return bool(self._identity._scope.covers(report))

    def if_ours(self: Any, update: Any) -> None:
        if ours(self, update):
            on_update(self, update)

    def identified(self: Any, listed: Any) -> Any:
        return [(self._identity.identify(update), update) for update in listed if ours(self, update)]

    def executions_if_ours(self: Any, name: str, executions: Any, *more: Any, **named: Any) -> None:
        on_executions(self, name, [fill for fill in executions if ours(self._events, fill)], *more, **named)

    return [
        (OrderEventHandler, "on_update", if_ours),
        (OrderEventHandler, "identified", identified),
        (Reconciler, "_on_executions", executions_if_ours),
        (OrderIdentity, "check_position", lambda *_: None),
        (RiskController, "on_unacknowledged", lambda _: False),
        (sierra, "check_positions", _not_asked),
    ]


def _unnamed_nobodys() -> list[Change]:
    """A report of an order without its name is about nobody's order, and another stop is sent for one of ours."""

    def by_number(self: Any, update: Any) -> Any:
        named = self._orders.get(update.client_order_id)
        return named or self._orders.find("", update.server_order_id, update.previous_server_order_id)

    return [
        (OrderIdentity, "identify", by_number),
        (reconciliation, "_may_be", lambda *_: False),
        (Protection, "_awaited", _old_awaited),
        (RiskController, "on_unacknowledged", lambda _: False),
    ]


def _refusals_ignored() -> list[Change]:
    """An order to close the position that the server refuses is sent again after half a second."""

    def again(self: Any) -> bool:
        flatten = self._flatten_state
        if flatten.refusals:
            self._next_exit_ns = min(self._next_exit_ns, flatten.refused_at_ns + self._state.second_ns // 2)
        return False

    return [(Exits, "_paused", again)]


def _pending_no_cover() -> list[Change]:
    """An order acknowledged as sent or pending closes nothing and protects nothing."""

    def covers(_: Any, entry: Any) -> bool:
        closes = entry.order.role in {OrderRole.EXIT, OrderRole.TARGET}
        return closes and entry.state is not OrderState.ACKED and not entry.request.cancel_wanted

    def replace_closers(self: Any, held: Any, closers: Any) -> None:
        if any(self._about_to_work(entry) for entry in closers):
            return
        for entry in closers:
            self._order_manager.cancel(entry)
        if not closers:
            self._send_exit(held, abs(held.quantity))

    def at_server(self: Any) -> bool:
        return self.state in {OrderState.WORKING, OrderState.PARTIAL}

    return [
        (Exits, "_covers", covers),
        (Exits, "_replace_closers", replace_closers),
        (WorkingOrder, "at_server", property(at_server)),
        (Protection, "_awaited", _old_awaited),
    ]


def _cancel_parked() -> list[Change]:
    """A cancel that needs a number which the server has not reported yet is never sent."""
    cancel_all = OrderManager.cancel_all

    def park(self: Any, entries: Iterable[Any]) -> None:
        entries = tuple(entries)
        for entry in entries:
            if not entry.server_order_id:
                entry.request.cancel_again_ns = NEVER_NS
        cancel_all(self, entries)

    return [(OrderManager, "cancel_all", park)]


def _surplus_left() -> list[Change]:
    """The other order of a pair is left to a server that does not link them."""

    def settled(self: Any) -> bool:
        return not (self.flatten.reason or self.orders.with_role(OrderRole.ENTRY))

    return [
        (SurplusOrders, "work", lambda *_: NEVER_NS),
        (WorkingOrders, "surplus", lambda _: []),
        (ExecutionState, "settled", property(settled)),
    ]


def _bracket_ignored() -> list[Change]:
    """That the server says nothing of a bracket is noticed once its acknowledgement is overdue."""
    return [
        (InDoubt, "_watch_brackets", lambda *_: NEVER_NS),
        (Reconciler, "_check_bracket", lambda *_: None),
        (Protection, "_asked_before", lambda *_: False),
        (Protection, "_awaited", _old_awaited),
    ]


def _status_gone() -> list[Change]:
    """An order that is listed without a status is gone."""
    return [(sierra_mapping, "_status_by_facts", lambda *_, **__: None)]


def _other_daemon() -> list[Change]:
    """The orders of another daemon in the same account and symbol are external ones like others."""
    return [(OrderManager, "is_of_other_daemon", lambda *_: False)]


def _under(*habits: str) -> Wanted:
    return Wanted(venue=2, habits=habits, undisturbed=True)


BUGS = {
    "names-dropped": PlantedBug(_names_dropped, 0, _under("symbol other")),
    "refusals-ignored": PlantedBug(_refusals_ignored, 0, _under("exits refused", "replace refused")),
    "unnamed-nobodys": PlantedBug(_unnamed_nobodys, 0, _under("names never")),
    "pending-no-cover": PlantedBug(
        _pending_no_cover, 2, _under("acknowledged after 0.6 s", "path sent, pending, open", "replace refused")
    ),
    "cancel-parked": PlantedBug(_cancel_parked, 44, Wanted(venue=2, habits=("acknowledged after 1.2 s",))),
    "surplus-left": PlantedBug(_surplus_left, 0, _under("pairs not linked")),
    "bracket-ignored": PlantedBug(_bracket_ignored, 2, _under("pairs ignored")),
    "status-gone": PlantedBug(_status_gone, 1, _under("orders listed without status")),
    "other-daemon": PlantedBug(_other_daemon, 0, _under("others ours")),
}
