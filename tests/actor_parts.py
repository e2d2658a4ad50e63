"""What one actor of execution is built with in a test of its own: a real state, and fakes that note what leaves."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import IncidentSettings, RiskSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.inputs import AccountInputs
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports, TradeScope
from mia_daemon.execution.state import ExecutionState
from mia_daemon.market import Touch
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    Action,
    Alert,
    BrokerSnapshot,
    Decision,
    EntryOrigin,
    Fill,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Prediction,
    RegimeProbs,
    Side,
)
from mia_daemon.risk.risk_controller import RiskController

SYMBOL, ACCOUNT, RUN = "ESZ26_FUT_CME", "Sim1", "RUN1"
INSTRUMENT = instrument(SYMBOL)
SCOPE = TradeScope(RUN, INSTRUMENT, ACCOUNT)
TICK = INSTRUMENT.tick_size
NOW = 1_700_000_000 * NS_PER_S
REGIMES = RegimeProbs(0.7, 0.2, 0.1)
PREDICTION = Prediction(REGIMES, 0.9, 0.8, "baseline", 0.0, "0" * 16)
LOOSE = RiskSettings(
    max_order_contracts=5,
    max_order_notional=1e9,
    max_position_contracts=5,
    max_daily_loss=1e9,
    max_drawdown_share=1.0,
    max_orders_per_minute=1000,
    max_messages_per_second=1000,
    max_messages_per_day=100_000,
    cancel_reserve_share=0.25,
    max_executions=10_000,
    max_price_age_s=1000.0,
    max_price_deviation_ticks=40,
    max_price_jump_ticks=10_000,
    market_pause_s=0.0,
    max_clock_skew_s=5.0,
    max_decision_age_ms=1e6,
    max_fill_slippage_ticks=10_000,
    max_consecutive_losses=10_000,
    max_consecutive_rejects=10_000,
    max_spread_ticks=20,
)
LETTERS = {OrderRole.ENTRY: "E", OrderRole.STOP: "S", OrderRole.TARGET: "T", OrderRole.EXIT: "X"}


class FakeBroker:
    """Notes what is sent, and answers nothing."""

    has_own_clock = False
    replaces = True

    def __init__(self, happened):
        self.orders_sent = 0
        self.sent = []  # (what, client order id, …)
        self.orders = []
        self._happened = happened

    def _note(self, *sent):
        self.sent.append(sent)
        self._happened.append(sent)

    def _send(self, what, *orders):
        self.orders += orders
        self.orders_sent += len(orders)
        self._note(what, orders[0].client_order_id)

    def submit(self, order):
        self._send("submit", order)

    def submit_bracket(self, bracket):
        self._send("bracket", bracket.entry, bracket.stop, bracket.target)

    def flatten(self, order):
        self._send("flatten", order)

    def replace(self, client_order_id, _server_order_id, price, quantity):
        self._note("replace", client_order_id, price, quantity)

    def cancel(self, client_order_id, _server_order_id):
        self._note("cancel", client_order_id)


class FakeJournal:
    """Notes what is written, and forgets what a failed transaction wrote.

    What is named in `fails` raises, as on a full disk: a row's kind, "commit", a question's name, or "all".
    """

    def __init__(self, happened):
        self.fails = set()
        self.written = []  # (kind of row, …)
        self.kept = []  # latches beside the journal
        self.runs = {RUN}
        self._happened = happened

    def rows(self, kind):
        return [facts for what, *facts in self.written if what == kind]

    def _check(self, what):
        if self.fails & {what, "all"}:
            raise JournalError("disk full")

    def _write(self, what, *facts):
        self._check(what)
        self.written.append((what, *facts))
        self._happened.append(("journal", what, facts[0]))

    @contextmanager
    def transaction(self):
        before = len(self.written)
        try:
            yield
            self._check("commit")
        except BaseException:
            del self.written[before:]
            raise

    def commit(self):
        self._check("commit")

    def record_intent(self, orders, ts_ns):
        self._write("intent", tuple(order.client_order_id for order in orders), ts_ns)

    def record_request(self, client_order_id, kind, ts_ns, price=None, quantity=None, reason=""):
        self._write("request", client_order_id, kind.value, ts_ns, price, quantity, reason)

    def record_update(self, update):
        self._write("update", update.client_order_id, update.status)

    def record_fill(self, fill):
        self._check("fill")
        new = not self._has(fill.client_order_id, fill.execution_id)
        if new:
            self._write("fill", fill.execution_id, fill)
        return new

    def record_trade(self, trade):
        self._write("trade", trade.trade_id, trade)
        return True

    def record_decision(self, decision, verdict=None):
        self._write("decision", decision.decision_id, verdict)

    def record_equity(self, ts_ns, equity, peak, position, unrealized, realized_today):
        self._write("equity", ts_ns, equity, peak, position, unrealized, realized_today)

    def set_latch(self, latch):
        try:
            self._write("set_latch", latch.code, latch)
        except JournalError:
            self.keep_latch(latch)
            raise
        return True

    def clear_latch(self, code, ts_ns, by):
        self._write("clear_latch", code, ts_ns, by)
        return True

    def keep_latch(self, latch):
        self.kept.append(latch.code)
        self._happened.append(("kept beside the journal", latch.code))
        return True

    def has_fill(self, client_order_id, execution_id):
        self._check("has_fill")
        return self._has(client_order_id, execution_id)

    def executions_of(self, server_order_id):
        self._check("executions_of")
        return tuple(fill for _, fill in self.rows("fill") if fill.server_order_id == server_order_id)

    def _has(self, client_order_id, execution_id):
        names = ((fill.client_order_id, fill.execution_id) for _, fill in self.rows("fill"))
        return (client_order_id, execution_id) in names

    def record_position(self, report):
        self._write("position", report)

    def record_firing(self, ts_ns, waited_ns, what, client_order_id=""):
        self._write("firing", what, ts_ns, waited_ns, client_order_id)

    def has_intent(self, client_order_id):
        self._check("has_intent")
        return any(client_order_id in names for names, _ in self.rows("intent"))

    def has_run(self, run_id):
        self._check("has_run")
        return run_id in self.runs


@dataclass
class FakeListener:
    """Notes what it is notified of."""

    orders: list = field(default_factory=list)
    fills: list = field(default_factory=list)
    trades: list = field(default_factory=list)

    def order(self, _ts_ns, order, what):
        self.orders.append((order.client_order_id, what))

    def fill(self, fill):
        self.fills.append(fill)

    def trade(self, trade):
        self.trades.append(trade)


class FakeCalendar:
    """Trading days that begin at the given times."""

    def __init__(self, *opens_ns):
        self._opens_ns = opens_ns

    def next_open_ns(self, ts_ns):
        return next((open_ns for open_ns in self._opens_ns if open_ns > ts_ns), None)


class ActorParts:
    """State and ports at 100.00 / 100.25, reconciled and flat; `limits` are those of risk that are not loose.

    Attributes:
        happened: what was sent, written and alerted, in its order.
    """

    def __init__(self, incidents=None, **limits):
        self.happened = []
        self.alerts = []
        self.broker = FakeBroker(self.happened)
        self.journal = FakeJournal(self.happened)
        self.listener = FakeListener()
        self.risk = RiskController(LOOSE.model_copy(update=limits), INSTRUMENT, ACCOUNT)
        self.state = ExecutionState(Ledger(INSTRUMENT, 100_000.0))
        self.orders, self.market, self.sync = self.state.orders, self.state.market, self.state.sync
        self.ledger = self.state.ledger
        self.ports = Ports(
            self.broker, self.journal, self.risk, self.listener, self._alert, SCOPE, AccountInputs(self.state)
        )
        self.breakers = CircuitBreakers(self.state, self.ports, incidents or IncidentSettings())
        self.after(0)
        self.touch(100.0)
        self.sync.reconciled, self.sync.query_reason = True, ""
        self._placed = 0

    @cached_property
    def order_manager(self):
        """A real one, for the actors that send through it."""
        return OrderManager(self.state, self.ports, self.breakers)

    @cached_property
    def accounting(self):
        """A real one, with a trading day that does not end."""
        return Accounting(self.state, self.ports, self.breakers, FakeCalendar())

    @cached_property
    def events(self):
        """The real handler of what the broker reports, on the real accounting."""
        return OrderEventHandler(self.state, self.ports, self.order_manager, self.accounting, self.breakers)

    def _alert(self, code, priority, text, context):
        self.alerts.append(Alert(self.market.now_ns, code, priority, text, context))
        self.happened.append(("alert", code))

    @property
    def alert_codes(self):
        return [alert.code for alert in self.alerts]

    @property
    def latched(self):
        return [latch.code for latch in self.risk.latches]

    def use_up(self, name, role):
        """Risk refuses the next order of this name: it was used before."""
        self.risk.check_order(make_order(name, role, self.state.held.close_side), self.state.risk_snapshot())

    # The market.

    def touch(self, bid, ask=None):
        self.market.touch = Touch(bid, bid + TICK if ask is None else ask, ts_ns=self.market.now_ns)

    def after(self, ns):
        """An event so long after the first."""
        self.market.now_ns = NOW + ns
        self.state.heard_ns = self.state.own_ns

    # The position.

    def hold(self, quantity, price=100.0, decision_id="d1"):
        """The position is this one, by a fill of an order long done, and the server says so too."""
        change = quantity - self.ledger.position
        side = Side.BUY if change > 0 else Side.SELL
        self._placed += 1
        fill = Fill(NOW, f"h{self._placed}", "", "", SYMBOL, ACCOUNT, side, abs(change), price)
        self.ledger.apply(fill, EntryOrigin(decision_id, REGIMES))
        self.sync.on_position(quantity)

    # Orders.

    def place(self, role=OrderRole.ENTRY, side=None, quantity=1, price=100.0, state=OrderState.WORKING, parent_id=""):
        """An order of ours that has come as far as `state`."""
        self._placed += 1
        name = f"K{self._placed}{LETTERS[role]}"
        entry = self.orders.add(make_order(name, role, side, quantity, price, parent_id))
        if state is OrderState.INTENT:
            return entry
        self.orders.sent(entry, self.market.now_ns, self.state.own_ns)
        if state is OrderState.UNKNOWN:
            self.orders.lose(entry)
        elif state is not OrderState.SENT:
            status = OrderStatus.ACCEPTED if state is OrderState.ACKED else OrderStatus(state.value)
            self.report(entry, status, server_order_id=f"S{self._placed}")
        return entry

    def report(self, entry, status, **more):
        """The server says this of an order."""
        self.orders.apply_update(self.update(entry, status, **more))

    def update(self, entry, status, **more):
        """What the server says of an order, not applied."""
        order = entry.order
        number = entry.server_order_id or f"S-{order.client_order_id}"
        facts = {
            "ts_ns": self.market.now_ns,
            "server_order_id": number,
            "side": order.side,
            "type": order.type,
            "quantity": entry.quantity,
        }
        return make_update(order.client_order_id, status, **{**facts, **more})

    def fill(self, entry, quantity=1, price=None, execution_id="x1", **more):
        """An execution of an order, not applied."""
        order = entry.order
        facts = {"ts_ns": self.market.now_ns, "side": order.side, "price": order.price if price is None else price}
        return make_fill(order.client_order_id, execution_id, quantity=quantity, **{**facts, **more})


def make_order(name="K1E", role=OrderRole.ENTRY, side=None, quantity=1, price=100.0, parent_id="", type_=None):
    """An order of a long trade, unless `side` says otherwise: the entry buys, what closes sells."""
    return Order(
        client_order_id=name,
        symbol=SYMBOL,
        account=ACCOUNT,
        side=side or (Side.BUY if role is OrderRole.ENTRY else Side.SELL),
        quantity=quantity,
        type=type_ or (OrderType.STOP if role is OrderRole.STOP else OrderType.LIMIT),
        role=role,
        decision_id="d1",
        price=price,
        parent_id=parent_id,
    )


def make_update(name="", status=OrderStatus.WORKING, **more):
    return replace(OrderReport(NOW, name, "", SYMBOL, ACCOUNT, status, Side.BUY, 1), **more)


def make_fill(name="", execution_id="x1", **more):
    return replace(Fill(NOW, execution_id, name, "", SYMBOL, ACCOUNT, Side.BUY, 1, 100.0), **more)


def make_decision(action, target, reason="signal", number=1):
    return Decision(f"d{number}", number, NOW, Action(action), target, reason, PREDICTION, 100.0, 100.25)


def make_snapshot(position=0, *, orders=(), fills=(), average_price=0.0):
    """The server's complete answer."""
    held = (PositionReport(NOW, SYMBOL, ACCOUNT, position, average_price),) if position else ()
    return BrokerSnapshot(NOW, tuple(orders), tuple(fills), held, None)
