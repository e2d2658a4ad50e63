"""Limits on an order itself: well-formed, protected, size, notional, price, exposure, and not a duplicate."""

import math
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Bracket, Order, OrderRole, OrderType, Side
from mia_daemon.risk.codes import RiskCode, Verdict, deny
from mia_daemon.risk.snapshot import RiskSnapshot

DUPLICATE_WINDOW_NS: Final = NS_PER_S
"""The same entry (side, quantity, price) twice within this event time is a duplicate."""

_SLACK: Final = 1e-6  # of a tick: prices are binary fractions of it

_PRICES: Final = {
    OrderType.MARKET: (),
    OrderType.LIMIT: ("price",),
    OrderType.STOP: ("price",),
    OrderType.STOP_LIMIT: ("limit_price", "price"),
}
"""The prices that an order of each type must have."""


class OrderRules:
    """The limits on an order, for one instrument in one account; remembers the client order ids used."""

    def __init__(self, limits: RiskSettings, instrument: Instrument, account: str) -> None:
        self._max_contracts = limits.max_order_contracts or math.inf
        self._max_notional = limits.max_order_notional or math.inf
        self._max_position = limits.max_position_contracts or math.inf
        self._max_ticks_away = limits.max_price_deviation_ticks or math.inf
        self._instrument = instrument
        self._account = account
        self._used_ids: set[str] = set()
        self._last_entry: tuple[int, Side, int, float] | None = None

    def check_entry(self, bracket: Bracket, snapshot: RiskSnapshot) -> Verdict | None:
        """The limits on an entry; `check_bracket` checks that it is well-formed and protected."""
        entry = bracket.entry
        return (
            self._check_size(entry)
            or self._check_price(entry, snapshot)
            or self._check_worst_case(entry, snapshot)
            or self._check_self_match(entry, snapshot)
            or self._check_repetition(entry, snapshot)
        )

    def check_bracket(self, bracket: Bracket) -> Verdict | None:
        """Well-formed, and stop and target close exactly what the entry opens, on the right sides of its price."""
        entry, stop, target = bracket.entry, bracket.stop, bracket.target
        if (denied := self._check_sense(entry)) is not None:
            return denied
        close = entry.side.opposite
        if entry.role is not OrderRole.ENTRY or entry.type is OrderType.MARKET:
            code = RiskCode.MARKET_ORDER if entry.role is OrderRole.ENTRY else RiskCode.ORDER_INVALID
            return deny(code, role=entry.role, type=entry.type.name)
        for order, role, kind in ((stop, OrderRole.STOP, OrderType.STOP), (target, OrderRole.TARGET, OrderType.LIMIT)):
            if (denied := self._check_sense(order)) is not None:
                return denied
            beyond = (order.price - entry.price) * entry.side * (1 if role is OrderRole.TARGET else -1)
            fits = order.side is close and order.quantity == entry.quantity
            if order.role is not role or order.type is not kind or not fits or beyond <= 0:
                return deny(
                    RiskCode.UNPROTECTED, leg=role, role=order.role, type=order.type.name, side=order.side.name,
                    quantity=order.quantity, price=order.price, entry=entry.price,
                )  # fmt: skip
        if len({entry.client_order_id, stop.client_order_id, target.client_order_id}) < 3:
            return deny(RiskCode.DUPLICATE_ORDER, id=entry.client_order_id)
        return None

    def check_moved(self, entry: Order, snapshot: RiskSnapshot) -> Verdict | None:
        """The limits on a working entry as it will be after its replace."""
        return self._check_size(entry) or self._check_price(entry, snapshot) or self._check_self_match(entry, snapshot)

    def check_reducing(self, order: Order, snapshot: RiskSnapshot) -> Verdict | None:
        """A closing order is well-formed, closes something, and can't turn the position beyond the limit."""
        return (
            self._check_sense(order) or self._check_closes(order, snapshot) or self._check_worst_case(order, snapshot)
        )

    def use(self, bracket: Bracket, ts_ns: int) -> None:
        """Note an approved entry, for the check of duplicates."""
        entry = bracket.entry
        self._last_entry = (ts_ns, entry.side, entry.quantity, entry.price)
        self._used_ids.update((entry.client_order_id, bracket.stop.client_order_id, bracket.target.client_order_id))

    def use_id(self, client_order_id: str) -> None:
        self._used_ids.add(client_order_id)

    def _check_sense(self, order: Order) -> Verdict | None:
        if not (math.isfinite(order.price) and math.isfinite(order.limit_price)):
            return deny(RiskCode.NOT_FINITE, price=order.price, limit_price=order.limit_price)
        if order.symbol != self._instrument.symbol:
            return deny(RiskCode.UNKNOWN_SYMBOL, symbol=order.symbol, configured=self._instrument.symbol)
        if order.account != self._account:
            return deny(RiskCode.UNKNOWN_ACCOUNT, account=order.account, configured=self._account)
        priced = True
        for name in _PRICES[order.type]:
            price = getattr(order, name)
            ticks = price / self._instrument.tick_size
            priced = priced and self._instrument.is_price(price) and abs(ticks - round(ticks)) < _SLACK
        if order.quantity < 1 or not order.client_order_id or not priced:
            return deny(
                RiskCode.ORDER_INVALID, id=order.client_order_id, quantity=order.quantity, type=order.type.name,
                price=order.price, limit_price=order.limit_price,
            )  # fmt: skip
        if order.client_order_id in self._used_ids:
            return deny(RiskCode.DUPLICATE_ORDER, id=order.client_order_id)
        return None

    def _check_size(self, entry: Order) -> Verdict | None:
        if entry.quantity > self._max_contracts:
            return deny(RiskCode.ORDER_SIZE, contracts=entry.quantity, limit=self._max_contracts)
        notional = self._instrument.notional(max(abs(entry.price), abs(entry.limit_price)), entry.quantity)
        if not notional <= self._max_notional:
            return deny(RiskCode.ORDER_NOTIONAL, notional=round(notional, 2), limit=self._max_notional)
        return None

    def _check_price(self, entry: Order, snapshot: RiskSnapshot) -> Verdict | None:
        touch = snapshot.ask if entry.side is Side.BUY else snapshot.bid
        away = abs(entry.price - touch)
        if entry.type is OrderType.STOP_LIMIT:
            away = max(away, abs(entry.limit_price - touch))
        ticks = away / self._instrument.tick_size
        if not ticks <= self._max_ticks_away + _SLACK:
            return deny(
                RiskCode.PRICE_COLLAR, price=entry.price, touch=touch, ticks=round(ticks, 3), limit=self._max_ticks_away
            )
        return None

    def _check_worst_case(self, order: Order, snapshot: RiskSnapshot) -> Verdict | None:
        """The position after all working orders of the order's side and the order itself have filled.

        It begins at ours or at the one that the server reports, whichever is worse.
        """
        working = snapshot.working_buy if order.side is Side.BUY else snapshot.working_sell
        position, told = snapshot.position, snapshot.server_position
        if told is not None and order.role is OrderRole.ENTRY and told * order.side > position * order.side:
            position = told
        worst = position + order.side * (max(working, 0) + order.quantity)
        if worst * order.side > self._max_position:
            return deny(
                RiskCode.POSITION_LIMIT,
                position=position,
                working=working,
                worst=worst,
                limit=self._max_position,
            )
        return None

    @staticmethod
    def _check_self_match(entry: Order, snapshot: RiskSnapshot) -> Verdict | None:
        own = snapshot.own_ask if entry.side is Side.BUY else snapshot.own_bid
        price = entry.limit_price if entry.type is OrderType.STOP_LIMIT else entry.price
        if not (price - own) * entry.side < 0:
            return deny(RiskCode.SELF_MATCH, price=price, own=own)
        return None

    def _check_repetition(self, entry: Order, snapshot: RiskSnapshot) -> Verdict | None:
        if self._last_entry is None:
            return None
        ts_ns, side, quantity, price = self._last_entry
        same = side is entry.side and quantity == entry.quantity and price == entry.price
        if same and abs(snapshot.ts_ns - ts_ns) < DUPLICATE_WINDOW_NS:
            return deny(RiskCode.DUPLICATE_ORDER, id=entry.client_order_id, price=entry.price)
        return None

    @staticmethod
    def _check_closes(order: Order, snapshot: RiskSnapshot) -> Verdict | None:
        if order.role is OrderRole.ENTRY:
            return deny(RiskCode.UNPROTECTED, id=order.client_order_id, role=order.role)
        if order.quantity > -order.side * snapshot.position:
            return deny(
                RiskCode.NOT_REDUCING, side=order.side.name, quantity=order.quantity, position=snapshot.position
            )
        return None
