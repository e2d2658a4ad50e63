"""Makes orders under new client order ids, and finds the run that made a client order id."""

import re
from dataclasses import replace
from typing import Final

from mia_daemon.execution.ports import TradeScope
from mia_daemon.records import Bracket, Order, OrderReport, OrderRole, OrderType, Side, TimeInForce

_TIME_IN_FORCE: Final = {
    OrderRole.ENTRY: TimeInForce.DAY,
    OrderRole.EXIT: TimeInForce.DAY,
    OrderRole.STOP: TimeInForce.GTC,  # protection must outlive the session: a day order would expire with it
    OrderRole.TARGET: TimeInForce.GTC,
}
_LETTERS: Final = {OrderRole.ENTRY: "E", OrderRole.STOP: "S", OrderRole.TARGET: "T", OrderRole.EXIT: "X"}
_NAME: Final = re.compile(r"(?P<run>\w+)-\d+(?P<letter>[ESTX])")


class OrderFactory:
    """Makes the orders of one run. A client order id is the run's id, a number and the letter of the order's role."""

    def __init__(self, scope: TradeScope) -> None:
        self._scope = scope
        self._number = 0

    def make_bracket(
        self, side: Side, quantity: int, price: float, *, stop: float, target: float, decision_id: str
    ) -> Bracket:
        """A limit entry with its stop and target: three new client order ids with one number. Prices in points."""
        entry = self.make(OrderRole.ENTRY, side, quantity, OrderType.LIMIT, price, decision_id)
        parent, close = entry.client_order_id, side.opposite
        return Bracket(
            entry,
            replace(self._order(OrderRole.STOP, close, quantity, OrderType.STOP, stop, decision_id), parent_id=parent),
            replace(
                self._order(OrderRole.TARGET, close, quantity, OrderType.LIMIT, target, decision_id), parent_id=parent
            ),
        )

    def make(
        self, role: OrderRole, side: Side, quantity: int, type_: OrderType, price: float, decision_id: str
    ) -> Order:
        """One order under a new client order id. Prices in points."""
        self._number += 1
        return self._order(role, side, quantity, type_, price, decision_id)

    def _order(
        self, role: OrderRole, side: Side, quantity: int, type_: OrderType, price: float, decision_id: str
    ) -> Order:
        scope = self._scope
        return Order(
            client_order_id=f"{scope.run_id}-{self._number}{_LETTERS[role]}",
            symbol=scope.instrument.symbol,
            account=scope.account,
            side=side,
            quantity=quantity,
            type=type_,
            role=role,
            decision_id=decision_id,
            price=scope.instrument.round_to_tick(price),
            time_in_force=_TIME_IN_FORCE[role],
        )


def run_of(client_order_id: str) -> str:
    """The run id in a client order id; "" where it does not have our form."""
    name = _NAME.fullmatch(client_order_id)
    return name["run"] if name is not None else ""


def order_as_reported(update: OrderReport) -> Order | None:
    """The order that an update names and describes; None where side or type is missing."""
    name = _NAME.fullmatch(update.client_order_id)
    if name is None or update.side is None or update.type is None:
        return None
    role = next(role for role, letter in _LETTERS.items() if letter == name["letter"])
    return Order(
        client_order_id=update.client_order_id,
        symbol=update.symbol,
        account=update.account,
        side=update.side,
        quantity=update.quantity,
        type=update.type,
        role=role,
        decision_id="",
        price=update.price,
        limit_price=update.limit_price,
        time_in_force=_TIME_IN_FORCE[role],
    )
