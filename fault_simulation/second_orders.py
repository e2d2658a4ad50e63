"""Order entry at the second venue: what a client's order message does at its exchange."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from fault_simulation.habits import Habits
from fault_simulation.history import BY_HAND
from fault_simulation.second_account import ServedOrder
from fault_simulation.second_exchange import Exchange
from fault_simulation.second_reports import Traded
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderTypeEnum as Type
from mia_daemon.dtc.enums import TimeInForceEnum
from mia_daemon.dtc.layout import Message

_AT_ONCE: Final = frozenset({TimeInForceEnum.TIF_IMMEDIATE_OR_CANCEL, TimeInForceEnum.TIF_FILL_OR_KILL})
_PRICES: Final = frozenset({"Price1", "Price2", "Price1_1", "Price2_1", "Price1_2", "Price2_2"})


class OrderEntry:
    """Carries out order messages for one account.

    Args:
        note: writes a line of the record.
    """

    def __init__(self, exchange: Exchange, traded: Traded, habits: Habits, note: Callable[..., None]) -> None:
        self._exchange = exchange
        self._traded = traded
        self._habits = habits
        self._note = note
        self._actions: dict[type[Message], Callable[[Any], None]] = {
            dtc.SubmitNewSingleOrder: self._submit,
            dtc.SubmitNewOCOOrder: self._submit_pair,
            dtc.SubmitFlattenPositionOrder: self._flatten,
            dtc.CancelOrder: self._cancel,
            dtc.CancelReplaceOrder: self._replace,
        }

    def carry_out(self, message: Message) -> bool:
        """Carry out an order message; False for a message of another kind."""
        action = self._actions.get(type(message))
        if action is None:
            return False
        self._note("received", type=type(message).__name__, **self._stated(message))
        action(message)
        return True

    def _stated(self, message: Message) -> dict[str, Any]:
        """The fields that a client has set, as JSON can hold them; prices as they are displayed."""
        blank, stated = type(message)(), {}
        for field in fields(message):  # type: ignore[arg-type]  # every message is a dataclass
            value = getattr(message, field.name)
            if value == getattr(blank, field.name):
                continue
            if isinstance(value, float) and not math.isfinite(value):
                value = repr(value)
            elif field.name in _PRICES and self._traded.multiplier != 1.0:
                value = self._traded.ticks(value) * self._traded.tick_size
            stated[field.name] = value
        return stated

    def _order(self, message: Any, end: str = "", **more: Any) -> ServedOrder:
        """The order in a message whose fields end so."""
        return ServedOrder(
            getattr(message, f"ClientOrderID{end}"),
            self._exchange.take_number(),
            1 if getattr(message, f"BuySell{end}") == 1 else -1,
            Type(getattr(message, f"OrderType{end}")),
            self._traded.ticks(getattr(message, f"Price1{end}")),
            self._traded.ticks(getattr(message, f"Price2{end}")),
            round(getattr(message, f"Quantity{end}")),
            at_once=message.TimeInForce in _AT_ONCE,
            **more,
        )

    def _refusal(self, message: Any, *orders: ServedOrder) -> str:
        """Why orders are not taken; "" when they are."""
        if (message.Symbol, message.TradeAccount) != (self._traded.symbol, self._traded.account):
            return "unknown symbol or account"
        if any(self._exchange.named(order.name) is not None for order in orders):
            return "this ClientOrderID has been used"
        return ""

    def _refuse(self, order: ServedOrder, text: str) -> None:
        self._note("reject", ClientOrderID=order.name, ServerOrderID=order.number, text=text)
        self._exchange.refuse(order, text)

    def _submit(self, message: dtc.SubmitNewSingleOrder) -> None:
        order = self._order(message, entry=bool(message.IsParentOrder))
        text = self._refusal(message, order)
        if self._habits.exits_refused and not (order.entry or order.is_stop or order.name.startswith(BY_HAND)):
            text = text or "the account may not close positions"
        if text:
            self._refuse(order, text)
        else:
            self._exchange.submit(order)

    def _submit_pair(self, message: dtc.SubmitNewOCOOrder) -> None:
        if self._habits.pairs == "ignored":
            return
        pair = self._order(message, "_1"), self._order(message, "_2")
        parent_name = message.ParentTriggerClientOrderID
        parent = self._exchange.named(parent_name) if parent_name else None
        text = self._refusal(message, *pair)
        if self._habits.pairs == "refused":
            text = "OCO orders are not supported"
        elif parent_name and (parent is None or (parent.done and not parent.filled)):
            text = "the parent order is not open"
        if text:
            for order in pair:
                self._refuse(order, text)
        else:
            self._exchange.submit_pair(*pair, parent)

    def _flatten(self, message: dtc.SubmitFlattenPositionOrder) -> None:
        """Close the position at the market; by habit under no name, or not at all. A person is always obeyed."""
        position = self._exchange.account.position
        how = "named" if message.ClientOrderID.startswith(BY_HAND) else self._habits.flatten
        if how == "silent":
            return
        number, side = self._exchange.take_number(), -1 if position > 0 else 1
        order = ServedOrder(message.ClientOrderID, number, side, Type.ORDER_TYPE_MARKET, 0, 0, abs(position))
        text = self._refusal(message, order)
        if how == "refused" or not position:
            text = text or "there is no position to flatten"
        if text:
            self._refuse(order, text)
        else:
            order.nameless = how == "nameless"
            self._exchange.submit(order)

    def _cancel(self, message: dtc.CancelOrder) -> None:
        """Nothing happens to an order that is not known by its number and account, and nothing is said."""
        order = self._exchange.orders.get(message.ServerOrderID)
        if order is None or message.TradeAccount != self._traded.account:
            self._note("ignored", ClientOrderID=message.ClientOrderID, text="cancel of an unknown order")
        else:
            self._exchange.cancel(order)

    def _replace(self, message: dtc.CancelReplaceOrder) -> None:
        order = self._exchange.orders.get(message.ServerOrderID)
        if order is None:
            self._note("ignored", ClientOrderID=message.ClientOrderID, text="replace of an unknown order")
            return
        price = self._traded.ticks(message.Price1) if message.Price1IsSet and message.Price1 < dtc.UNSET_F64 else None
        limit = self._traded.ticks(message.Price2) if message.Price2IsSet and message.Price2 < dtc.UNSET_F64 else None
        self._exchange.replace(order, price, limit, round(message.Quantity) if message.Quantity else 0)
