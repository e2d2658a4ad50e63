"""Cancel and replace requests: which order they name, and what becomes of them.

A request that names no order is rejected by a 301 of its own: status 9, and what describes an order is unset. A request
that names an order and can't be carried out is rejected by a 301 about that order, in the status that it has: it works
on.
"""

from collections.abc import Callable, Mapping

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.layout import Message
from mia_daemon.records import OrderType
from mia_daemon.simulator.client_order import ClientOrder, ServedStatus, UpdateReason
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.order_messages import Refused, contracts, order_update, ticks, time_in_force
from mia_daemon.simulator.symbol_market import SymbolMarket


class OrderChanges:
    """Carries out cancels and replaces at the engine.

    Args:
        markets: by symbol.
        find: the order with this ServerOrderID; None when there is none.
    """

    def __init__(
        self,
        markets: Mapping[str, SymbolMarket],
        faults: OrderFaults,
        find: Callable[[str], ClientOrder | None],
    ) -> None:
        self._markets = markets
        self._faults = faults
        self._find = find

    def cancel(self, m: dtc.CancelOrder) -> list[Message]:
        """Cancel an order; the rejection of a request that names none. What becomes of the order is in the engine."""
        order = self._find(m.ServerOrderID)
        if order is None or m.TradeAccount != order.account:
            return [self._no_such_order(m, UpdateReason.CANCEL_REJECTED)]
        if text := _misnamed(order, m.ClientOrderID):
            self._refuse(order, UpdateReason.CANCEL_REJECTED, text)
        elif not self._fills_unnoticed(order):
            self._markets[order.symbol].engine.cancel(order)
        return []

    def replace(self, m: dtc.CancelReplaceOrder) -> list[Message]:
        """Change an order, as `cancel` cancels one. TradeAccount may be blank."""
        order = self._find(m.ServerOrderID)
        if order is None or m.TradeAccount not in {"", order.account}:
            return [self._no_such_order(m, UpdateReason.REPLACE_REJECTED)]
        market = self._markets[order.symbol]
        try:
            if text := _misnamed(order, m.ClientOrderID):
                raise Refused(text)
            has_price2 = order.type == OrderType.STOP_LIMIT
            market.engine.replace(
                order,
                ticks(m.Price1, market.native, "Price1") if m.Price1IsSet else None,
                ticks(m.Price2, market.native, "Price2") if m.Price2IsSet and has_price2 else None,
                contracts(m.Quantity) if m.Quantity else 0,
                time_in_force(m.TimeInForce, order.type) if m.TimeInForce else None,
            )
        except Refused as refusal:
            self._refuse(order, UpdateReason.REPLACE_REJECTED, str(refusal))
        return []

    def _fills_unnoticed(self, order: ClientOrder) -> bool:
        """Whether the faults want this cancel to come too late; then it is confirmed all the same."""
        market = self._markets[order.symbol]
        confirmation = market.engine.fill_before_cancel(order) if self._faults.fills_before_cancel() else None
        if confirmation is None:
            return False
        self._faults.confirm(order.client_id, order_update(confirmation, market.native))
        return True

    def _refuse(self, order: ClientOrder, reason: UpdateReason, text: str) -> None:
        engine = self._markets[order.symbol].engine
        engine.events.append(order.event(engine.now_ns, reason, text=text))

    def _no_such_order(self, m: dtc.CancelOrder | dtc.CancelReplaceOrder, reason: UpdateReason) -> Message:
        """What the client has sent, and status 9; TotalNumMessages and MessageNumber stay unset."""
        return dtc.OrderUpdate(
            ServerOrderID=m.ServerOrderID,
            ClientOrderID=m.ClientOrderID,
            OrderStatus=ServedStatus.REJECTED,
            OrderUpdateReason=reason,
            TradeAccount=m.TradeAccount,
            InfoText=f"there is no order with ServerOrderID {m.ServerOrderID or '(none)'} in trade account "
            f"{m.TradeAccount or '(none)'}",
            LatestTransactionDateTime=next(iter(self._markets.values())).now_ns / NS_PER_S,
        )


def _misnamed(order: ClientOrder, client_id: str) -> str:
    """Why the ClientOrderID of a request does not fit the order that its ServerOrderID names; "" where it does."""
    if client_id in {"", order.client_id}:
        return ""
    return f"order {order.server_id} has ClientOrderID {order.client_id}, not {client_id}"
