"""The data passed on the queues between tasks.

    feed ──MARKET_EVENT[]──► features ──FeatureWindow──► inference ──Signal──► executor
                                             ▲                        │
                                             └──── AccountState ◄─────┘

Market data travels as numpy arrays of `MARKET_EVENT`, one row per event, in the order in which the daemon received
them. Everything else is a small frozen dataclass. Prices are in the instrument's currency points, quantities in
contracts, money in account currency, times in nanoseconds since the Unix epoch (UTC).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MARKET_EVENT = np.dtype(
    [
        ("ts_ns", "<i8"),  # exchange time
        ("recv_ns", "<i8"),  # when the daemon received it; equals ts_ns when read from a file
        ("kind", "u1"),  # EventKind
        ("side", "i1"),  # trade: +1 buyer was the aggressor, -1 seller, 0 unknown; depth: +1 bid, -1 ask
        ("flags", "<u2"),  # EventFlag
        ("symbol", "<u2"),  # 0 the traded instrument, 1 the reference symbol
        ("count", "<u2"),  # trade: number of trades in the record; depth: number of orders at the level
        ("price", "<f8"),  # trade or depth price; NaN for other kinds
        ("bid", "<f8"),  # best bid as known at the event; NaN when unknown
        ("ask", "<f8"),  # best ask as known at the event; NaN when unknown
        ("size", "<f4"),  # trade volume; depth: quantity now resting at `price` (0 deletes the level)
        ("bid_size", "<f4"),  # at the touch; 0 when unknown
        ("ask_size", "<f4"),
        ("reserved", "<f4"),
    ]
)
"""One market event: 64 bytes, one cache line. Fields that do not apply hold NaN (prices) or 0."""

EventArray = NDArray[np.void]
"""A one-dimensional array of dtype `MARKET_EVENT`. The receiver may read it and must not write to it."""


class EventKind(IntEnum):
    """The kind of a MARKET_EVENT row."""

    TRADE = 1
    QUOTE = 2  # best bid and ask
    DEPTH = 3  # one price level of the order book; CLEAR in flags empties the order book first
    GAP = 4  # events may be missing before this one (reconnect, dropped data)
    TIMER = 5  # the market was silent; recorded so that a replay sees the same boundary
    STATUS = 6  # trading status of the symbol changed; `count` holds DTC's TradingStatusEnum


class EventFlag(IntFlag):
    """Bits of MARKET_EVENT's `flags`."""

    FIRST_SUBTRADE = 1  # first part of one aggressive order, unbundled
    LAST_SUBTRADE = 2
    BATCH_END = 4  # last of a group of depth updates: the order book is consistent again
    SNAPSHOT = 8  # part of a snapshot, not a change that just happened
    CLEAR = 16  # empty the order book before applying this row
    CATCHING_UP = 32  # stored before the feed had read its source to the end: the market may have moved on


def empty_events(n: int) -> EventArray:
    """An array of `n` rows whose prices are NaN and whose other fields are 0."""
    events = np.zeros(n, MARKET_EVENT)
    for name in ("price", "bid", "ask"):
        events[name] = np.nan
    return events


# ------------------------------------------------------------------------------------------------ features → inference


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """All events since the last window, and, when a decision is due, the features at the last of them.

    `events` come first and `values` describe the moment right after the last of them. A window without values only
    passes events on (the executor marks positions and the paper broker fills from them).
    """

    events: EventArray
    seq: int = -1  # number of the decision; -1 when none is due
    ts_ns: int = 0  # of the last event: the decision's event time
    values: NDArray[np.float32] | None = None  # (350,) in catalogue order; owned by this window
    quality: int = 0  # features.catalogue.Quality bits: which inputs are missing or stale
    warm: bool = False  # every feature the bundle selects is warm
    ingress_ns: int = 0  # monotonic clock when the last event's bytes arrived: tick-to-order starts here

    @property
    def due(self) -> bool:
        return self.values is not None


# ------------------------------------------------------------------------------------------------ inference → executor


class Regime(StrEnum):
    RANGE = "range"
    TREND = "trend"
    DEFENSIVE = "defensive"


class RegimeProbs(NamedTuple):
    """Filtered probabilities; they sum to 1."""

    range: float
    trend: float
    defensive: float

    def most_likely(self) -> Regime:
        return (Regime.RANGE, Regime.TREND, Regime.DEFENSIVE)[int(np.argmax(self))]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The output of the models at one moment, before any decision rule is applied."""

    regime_probs: RegimeProbs
    action: float  # -1 fully short … +1 fully long
    probability: float  # that a trade in the action's direction succeeds, 0 … 1
    policy: str  # the policy: "sac", "ppo", "ddpg", "baseline" or a blend's name
    out_of_range_share: float  # share of the 150 inputs beyond the training range, 0 … 1
    observation_sha256: str  # of the policy's whole input, first 16 hex digits
    not_finite: str = ""  # which number was NaN or infinite, so that action and probability are NaN; "" when none was


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account as of the last event of window `seq`; an input of the policy."""

    seq: int
    ts_ns: int
    position: int  # contracts, signed; only what has filled
    average_price: float  # of the open position; 0 when flat
    unrealized: float  # account currency, at the touch the position could be closed at
    realized_today: float  # after costs
    opened_ns: int  # when the open position was entered; 0 when flat
    equity: float
    drawdown: float  # share of peak equity, 0 … 1


class Recalled(NamedTuple):
    """Outcomes of the trades entered in the markets nearest to the present one (see `model.market_memory`)."""

    trades: int  # neighbours found; 0: none
    won_share: float  # of them, 0 … 1
    outcome: float  # mean, ATRs of the position, after costs
    distance: float  # root mean square, typical deviations


NOTHING_RECALLED = Recalled(0, 0.5, 0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Signal:
    """A feature window whose decision is due, the account as of its last event, and the prediction made on both."""

    window: FeatureWindow
    account: AccountState
    prediction: Prediction


# ------------------------------------------------------------------------------------------------------------ decisions


class Action(StrEnum):
    BUY = "buy"
    SELL = "sell"
    EXIT = "exit"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Decision:
    """The position that is wanted; `reason` names the rule that determined it."""

    decision_id: str  # unique across runs: run id and sequence number
    seq: int
    ts_ns: int
    action: Action
    target: int  # position wanted, contracts, signed
    reason: str  # "signal", or the code of the rule or control that prevailed
    prediction: Prediction
    bid: float
    ask: float
    context: dict[str, Any] = field(default_factory=dict)  # key=value facts behind `reason`
    trade_id: str = ""  # of the round trip open at the decision
    overtrade_risk_score: float = 0.0  # before the orders that follow: 0 … 1


# --------------------------------------------------------------------------------------------------- orders and fills


class Side(IntEnum):
    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(IntEnum):
    """Numbered as DTC's OrderTypeEnum."""

    MARKET = 1
    LIMIT = 2
    STOP = 3
    STOP_LIMIT = 4


class TimeInForce(IntEnum):
    """Numbered as DTC's TimeInForceEnum."""

    DAY = 1
    GTC = 2
    IOC = 4
    FOK = 6


class OrderRole(StrEnum):
    """Why an order exists."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Order:
    """An order as intended. It never changes once made; `execution.order_states` has its states."""

    client_order_id: str
    symbol: str
    account: str
    side: Side
    quantity: int
    type: OrderType
    role: OrderRole
    decision_id: str
    price: float = 0.0  # limit price, or stop trigger of a STOP or STOP_LIMIT (DTC's Price1)
    limit_price: float = 0.0  # limit of a STOP_LIMIT (DTC's Price2)
    time_in_force: TimeInForce = TimeInForce.DAY
    parent_id: str = ""  # client_order_id of the entry this order protects


@dataclass(frozen=True, slots=True)
class Bracket:
    """An entry with the stop and target that the server activates when the entry fills; stop and target are OCO."""

    entry: Order
    stop: Order
    target: Order


class OrderStatus(StrEnum):
    """The status of an order as last reported by the server."""

    ACCEPTED = "accepted"  # the server has it and is placing it (sent, pending open)
    HELD = "held"  # the server has it and holds it back until its parent fills (pending child)
    WORKING = "working"
    PARTIAL = "partial"  # working, some of it filled
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    CANCEL_REJECTED = "cancel_rejected"  # the order itself lives on
    REPLACE_REJECTED = "replace_rejected"  # the order itself lives on
    REPLACED = "replaced"
    UNKNOWN_TO_SERVER = "unknown_to_server"  # absent from a complete answer about open orders


class FillSource(StrEnum):
    """Where an execution was reported. The two lists of a server may number the same execution differently."""

    UPDATE = "update"  # with an update of its order
    HISTORY = "history"  # in the answer to a query for past executions
    AVERAGE = "average"  # in neither: what an order reported as filled lacks, at its average price
    EXTERNAL = "external"  # no order of ours: a change of the position that was taken over


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution, as reported.

    Attributes:
        execution_id: the server's; "" where it tells none. It may be unique only within an order, or within a list.
        filled: cumulative filled quantity of the order as reported with the execution; 0 where it is not.
        previous_server_order_id: of the order before a replace; "" where the server does not report it.
    """

    ts_ns: int
    execution_id: str
    client_order_id: str
    server_order_id: str
    symbol: str
    account: str
    side: Side
    quantity: int
    price: float
    source: FillSource = FillSource.UPDATE
    filled: int = 0
    previous_server_order_id: str = ""


@dataclass(frozen=True, slots=True)
class OrderReport:
    """One message from a broker about one order."""

    ts_ns: int  # as reported; 0 where no time is
    client_order_id: str  # "" for an order that is not ours
    server_order_id: str
    symbol: str
    account: str
    status: OrderStatus
    side: Side | None = None
    quantity: int = 0  # total, including what has filled
    filled: int = 0  # cumulative
    average_fill_price: float = 0.0
    price: float = 0.0
    limit_price: float = 0.0
    type: OrderType | None = None
    text: str = ""
    unsolicited: bool = True  # False: part of the answer to a query
    previous_server_order_id: str = ""  # before a replace; "" where the server does not tell it
    fill: Fill | None = None  # the execution reported with it


@dataclass(frozen=True, slots=True)
class PositionReport:
    """The position as reported by the server."""

    ts_ns: int
    symbol: str
    account: str
    quantity: int | None  # signed; None where the server names the position without a quantity
    average_price: float
    unsolicited: bool = True


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """The account's value as reported by the server, in account currency."""

    ts_ns: int
    account: str
    cash: float
    currency: str = "USD"


class LinkState(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class LinkReport:
    """The order connection went up or down; on DOWN the state of orders in flight is unknown.

    Attributes:
        final: it is down and will not be renewed.
    """

    ts_ns: int
    state: LinkState
    text: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class BrokerSnapshot:
    """The server's answer at one moment: all open orders, fills since `since_ns`, and the position.

    An order of ours that is neither among the open orders nor among the fills is unknown to the server, if both lists
    were told.

    Attributes:
        fills: None where the server refuses to list executions.
        positions: None where it refuses to list them.
        balance: None where the server reports none.
    """

    ts_ns: int
    open_orders: tuple[OrderReport, ...]
    fills: tuple[Fill, ...] | None
    positions: tuple[PositionReport, ...] | None
    balance: BalanceReport | None


@dataclass(frozen=True, slots=True)
class BrokerTrouble:
    """The server does something that it should not, about no order in particular.

    Attributes:
        code: of the alert.
        in_doubt: a report about an order may have been lost.
    """

    code: str
    text: str
    in_doubt: bool = False


BrokerEvent = OrderReport | Fill | PositionReport | BalanceReport | LinkReport | BrokerTrouble


@dataclass(frozen=True, slots=True)
class EntryOrigin:
    """The decision behind an entry and the regime probabilities it was made on."""

    decision_id: str
    regime_probs: RegimeProbs


EXTERNAL = EntryOrigin("", RegimeProbs(0.0, 0.0, 0.0))
"""The origin of a position that no decision of ours opened."""


@dataclass(frozen=True, slots=True)
class JournaledFill:
    """A fill read from the journal, with what else the ledger needs."""

    fill: Fill
    origin: EntryOrigin
    exit_reason: str


@dataclass(frozen=True, slots=True)
class JournaledOrder:
    """An order read from the journal that is not known to be done.

    Attributes:
        status: last status that the server reported of the order itself; None when it reported none.
        quantity, price: as last confirmed by the server, else as intended.
        asked_price: of the last replace requested, confirmed or not; 0 when none was.
        reported: contracts the server reported as filled; more than `booked` while a fill is missing.
        booked: contracts of the fills in the journal, listed in `fills`.
        origin: the decision behind it.
        updated_ns: event time of its last update, where that is one of the last on file; else 0.
    """

    order: Order
    intended_ns: int
    status: OrderStatus | None
    server_order_id: str
    quantity: int
    price: float
    reported: int
    booked: int
    fills: tuple[Fill, ...]
    origin: EntryOrigin = EXTERNAL
    asked_price: float = 0.0
    updated_ns: int = 0


@dataclass(frozen=True, slots=True)
class Trade:
    """A closed round trip: from flat to flat."""

    trade_id: str
    symbol: str
    side: Side  # of the entry
    quantity: int  # largest size held
    entry_ns: int
    exit_ns: int
    entry_price: float  # average
    exit_price: float
    gross: float
    costs: float  # commission and fees, both sides
    regime_probs: RegimeProbs  # at the decision to enter
    decision_id: str
    exit_reason: str  # "target", "stop", "signal", "operator", …

    @property
    def profit(self) -> float:
        """After costs, account currency."""
        return self.gross - self.costs


# --------------------------------------------------------------------------------------------------- alerts, statistics


class Priority(IntEnum):
    """Alert priorities of the specification; `alert_manager` decides where each goes."""

    INFO = 1
    WARNING = 2
    ERROR = 3
    CRITICAL = 4
    URGENT = 5


@dataclass(frozen=True, slots=True)
class Alert:
    """A message for the operator. `code` is stable and groups repeats; `text` is one sentence with what to do."""

    ts_ns: int
    code: str
    priority: Priority
    text: str
    context: dict[str, Any] = field(default_factory=dict)


AlertSink = Callable[[Alert], None]


@dataclass(frozen=True, slots=True)
class StageStats:
    """A stage's counters at one moment; counts are since the start, latency since the last sample."""

    stage: str
    items_in: int
    items_out: int
    events_in: int
    failures: int
    busy_s: float
    queue_depth: int
    last_event_age_s: float
    operations: int  # since the last sample
    latency_mean_s: float
    latency_p50_s: float
    latency_p99_s: float
    latency_max_s: float
