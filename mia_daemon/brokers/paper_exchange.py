"""An exchange that knows only the touch and the trades: it fills orders against recorded or live market data.

Brackets are as Sierra Chart holds them: stop and target wait for the entry and have the size of what it has filled; as
one of them fills or is cancelled the other is reduced or cancelled with it. Once the pair is done, the rest of the
entry is cancelled too. When an order fills is decided in `paper_fill_rules`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

from mia_daemon.brokers.paper_checks import MAX_QUANTITY, bracket_objection, is_valid_price, order_objection
from mia_daemon.brokers.paper_fill_rules import Execution, FillRules
from mia_daemon.brokers.paper_order import (
    PaperOrder,
    PaperTerms,
    link_bracket,
    link_siblings,
    update_before_acceptance,
)
from mia_daemon.market import MarketTrade, Touch
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    Bracket,
    BrokerEvent,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
    TimeInForce,
)

KEPT_FILLS = 4096


class PaperExchange:
    """Accepts orders and reports events through `emit`, at the exchange's time. The broker adds the latency.

    Args:
        name: the prefix of its identifiers of orders and executions.
    """

    def __init__(
        self,
        instrument: Instrument,
        account: str,
        name: str,
        starting_cash: float,
        emit: Callable[[int, BrokerEvent], None],
    ) -> None:
        self.touch = Touch()
        self.position = 0
        self.average_price = 0.0
        self.cash = starting_cash
        self.fills: deque[Fill] = deque(maxlen=KEPT_FILLS)
        self._instrument = instrument
        self._account = account
        self._rules = FillRules(instrument.tick_size)
        self._emit = emit
        self._numbers = count(1)
        self._orders: dict[str, PaperOrder] = {}
        self._used: set[str] = set()
        self._prefix = f"{name}-P"

    @property
    def orders(self) -> Iterable[PaperOrder]:
        """Those alive, oldest first."""
        return self._orders.values()

    def restore(self, position: int, average_price: float, cash: float) -> None:
        """Carry on with an account."""
        self.position, self.average_price, self.cash = position, average_price, cash

    def restore_order(self, order: Order, server_order_id: str, quantity: int, filled: int, price: float) -> None:
        """A working order of an earlier run; stop and target of one parent are each other's OCO sibling."""
        status = OrderStatus.PARTIAL if filled else OrderStatus.WORKING
        terms = PaperTerms(order.type, quantity, price, order.limit_price)
        paper = PaperOrder(order, server_order_id, status, terms, filled)
        for other in self._orders.values():
            if order.parent_id and other.order.parent_id == order.parent_id:
                link_siblings(paper, other)
        self._orders[order.client_order_id] = paper
        self._used.add(order.client_order_id)

    # Requests, as they arrive.

    def submit(self, order: Order, ts_ns: int) -> None:
        if text := self._objection(order):
            self._reject(order, ts_ns, text)
            return
        self._activate(self._accept(order, ts_ns), ts_ns)

    def submit_bracket(self, bracket: Bracket, ts_ns: int) -> None:
        orders = (bracket.entry, bracket.stop, bracket.target)
        text = next(filter(None, map(self._objection, orders)), "") or bracket_objection(bracket)
        if text:
            for order in orders:
                self._reject(order, ts_ns, text)
            return
        entry = self._accept(bracket.entry, ts_ns)
        stop, target = (self._accept(order, ts_ns, OrderStatus.HELD) for order in orders[1:])
        link_bracket(entry, stop, target)
        self._activate(entry, ts_ns)

    def replace(self, client_order_id: str, price: float, quantity: int, ts_ns: int) -> None:
        paper = self._orders.get(client_order_id)
        if paper is None or not self._replaceable(paper, price, quantity):
            text = "no such working order" if paper is None else f"price {price} or quantity {quantity} not valid"
            self._refuse(client_order_id, OrderStatus.REPLACE_REJECTED, ts_ns, text)
            return
        paper.terms.price, paper.terms.quantity = price, quantity
        paper.server_order_id = self._server_id()
        self._report(paper, OrderStatus.REPLACED, ts_ns)
        if paper.working:
            self._arrive(paper, ts_ns)

    def cancel(self, client_order_id: str, ts_ns: int) -> None:
        paper = self._orders.get(client_order_id)
        if paper is None:
            self._refuse(client_order_id, OrderStatus.CANCEL_REJECTED, ts_ns, "no such working order")
            return
        self._cancel(paper, ts_ns, "cancelled by the client")

    def flatten(self, order: Order, ts_ns: int) -> None:
        """Close the position at the market as `order`, whose side and quantity follow from the position."""
        if not self.position:
            self._reject(order, ts_ns, "there is no position to close")
            return
        if text := self._objection(order):
            self._reject(order, ts_ns, text)
            return
        side = Side.SELL if self.position > 0 else Side.BUY
        self._activate(self._accept(replace(order, side=side, quantity=abs(self.position)), ts_ns), ts_ns)

    # The market.

    def update_touch(self, touch: Touch) -> None:
        """The newest touch; `on_touch` works the orders against it."""
        self.touch = touch
        self._rules.awaiting = None

    def take_from_touch(self, trade: MarketTrade, ts_ns: int) -> None:
        """Take from the touch what the trade that came with it took; orders that waited for a touch were there before.

        Where the size of the touch is known, what is left of it stays, or the price moves one tick through; where it
        is not, orders that would take the same side wait for the next touch.
        """
        for paper in self._by_urgency():
            if paper.working and paper.match.aggressive:
                self._fill(paper, self._rules.against_touch(paper, self.touch), ts_ns)
        side = self._aggressor(trade)
        if side is None:
            return
        far, size = self.touch.far(side), self.touch.far_size(side)
        if size <= 0:
            self._rules.awaiting = side
        elif (left := size - trade.size) > 0:
            self.touch = self.touch.with_far(side, far, left)
        else:
            behind = self._instrument.round_to_tick(far + side * self._instrument.tick_size)
            self.touch = self.touch.with_far(side, behind, 0.0)

    def _aggressor(self, trade: MarketTrade) -> Side | None:
        """Whose order took from the touch; None when it was inside it."""
        if trade.side:
            return Side(trade.side)
        if trade.price >= self.touch.ask:
            return Side.BUY
        return Side.SELL if trade.price <= self.touch.bid else None

    def on_trade(self, ts_ns: int, trade: MarketTrade) -> None:
        """A trade in the market; `touch` is already the one that came with it, `on_touch` follows."""
        for paper in self._by_urgency():
            if paper.working and not paper.match.aggressive and self._rules.trade_reaches(paper, trade):
                if paper.armed:
                    self._trigger(paper, ts_ns)
                else:
                    self._fill(paper, self._rules.against_trade(paper, trade), ts_ns)

    def on_touch(self, ts_ns: int) -> None:
        """Work the orders against `touch`, whether it changed or not."""
        for paper in self._by_urgency():
            if not paper.working or not self.touch.known:
                continue
            if not paper.armed:
                self._fill(paper, self._rules.against_touch(paper, self.touch), ts_ns)
            elif self._rules.touch_triggers(paper, self.touch):
                self._trigger(paper, ts_ns)

    def _by_urgency(self) -> list[PaperOrder]:
        """Stops before limits: if one event reaches both, the worse is assumed."""
        return sorted(self._orders.values(), key=lambda paper: not paper.armed)

    # State changes of an order.

    def _activate(self, paper: PaperOrder, ts_ns: int) -> None:
        self._report(paper, OrderStatus.WORKING, ts_ns)
        self._arrive(paper, ts_ns)

    def _arrive(self, paper: PaperOrder, ts_ns: int) -> None:
        """It starts to work at its present price."""
        self._fill(paper, self._rules.on_arrival(paper, self.touch), ts_ns)
        at_once = paper.order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}
        if at_once and paper.working and not paper.armed:
            self._cancel(paper, ts_ns, "not filled at once")

    def _trigger(self, paper: PaperOrder, ts_ns: int) -> None:
        terms = paper.terms
        if terms.type is OrderType.STOP_LIMIT:
            terms.type, terms.price = OrderType.LIMIT, terms.limit_price
            self._arrive(paper, ts_ns)
        else:
            self._fill(paper, self._rules.on_trigger(paper, self.touch), ts_ns)

    def _fill(self, paper: PaperOrder, execution: Execution | None, ts_ns: int) -> None:
        if execution is None or execution.quantity <= 0:
            return
        order = paper.order
        quantity, price = execution
        paper.filled += quantity
        paper.notional += quantity * price
        name = f"{self._prefix}{next(self._numbers)}"
        fill = Fill(
            ts_ns=ts_ns,
            execution_id=f"{name}x",
            client_order_id=order.client_order_id,
            server_order_id=paper.server_order_id,
            symbol=order.symbol,
            account=order.account,
            side=order.side,
            quantity=quantity,
            price=price,
        )
        self.fills.append(fill)
        self._apply_to_account(order.side * quantity, price)
        self._emit(ts_ns, fill)
        self._report(paper, OrderStatus.PARTIAL if paper.open_quantity else OrderStatus.FILLED, ts_ns)
        self._emit(ts_ns, self.position_report(ts_ns, unsolicited=True))
        self._after_fill(paper, quantity, ts_ns)

    def _after_fill(self, paper: PaperOrder, quantity: int, ts_ns: int) -> None:
        """Stop and target grow with their entry and shrink with each other."""
        for child in paper.links.children:
            if child.alive:
                waiting = child.status is OrderStatus.HELD
                child.terms.quantity = quantity if waiting else child.terms.quantity + quantity
                self._report(child, OrderStatus.WORKING, ts_ns)
                if waiting:
                    self._arrive(child, ts_ns)
        sibling = paper.links.sibling
        if sibling is None or not sibling.alive:
            return
        if not paper.open_quantity:
            self._cancel(sibling, ts_ns, "the other order of the pair filled")
            parent = paper.links.parent
            if parent is not None and parent.alive:
                self._cancel(parent, ts_ns, "its bracket is complete: no exit would protect a further fill")
        else:
            sibling.terms.quantity = max(sibling.terms.quantity - quantity, sibling.filled)
            self._report(sibling, sibling.status, ts_ns)

    def _cancel(self, paper: PaperOrder, ts_ns: int, text: str) -> None:
        self._report(paper, OrderStatus.CANCELED, ts_ns, text)
        for child in paper.links.children:
            if child.status is OrderStatus.HELD:
                self._report(child, OrderStatus.CANCELED, ts_ns, "the entry was cancelled")
        sibling = paper.links.sibling
        if sibling is not None and sibling.alive:
            self._report(sibling, OrderStatus.CANCELED, ts_ns, "the other order of the pair was cancelled")

    def _apply_to_account(self, change: int, price: float) -> None:
        """Position, average price and cash after a fill, commission and fees paid."""
        held, after = self.position, self.position + change
        self.cash -= abs(change) * self._instrument.cost_per_side
        if held * change >= 0:
            self.average_price = (held * self.average_price + change * price) / after
        else:
            closed = min(abs(held), abs(change)) * (1 if held > 0 else -1)
            self.cash += closed * (price - self.average_price) * self._instrument.point_value
            if held * after < 0:
                self.average_price = price
        self.position = after
        if not after:
            self.average_price = 0.0

    # Reports.

    def position_report(self, ts_ns: int, *, unsolicited: bool) -> PositionReport:
        return PositionReport(
            ts_ns, self._instrument.symbol, self._account, self.position, self.average_price, unsolicited
        )

    def _report(self, paper: PaperOrder, status: OrderStatus, ts_ns: int, text: str = "") -> None:
        """Set the order's status and report it; REPLACED is reported only."""
        if status is OrderStatus.WORKING and paper.filled:
            status = OrderStatus.PARTIAL
        if status is not OrderStatus.REPLACED:
            paper.status = status
        if not paper.alive:
            self._orders.pop(paper.order.client_order_id, None)
        self._emit(ts_ns, paper.update(ts_ns, status, text, unsolicited=True))

    def _accept(self, order: Order, ts_ns: int, status: OrderStatus = OrderStatus.ACCEPTED) -> PaperOrder:
        terms = PaperTerms(order.type, order.quantity, order.price, order.limit_price)
        paper = PaperOrder(order, self._server_id(), status, terms)
        self._orders[order.client_order_id] = paper
        self._used.add(order.client_order_id)
        self._report(paper, status, ts_ns)
        return paper

    def _server_id(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"

    def _reject(self, order: Order, ts_ns: int, text: str) -> None:
        self._emit(ts_ns, update_before_acceptance(order, ts_ns, OrderStatus.REJECTED, text, unsolicited=True))

    def _refuse(self, client_order_id: str, status: OrderStatus, ts_ns: int, text: str) -> None:
        self._emit(
            ts_ns, OrderReport(ts_ns, client_order_id, "", self._instrument.symbol, self._account, status, text=text)
        )

    def _replaceable(self, paper: PaperOrder, price: float, quantity: int) -> bool:
        return is_valid_price(price, self._instrument) and paper.filled < quantity <= MAX_QUANTITY

    def _objection(self, order: Order) -> str:
        return order_objection(order, self._instrument, self._account, self._used)
