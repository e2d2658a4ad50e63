"""The state that the actors of execution share: what is known and what is wanted.

An actor reads the present state and does what is missing. A lost, late or repeated message therefore changes when
something is done, not what is done.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.market import MarketState
from mia_daemon.records import Bracket, EntryOrigin, OrderRole, Side
from mia_daemon.risk.snapshot import NO_DELAYS, Delays, RiskSnapshot


@dataclass(slots=True)
class BrokerSync:
    """Connection and agreement with the server.

    Attributes:
        link_up: the order connection is up.
        reconciled: orders and position were reconciled since the connection was made; no new risk before.
        query_reason: why a snapshot is to be requested; "" when there is no reason.
        urgent: it is to be requested at once, however recent the last one is.
        position: contracts, signed, as the server last reported on this connection; None before it has.
        filled_since: contracts, signed, of the fills applied since that report, and not contained in it.
        positions: ours before and after each fill since the last snapshot was requested.
        asked_ns: our time at which the last snapshot was requested; 0 before the first.
        agreed_ns: our time of the last query whose answer agreed with us; 0 before the first.
        other_daemon: an order of another daemon in our account and symbol; "" where none was seen.
    """

    link_up: bool = True
    reconciled: bool = False
    query_reason: str = "the start"
    urgent: bool = False
    position: int | None = None
    filled_since: int = 0
    positions: list[int] = field(default_factory=list)
    asked_ns: int = 0
    agreed_ns: int = 0
    other_daemon: str = ""

    def request_reconcile(self, why: str, *, urgent: bool = False) -> None:
        """Mark a snapshot as due; a reason given earlier stays."""
        self.query_reason = self.query_reason or why
        self.urgent |= urgent

    @property
    def held(self) -> int | None:
        """The position that the server holds: its last report and the fills since; None while it has reported none."""
        return None if self.position is None else self.position + self.filled_since

    def on_position(self, quantity: int | None) -> None:
        """The server has reported the position; None: without a quantity."""
        self.position = quantity
        self.filled_since = 0

    def on_fill(self, change: int, position: int) -> None:
        """A fill has changed our position by `change` to `position`. A report may come before its fill, or after.

        `change` is 0 for a fill that a list has shown, or none: the server's last report contains it.
        """
        self.positions.append(position)
        if self.position is not None:
            self.filled_since = 0 if self.position == position else self.filled_since + change

    def agrees(self, position: int) -> bool:
        """Whether the server's reports allow this position of ours."""
        return self.position is None or position in {self.position, self.position + self.filled_since}


@dataclass(slots=True)
class FlattenState:
    """Every reason for which there must be no position.

    Attributes:
        reason: why the position is being closed now; "" while it is not.
        since_ns: our time at which closing began.
        requests: how many times closing has begun.
        window: why the trade windows allow no position now; "" while they do.
        shutdown: why shutting down allows none; "" while the daemon runs on, or leaves the position to its stop.
        stopping: the daemon is shutting down: no entries.
        refusals: orders that were to close the position and that the server refused, since the last fill.
        refused_at_ns: our time of the last of them.
        paused_until_ns: our time until which nothing is sent to close the position: it has to be protected meanwhile.
    """

    reason: str = ""
    since_ns: int = 0
    requests: int = 0
    window: str = ""
    shutdown: str = ""
    stopping: bool = False
    refusals: int = 0
    refused_at_ns: int = 0
    paused_until_ns: int = 0

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
        opened_at_ns: our time of the open position's first fill; 0 when flat.
        second_ns: one second of real time, in our time.
        own_clock: our monotonic clock, scaled to event time; None: event time (replay).
        wall_clock: the wall clock, where event time is real time; None elsewhere.
        input_ns: our time of the input being processed; 0 between inputs.
        input_wall_ns: the wall clock then.
        heard_ns: our time of the newest market event; 0 before the first.
        brackets: where the pairs are kept here: the bracket planned for each entry, by decision id.
        differs_since_ns: our time since when the server's position is not ours; 0 while it is.
        differs_grace_ns: for how long it may differ: it is reported before its fill, or after.
    """

    ledger: Ledger
    orders: WorkingOrders = field(default_factory=WorkingOrders)
    market: MarketState = field(default_factory=MarketState)
    sync: BrokerSync = field(default_factory=BrokerSync)
    flatten: FlattenState = field(default_factory=FlattenState)
    origins: dict[str, EntryOrigin] = field(default_factory=dict)
    last_fill_ns: int = 0
    opened_at_ns: int = 0
    second_ns: int = NS_PER_S
    own_clock: Callable[[], int] | None = None
    wall_clock: Callable[[], int] | None = None
    input_ns: int = 0
    input_wall_ns: int = 0
    heard_ns: int = 0
    brackets: dict[str, Bracket] = field(default_factory=dict)
    differs_since_ns: int = 0
    differs_grace_ns: int = NS_PER_S

    @property
    def position_differs(self) -> bool:
        """Whether the server's position is not ours, for longer than its reports may be early or late."""
        since_ns = self.differs_since_ns
        return bool(since_ns) and self.own_ns - since_ns > self.differs_grace_ns

    def begin_input(self) -> None:
        """Read the clocks: they stand still while the input is processed."""
        if self.own_clock is not None:
            self.input_ns = self.own_clock()
            self.input_wall_ns = self.wall_clock() if self.wall_clock is not None else 0

    def end_input(self) -> None:
        """The clocks go on."""
        self.input_ns = 0

    @property
    def own_ns(self) -> int:
        """Our time: waits for answers, protection and retries are measured by it, whatever the market does."""
        if self.own_clock is None:
            return self.market.now_ns
        return self.input_ns or self.own_clock()

    @property
    def wall_ns(self) -> int:
        """The wall clock, where event time is real time; else 0."""
        if self.input_ns or self.wall_clock is None:
            return self.input_wall_ns
        return self.wall_clock()

    @property
    def time_ns(self) -> int:
        """Event time now: that of the newest event, and what has passed since by our clock; 0 before the first."""
        if not self.heard_ns:
            return self.market.now_ns
        return self.market.now_ns + max(self.own_ns - self.heard_ns, 0)

    @property
    def price_age_ns(self) -> int | None:
        """Event time since the touch was last given or confirmed; None before the first event, and without a touch."""
        touch = self.market.touch
        return max(self.time_ns - touch.ts_ns, 0) if self.heard_ns and touch.known else None

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, no entry can fill any more, and nothing works that has nothing left to do."""
        if self.flatten.reason or self.orders.with_role(OrderRole.ENTRY):
            return False
        return not (self.orders.surplus() or (self.flatten.stopping and not self.ledger.position and len(self.orders)))

    @property
    def confirmed(self) -> int:
        """Contracts of our position that the server is known to hold too: no more is protected or closed."""
        ours, theirs = self.ledger.position, self.sync.held
        if theirs is None:
            return abs(ours) if self.sync.reconciled else 0
        return min(abs(ours), max(theirs if ours > 0 else -theirs, 0))

    def worst_case(self, side: Side) -> int:
        """Contracts held on `side` once all orders that work on it have filled; negative: the other side is held.

        By our fills, or by the position that the server reports where that has differed for longer than a report may be
        early or late. What has filled and is not booked is in the server's position already.
        """
        coming = self.orders.exposure(side)
        worst = side * self.ledger.position + coming
        theirs = self.sync.held
        if theirs is None or not self.position_differs:
            return worst
        unbooked = sum(
            max(entry.fills.reported - entry.fills.booked, 0) for entry in self.orders if entry.order.side is side
        )
        return max(worst, side * theirs + coming - unbooked)

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
            flatten.since_ns = self.own_ns
            flatten.requests += 1

    # Risk snapshots.

    def risk_snapshot(self, delays: Delays = NO_DELAYS) -> RiskSnapshot:
        """The present facts by which risk judges an order; default `delays` where they must not matter."""
        snapshot, orders = self.account_snapshot(), self.orders
        snapshot.delays = delays
        if len(orders):
            snapshot.working_buy, snapshot.working_sell = orders.exposure(Side.BUY), orders.exposure(Side.SELL)
            snapshot.own_bid, snapshot.own_ask = orders.best_limit(Side.BUY), orders.best_limit(Side.SELL)
            snapshot.unknown_orders = len(orders.unknown()) + len(orders.missing_fills()) + len(orders.surplus())
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
            server_position=self.sync.held,
            position_differs=self.position_differs,
        )
