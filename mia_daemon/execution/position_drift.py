"""What is done about a position at the server that is not ours: found out, booked, taken over, or a halt."""

from typing import Final

from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.reconciliation import Reconciliation, explains, gone
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import Priority
from mia_daemon.risk.codes import RiskCode

_NO_DIFFERENCE: Final[tuple[int, tuple[str, ...]]] = (0, ())
"""No drift, and no ambiguous order."""


class PositionDrift:
    """Acts on a drift that two snapshots in a row show.

    Args:
        adopts: the server's position is taken over (paper); False: trading halts until an operator says so (live).
    """

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        events: OrderEventHandler,
        accounting: Accounting,
        breakers: CircuitBreakers,
        *,
        adopts: bool,
    ) -> None:
        self._state = state
        self._orders = state.orders
        self._ledger = state.ledger
        self._market = state.market
        self._instrument = ports.scope.instrument
        self._risk = ports.risk
        self._alert = ports.alert
        self._events = events
        self._accounting = accounting
        self._breakers = breakers
        self._adopts = adopts
        self._announced: int | None = None  # the server's position at which trading was halted
        self._approved: int | None = None  # the server's position that an operator takes over
        self._difference = _NO_DIFFERENCE  # found in the last snapshot

    def adopt_next(self) -> None:
        """An operator takes over the server's position that was announced, if the next two snapshots still show it."""
        self._approved, self._announced = self._announced, None
        self._difference = _NO_DIFFERENCE

    def act(self, found: Reconciliation) -> bool:
        """Act on a drift found in two snapshots in a row: take over the server's position, or halt.

        Ambiguous orders (some of them filled, not known which) also need two snapshots in a row, then are given up.

        Returns:
            Whether the next snapshot is to confirm a new difference, or what was done about one.
        """
        if self._orders.missing_fills() or set(found.unresolved) != set(found.ambiguous):
            return False  # fills that are not booked yet, or orders not listed yet, may explain it
        if not found.position.drift:
            self._approved = None  # there is nothing to take over any more
        difference = (found.position.drift, found.ambiguous)
        if difference != self._difference or difference == _NO_DIFFERENCE:
            self._difference = difference
            return difference != _NO_DIFFERENCE
        if self._book_by_position(found):
            self._difference = _NO_DIFFERENCE
            return True
        if found.position.drift and not (self._adopts or found.position.quantity == self._approved):
            self._halt_on_drift(found)
            return False
        if found.position.drift and not (self._ledger.position or self._market.touch.known):
            return False  # the price of a position that is not ours can't be compared with any
        self._difference = _NO_DIFFERENCE
        if found.position.drift:
            self._approved = None
            self._alert(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.position.quantity:+d}, ours was {self._ledger.position:+d}: "
                "the server's was taken over",
                {"server": found.position.quantity, "ours": self._ledger.position},
            )
        self._adopt(found)
        self._give_up(found)
        return True

    def _book_by_position(self, found: Reconciliation) -> bool:
        """Book a drift to the one order of ours that is gone and explains it; whether there is one."""
        gone_orders = [self._orders.get(name) for name in found.ambiguous]
        fitting = [entry for entry in gone_orders if entry is not None and explains(entry, found.position.drift)]
        if len(fitting) != 1:
            return False
        self._events.booking.book_by_position(fitting[0], abs(found.position.drift))
        return True

    def _halt_on_drift(self, found: Reconciliation) -> None:
        latches = self._risk.halt(self._market.now_ns, "position_drift", RiskCode.POSITION_DRIFT)
        self._announced = found.position.quantity
        if latches:
            self._alert(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.position.quantity:+d}, ours is {self._ledger.position:+d}: trading "
                "is halted; compare, then close the difference there, or say `mia-daemon resume position_drift`, which "
                "takes the server's position over",
                {"server": found.position.quantity, "ours": self._ledger.position},
            )
        self._breakers.trip(latches)

    def _adopt(self, found: Reconciliation) -> None:
        """Apply the server's executions that explain the difference, or else an external fill.

        The external fill is at the server's average price when we are flat, else at the touch.
        """
        explained = sum(fill.side * fill.quantity for fill in found.external_fills)
        if found.position.drift and explained == found.position.drift:
            for fill in found.external_fills:
                self._accounting.apply_external_fill(fill, "drift")
        held = found.position.quantity
        if held is not None and (drift := held - self._ledger.position):
            # with a position of our own the server's average price includes our contracts
            average = 0.0 if self._ledger.position else found.position.average_price
            touch = self._market.touch
            if touch.known and not self._instrument.is_same_scale(average, touch.bid):
                average = 0.0  # on another scale, or not told
            self._accounting.apply_drift(drift, average)

    def _give_up(self, found: Reconciliation) -> None:
        """End ambiguous orders: none is open any more, and the position already includes their fills."""
        for entry in self._orders:
            name = entry.client_order_id
            if name in found.ambiguous:
                self._alert(
                    "order_given_up",
                    Priority.WARNING,
                    f"order {name} is not open at the server; whether it filled is not known, but the position agrees",
                    {"order": name},
                )
                self._events.on_update(gone(entry, self._state.time_ns))
