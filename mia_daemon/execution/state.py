"""The state that the actors of execution share: what is known and what is wanted.

An actor reads the present state and does what is missing. A lost, late or repeated message therefore changes when
something is done, not what is done.
"""

from dataclasses import dataclass, field

from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.market import MarketState
from mia_daemon.records import EntryOrigin, OrderRole, Side
from mia_daemon.risk.snapshot import NO_DELAYS, Delays, RiskSnapshot


@dataclass(slots=True)
class BrokerSync:
    """Connection and agreement with the server.

    Attributes:
        link_up: the order connection is up.
        reconciled: orders and position were reconciled since the connection was made; no new risk before.
        query_reason: why a snapshot is to be requested; "" when there is no reason.
        position: contracts, signed, as the server last reported; None before it has.
    """

    link_up: bool = True
    reconciled: bool = False
    query_reason: str = "the start"
    position: int | None = None

    def request_reconcile(self, why: str) -> None:
        """Mark a snapshot as due; a reason given earlier stays."""
        self.query_reason = self.query_reason or why


@dataclass(slots=True)
class FlattenState:
    """Every reason for which there must be no position.

    Attributes:
        reason: why the position is being closed now; "" while it is not.
        since_ns: event time at which closing began.
        requests: how many times closing has begun.
        window: why the trade windows allow no position now; "" while they do.
        shutdown: why shutting down allows none; "" while the daemon runs on, or leaves the position to its stop.
        stopping: the daemon is shutting down: no entries.
    """

    reason: str = ""
    since_ns: int = 0
    requests: int = 0
    window: str = ""
    shutdown: str = ""
    stopping: bool = False

    @property
    def standing(self) -> str:
        """Why any position must be closed, including one opened by a late fill; "" when none must."""
        return self.shutdown or self.window


@dataclass(frozen=True, slots=True)
class HeldPosition:
    """The position as it is now."""

    quantity: int  # signed
    average_price: float
    decision_id: str  # of the decision that opened it

    @property
    def close_side(self) -> Side:
        return Side.SELL if self.quantity > 0 else Side.BUY


@dataclass(slots=True)
class ExecutionState:
    """All that execution knows, shared by its actors.

    Attributes:
        ledger: position and money, by the fills applied.
        orders: our orders.
        market: the touch and the newest event time.
        sync: connection and agreement with the server.
        flatten: why there must be no position.
        origins: entry origins by decision id.
        last_fill_ns: exchange time of the newest fill; 0 before the first.
    """

    ledger: Ledger
    orders: WorkingOrders = field(default_factory=WorkingOrders)
    market: MarketState = field(default_factory=MarketState)
    sync: BrokerSync = field(default_factory=BrokerSync)
    flatten: FlattenState = field(default_factory=FlattenState)
    origins: dict[str, EntryOrigin] = field(default_factory=dict)
    last_fill_ns: int = 0

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return not (self.flatten.reason or self.orders.with_role(OrderRole.ENTRY))

    @property
    def held(self) -> HeldPosition:
        """The position as it is now."""
        ledger = self.ledger
        return HeldPosition(ledger.position, ledger.average_price, ledger.origin.decision_id if ledger.origin else "")

    def request_flatten(self, reason: str) -> None:
        """Start closing the position and cancelling entries, until flat. While under way the first reason stays."""
        flatten = self.flatten
        if not flatten.reason:
            flatten.reason = reason
            flatten.since_ns = self.market.now_ns
            flatten.requests += 1

    # Risk snapshots.

    def risk_snapshot(self, delays: Delays = NO_DELAYS) -> RiskSnapshot:
        """The present facts by which risk judges an order; default `delays` where they must not matter."""
        snapshot, orders = self.account_snapshot(), self.orders
        snapshot.delays = delays
        if len(orders):
            snapshot.working_buy, snapshot.working_sell = orders.exposure(Side.BUY), orders.exposure(Side.SELL)
            snapshot.own_bid, snapshot.own_ask = orders.best_limit(Side.BUY), orders.best_limit(Side.SELL)
            snapshot.unknown_orders = len(orders.unknown()) + len(orders.missing_fills())
        return snapshot

    def account_snapshot(self) -> RiskSnapshot:
        """A snapshot of position and money without the orders, for the checks made once a second."""
        position, realized_today, unrealized, drawdown = self.ledger.figures()
        touch = self.market.touch
        return RiskSnapshot(
            ts_ns=self.market.now_ns,
            position=position,
            working_buy=0,
            working_sell=0,
            bid=touch.bid,
            ask=touch.ask,
            touch_ns=touch.ts_ns,
            realized_today=realized_today,
            unrealized=unrealized,
            drawdown=drawdown,
            link_up=self.sync.link_up,
            reconciled=self.sync.reconciled,
        )
