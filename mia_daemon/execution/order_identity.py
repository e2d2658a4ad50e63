"""Which of our orders a report is about, and whether what else it says fits that order."""

from typing import Final

from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.products.instruments import same_contract
from mia_daemon.records import Fill, OrderReport, OrderStatus, PositionReport

MAX_UNNAMED: Final = 3
"""Orders in a row that were identified by their values alone, none of ours named, at which new risk stops."""

_OF_REQUESTS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
_LISTED: Final = frozenset({OrderStatus.ACCEPTED, OrderStatus.HELD, OrderStatus.WORKING, OrderStatus.PARTIAL})


class OrderIdentity:
    """Identifies by client order id, then by the server's number, then by side, type, quantity and price.

    What contradicts the order that was identified stops new risk; the report is used all the same.
    """

    def __init__(self, state: ExecutionState, ports: Ports, breakers: CircuitBreakers) -> None:
        self._orders = state.orders
        self._market = state.market
        self._instrument = ports.scope.instrument
        self._scope = ports.scope
        self._breakers = breakers
        self._unnamed = 0
        self._spelled: set[tuple[str, str]] = set()  # symbol and account under which orders of ours were reported

    def covers(self, report: OrderReport | Fill | PositionReport) -> bool:
        """Whether a report is about our symbol in our account, under our names or those used for orders of ours."""
        return self._scope.covers(report) or (report.symbol, report.account) in self._spelled

    def identify(self, update: OrderReport) -> WorkingOrder | None:
        """The order that an update is about; None when it is none of ours, or it can't be told which."""
        entry = self._orders.get(update.client_order_id)
        if entry is not None:
            self._unnamed = 0
            return entry
        entry = self._orders.find("", update.server_order_id, update.previous_server_order_id)
        if entry is not None and not self._may_be(entry, update):
            return None  # the number was given to an order of somebody else
        listed_as_ended = not update.unsolicited and update.status not in _LISTED
        if entry is not None or update.status in _OF_REQUESTS or listed_as_ended:
            return entry
        found = self._orders.find_by_values(update, self._instrument.tick_size / 2)
        if len(found) > 1:
            names = ", ".join(entry.client_order_id for entry in found)
            self._breakers.contradict(
                "order_ambiguous",
                f"the server reports order {update.server_order_id} without its name, and it may be any of {names}: "
                "look at the account in Sierra Chart",
                {"server_order_id": update.server_order_id, "orders": names},
            )
        if len(found) != 1:
            return None
        self._count_unnamed(update, found[0])
        return found[0]

    @staticmethod
    def _may_be(entry: WorkingOrder, update: OrderReport) -> bool:
        """Whether a report under an order's number may be about it: a name is ours, shortened or in another case."""
        told = update.client_order_id.casefold()
        return entry.client_order_id.casefold().startswith(told) and entry.may_fill(update.side)

    def _count_unnamed(self, update: OrderReport, entry: WorkingOrder) -> None:
        self._orders.learn_number(entry, update.server_order_id)
        self._unnamed += 1
        if self._unnamed >= MAX_UNNAMED:
            self._breakers.contradict(
                "orders_unnamed",
                f"the server reports our orders without their ClientOrderID, or with another "
                f"({update.client_order_id or 'none'} for {entry.client_order_id}): they can't be told apart for sure",
                {"order": entry.client_order_id, "told": update.client_order_id},
            )

    def check(self, report: OrderReport | Fill, entry: WorkingOrder) -> None:
        """Compare what a report says with its order's symbol, account and price scale."""
        if not self._scope.covers(report):
            ours = self._scope
            self._spelled.add((report.symbol, report.account))
            self._breakers.contradict(
                "other_spelling",
                f"the server reports order {entry.client_order_id} under symbol {report.symbol} and account "
                f"{report.account}, here they are {ours.instrument.symbol} and {ours.account}: if they are the same, "
                "add them to broker.symbol_spellings and broker.account_spellings",
                {"symbol": report.symbol, "account": report.account, "order": entry.client_order_id},
            )
        if isinstance(report, Fill) and not entry.may_fill(report.side):
            self._breakers.contradict(
                "other_side",
                f"the server reports an execution of {entry.order.side.name.lower()} order {entry.client_order_id} on "
                "the other side: it is booked on the order's side; look at the account in Sierra Chart",
                {"order": entry.client_order_id, "side": report.side.name},
            )
        prices = (report.price,) if isinstance(report, Fill) else (report.price, report.limit_price)
        if off := next((price for price in prices if price and not self._instrument.is_on_tick(price)), 0.0):
            self._off_tick(off, entry)
        order = entry.order
        if (
            isinstance(report, OrderReport)
            and report.price
            and order.price
            and not self.is_alike(report.price, order.price)
        ):
            self._off_tick(report.price, entry)

    def _off_tick(self, price: float, entry: WorkingOrder) -> None:
        self._breakers.contradict(
            "price_off_tick",
            f"the server reports {price:.10g} for order {entry.client_order_id} at {entry.order.price:.10g}, no valid "
            "price of it: its DisplayPriceMultiplier is not the scale of its prices",
            {"order": entry.client_order_id, "price": price},
        )

    def price_makes_sense(self, fill: Fill) -> bool:
        """Whether the price of an execution is one of this market; where it is not, new risk stops."""
        touch = self._market.touch
        if not touch.known or self.is_alike(fill.price, touch.bid):
            return True
        self._breakers.contradict(
            "price_senseless",
            f"the server reports an execution of order {fill.client_order_id} at {fill.price:.10g} while the market is "
            f"at {touch.bid:.10g}: its price is not used",
            {"order": fill.client_order_id, "price": fill.price, "bid": touch.bid},
        )
        return False

    def is_alike(self, price: float, other: float) -> bool:
        """Whether a price is on the scale of another, known one."""
        return self._instrument.is_same_scale(price, other)

    def check_position(self, report: PositionReport) -> None:
        """A position that is not under our names: is it ours under another spelling?"""
        ours = self._scope
        account = report.account.casefold() == ours.account.casefold()
        if account and same_contract(report.symbol, ours.instrument.symbol):
            self._breakers.contradict(
                "other_spelling",
                f"the server reports a position of {report.quantity:+d} under symbol {report.symbol} and account "
                f"{report.account}, here they are {ours.instrument.symbol} and {ours.account}: if they are the same, "
                "add them to broker.symbol_spellings and broker.account_spellings",
                {"symbol": report.symbol, "account": report.account, "position": report.quantity},
            )
