"""Books reported executions to their orders, each contract once: from updates, past lists, or at the average price."""

from collections.abc import Sequence
from dataclasses import replace

from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.order_identity import OrderIdentity
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.server_clock import ServerClock
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import Fill, FillSource, Priority


class FillBooking:
    """Decides by `OrderFills` what is booked, and has `Accounting` apply it."""

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        accounting: Accounting,
        identity: OrderIdentity,
        clock: ServerClock,
    ) -> None:
        self._state = state
        self._ledger = state.ledger
        self._market = state.market
        self._flatten_state = state.flatten
        self._sync = state.sync
        self._alert = ports.alert
        self._accounting = accounting
        self._identity = identity
        self._clock = clock

    def book_reported(self, fill: Fill, entry: WorkingOrder) -> None:
        fill = self._normalised(fill, entry, self._clock.received(fill.ts_ns, entry.history.sent_ns))
        if not self._identity.price_makes_sense(fill):
            entry.fills.reported = max(entry.fills.reported, min(fill.filled, entry.size))
            return  # it stays missing until a price is known
        if (part := entry.fills.from_update(fill, entry.size)) is not None:
            self._apply(part, entry)

    def on_history(self, entry: WorkingOrder, listed: Sequence[Fill], limit: int, *, guessed: bool = False) -> int:
        """Book what is missing of an order by the list of its executions; returns the contracts booked.

        `limit` is the number of contracts that it can have filled; `guessed` says that they are not under its number.
        """
        by_values = ": its order was found by side, price and time" if guessed else ""
        every = [self._normalised(fill, entry, self._clock.listed(fill.ts_ns)) for fill in listed]
        booked = 0
        for part in entry.fills.from_history([fill for fill in every if self._identity.price_makes_sense(fill)], limit):
            self._alert(
                "fill_missed",
                Priority.WARNING,
                f"execution {part.execution_id} of order {entry.client_order_id} was found by asking{by_values}",
                {"order": entry.client_order_id, "quantity": part.quantity, "price": part.price},
            )
            self._apply(part, entry)
            booked += part.quantity
        return booked

    def book_at_average(self, entry: WorkingOrder) -> None:
        """Book what an order has filled by the server's word and by no execution, at the average price it reports."""
        order, touch = entry.order, self._market.touch
        price = order.price or (touch.far(order.side) if touch.known else self._ledger.average_price)
        if not self._identity.is_alike(entry.fills.average, price):
            entry.fills.average = 0.0
        fill = entry.fills.at_average(
            Fill(
                ts_ns=self._state.time_ns,
                execution_id="",
                client_order_id=entry.client_order_id,
                server_order_id=entry.server_order_id,
                symbol=order.symbol,
                account=order.account,
                side=order.side,
                quantity=entry.fills.missing,
                price=price,
                source=FillSource.AVERAGE,
            )
        )
        self._alert(
            "fill_without_execution",
            Priority.ERROR,
            f"order {entry.client_order_id} has filled {fill.quantity} contracts by the server's word, which reports "
            f"no execution of them: they are booked at {fill.price:.10g}; compare with the account's statement",
            {"order": entry.client_order_id, "quantity": fill.quantity, "price": fill.price},
        )
        self._apply(fill, entry)

    def book_by_position(self, entry: WorkingOrder, contracts: int) -> None:
        """Book what an order must have filled by the server's position, which no execution explains."""
        entry.fills.reported = entry.fills.booked + contracts
        self.book_at_average(entry)

    def _normalised(self, fill: Fill, entry: WorkingOrder, ts_ns: int) -> Fill:
        order = entry.order
        return replace(
            fill,
            ts_ns=ts_ns or self._state.time_ns,
            client_order_id=order.client_order_id,
            server_order_id=fill.server_order_id or entry.server_order_id,
            symbol=order.symbol,
            account=order.account,
            side=fill.side if entry.may_fill(fill.side) else order.side,
        )

    def _apply(self, fill: Fill, entry: WorkingOrder) -> None:
        self._flatten_state.refusals = 0
        if self._accounting.apply_fill(fill, entry):
            return
        self._alert(
            "execution_known",
            Priority.ERROR,
            f"execution {fill.execution_id} is in the journal already and was not applied again",
            {"order": entry.client_order_id},
        )
        self._sync.request_reconcile("an execution was reported again")
