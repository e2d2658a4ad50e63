"""Builds one run's trading account: restores the state from the journal, and creates the actors on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import Mode, Settings
from mia_daemon.execution.account_journal import AccountJournal, JournalCalls, TapedCalls
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.client_pairs import ClientPairs
from mia_daemon.execution.entries import Entries
from mia_daemon.execution.entry_policy import EntryPolicy
from mia_daemon.execution.exits import ExitPolicy, Exits
from mia_daemon.execution.flat_schedule import NO_WINDOWS, FlatSchedule, Windows
from mia_daemon.execution.inputs import NO_TAPE, AccountInputs, InputKind, InputTape
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.market_silence import MarketSilence, SilencePolicy
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import ExecutionListener, Ports, TradeScope
from mia_daemon.execution.protection import Protection, ProtectionPolicy
from mia_daemon.execution.reconcile_policy import ReconcilePolicy
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.repeated import RepeatedCalls, TapePlayer
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.surplus_orders import SurplusOrders
from mia_daemon.execution.taped_broker import TapedBroker
from mia_daemon.journal.recovery import Recovered
from mia_daemon.journal.writer import Journal
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Alert, AlertSink, Priority
from mia_daemon.risk.latch_counter import LatchCounter
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.trading.operator_actions import OperatorActions
from mia_daemon.trading.trade_executor import Actors, TradeExecutor
from mia_daemon.trading.trading_loop import TradingLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSetup:
    """Arguments of `open_account`.

    Attributes:
        scope: the run, the instrument and the account at the broker.
        listener: notified of orders, fills and round trips.
        alert: called with each alert.
        tape: takes the account's inputs, where the session is recorded.
        player: of the recorded session that is repeated, with a `RepeatedBroker`; None: the inputs are new.
        research: latches are counted instead of set; for replays.
    """

    settings: Settings
    scope: TradeScope
    journal: Journal
    broker: Broker
    calendar: TradingCalendar
    clock: Clock
    listener: ExecutionListener
    alert: AlertSink
    tape: InputTape = NO_TAPE
    player: TapePlayer | None = None
    research: bool = False


@dataclass(frozen=True, slots=True)
class AccountBeginning:
    """The account as earlier runs left it.

    Attributes:
        last_event_ns: newest event time in the journal; 0 in a new one.
        left: orders, fills and latches; None where the account begins flat whatever the journal contains.
        executions: entries sent since the latch on repeated executions was last cleared.
        messages_today: orders, replaces and cancels sent since the trading day began.
    """

    last_event_ns: int = 0
    left: Recovered | None = None
    executions: int = 0
    messages_today: int = 0


FLAT: Final = AccountBeginning()
"""A replay begins flat, so that it is reproducible."""


def beginning(journal: Journal, scope: TradeScope, calendar: TradingCalendar) -> AccountBeginning:
    """The account as the journal has it. Raises JournalError."""
    last_ns = journal.last_event_ns()
    day_start_ns = _day_start_ns(calendar, last_ns)
    return AccountBeginning(
        last_ns,
        journal.recover(scope.instrument.symbol, scope.account, day_start_ns),
        journal.executions_since_rearm(),
        journal.messages_since(day_start_ns),
    )


def _day_start_ns(calendar: TradingCalendar, ts_ns: int) -> int:
    """When the trading day of `ts_ns` began; 0 before the calendar's first."""
    day = calendar.row_of(ts_ns)
    return int(calendar.rows[day, 0]) if day >= 0 else 0


@dataclass(frozen=True, slots=True)
class EventTime:
    """How event time passes.

    Attributes:
        mode: in replay our time is event time, and a run begins flat; in live the server's position is not taken over
            by itself.
        scale: event seconds per real second (the simulator's speed): our clock runs as fast.
    """

    mode: Mode = Mode.REPLAY
    scale: float = 1.0


EVENT_TIME: Final = EventTime()
"""Our time is event time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingAccount:
    """The account of one run: state, actors, control loop, operator actions, entrance."""

    scope: TradeScope
    journal: Journal
    broker: Broker
    risk: RiskController
    state: ExecutionState
    actors: Actors
    executor: TradeExecutor
    operator: OperatorActions
    inputs: AccountInputs


def open_account(
    setup: AccountSetup,
    loop: TradingLoop,
    begun: AccountBeginning,
    *,
    cash: float,
    time: EventTime,
    windows: Windows = NO_WINDOWS,
) -> TradingAccount:
    """Open the account with the position, orders and latches that earlier runs left.

    Args:
        setup: scope, journal and other services of the run.
        loop: the decision rules.
        begun: what earlier runs left.
        cash: starting cash, account currency, before anything in the journal.
        time: how event time passes.
        windows: when there must be no position.

    Raises:
        TapeEnds: the recorded session ended before its account was open.
    """
    settings, scope, left = setup.settings, setup.scope, begun.left
    ledger = Ledger(scope.instrument, cash + (left.account.realized_before if left else 0.0))
    risk = (LatchCounter if setup.research and time.mode is Mode.REPLAY else RiskController)(
        settings.risk,
        scope.instrument,
        scope.account,
        max_out_of_range_share=settings.model.max_out_of_range_share,
        max_inference_ms=settings.model.max_inference_ms,
        latches=left.risk.latches if left else (),
        consecutive_losses=left.risk.consecutive_losses if left else 0,
        consecutive_rejects=left.risk.consecutive_rejects if left else 0,
        executions=begun.executions,
        messages_today=begun.messages_today,
    )
    account = assemble(setup, ledger, risk, loop, time, windows)
    if left is not None:
        trades = ledger.restore(
            left.account.fills,
            day_start_ns=_day_start_ns(setup.calendar, begun.last_event_ns),
            peak_equity=left.account.peak_equity,
            trade_ids=left.account.trade_ids,
        )
        if setup.player is None:  # else they are in the journal of the recorded session
            for trade in trades:
                setup.journal.record_trade(trade)
        account.state.market.now_ns = begun.last_event_ns
        if setup.player is not None:
            setup.player.take()
        with account.inputs(InputKind.OPENED):
            restore(account, left, begun.last_event_ns)
    return account


def assemble(
    setup: AccountSetup,
    ledger: Ledger,
    risk: RiskController,
    loop: TradingLoop,
    time: EventTime = EVENT_TIME,
    windows: Windows = NO_WINDOWS,
) -> TradingAccount:
    """Create the actors on the state, with the services each of them uses.

    Args:
        setup: scope, journal and other services of the run.
        ledger: position and money.
        risk: the limits.
        loop: the decision rules.
        time: how event time passes.
        windows: when there must be no position.
    """
    settings, scope = setup.settings, setup.scope
    stretch = max(time.scale, 1.0)
    state = ExecutionState(ledger, second_ns=round(NS_PER_S * stretch))
    player = setup.player
    if player is not None:
        state.own_clock = lambda: player.own_ns
        state.wall_clock = lambda: player.wall_ns
    elif time.mode is not Mode.REPLAY:
        state.own_clock = _own_clock(setup.clock, stretch)
        state.wall_clock = None if settings.simulated else setup.clock.now_ns

    def alert(code: str, priority: Priority, text: str, context: dict[str, Any]) -> None:
        # Before the first event the market's time is 0, or the last one of an earlier run.
        ts_ns = state.market.now_ns if state.heard_ns else setup.clock.now_ns()
        setup.alert(Alert(ts_ns, code, priority, text, context))

    inputs = AccountInputs(state, setup.tape)
    broker, calls = _services(setup, inputs)
    ports = Ports(broker, AccountJournal(setup.journal, calls), risk, setup.listener, alert, scope, inputs)
    actors = _actors(setup, state, ports, time)
    executor = TradeExecutor(state, ports, actors, loop, FlatSchedule(state.flatten, windows), setup.clock)
    broker.start(executor.on_broker_event)
    return TradingAccount(
        scope=scope,
        journal=setup.journal,
        broker=broker,
        risk=risk,
        state=state,
        actors=actors,
        executor=executor,
        operator=OperatorActions(state, ports, actors, executor),
        inputs=inputs,
    )


def _services(setup: AccountSetup, inputs: AccountInputs) -> tuple[Broker, JournalCalls]:
    """The broker, and how the journal is called: new and noted on the tape, or as they were in a recorded session."""
    if setup.player is not None:
        return setup.broker, RepeatedCalls(setup.journal, setup.player)
    return TapedBroker(setup.broker, inputs), TapedCalls(setup.journal, inputs)


def _actors(setup: AccountSetup, state: ExecutionState, ports: Ports, time: EventTime) -> Actors:
    settings, stretch = setup.settings, max(time.scale, 1.0)
    client_pairs = settings.broker.brackets == "client"
    tick_size = setup.scope.instrument.tick_size
    reconcile = ReconcilePolicy.of(settings.broker, stretch, adopt_drift=time.mode is not Mode.LIVE)
    breakers = CircuitBreakers(state, ports, settings.incidents)
    accounting = Accounting(state, ports, breakers, setup.calendar)
    order_manager = OrderManager(state, ports, breakers, client_pairs=client_pairs)
    protection = ProtectionPolicy.of(settings, stretch)
    order_events = OrderEventHandler(state, ports, order_manager, accounting, breakers)
    calendar = setup.calendar
    is_open = calendar.is_regular if settings.windows.sessions == "regular" else calendar.is_open
    return Actors(
        order_manager=order_manager,
        order_events=order_events,
        accounting=accounting,
        breakers=breakers,
        entries=Entries(state, ports, order_manager, breakers, EntryPolicy.of(settings, tick_size)),
        exits=Exits(state, ports, order_manager, breakers, ExitPolicy.of(settings, stretch)),
        protection=Protection(state, ports, order_manager, protection),
        client_pairs=ClientPairs(state, order_manager, active=client_pairs),
        surplus=SurplusOrders(state, order_manager, breakers, protection),
        silence=MarketSilence(state, order_manager, SilencePolicy.of(settings, stretch), ports.alert, is_open),
        reconciler=Reconciler(state, ports, order_events, accounting, breakers, reconcile),
    )


def _own_clock(clock: Clock, scale: float) -> Callable[[], int]:
    """Our monotonic clock, scaled to event time; never 0, which stands for "not yet"."""
    monotonic_ns = clock.monotonic_ns
    if scale == 1.0:
        return lambda: monotonic_ns() + NS_PER_S
    return lambda: round(monotonic_ns() * scale) + NS_PER_S


def restore(account: TradingAccount, left: Recovered, last_event_ns: int = 0) -> None:
    """Restore orders of earlier runs that are not known to be done: all unknown until reconciled with the server.

    To be called once, before the broker connects, with ledger and risk restored already, as of the trading day of
    `last_event_ns`. The orders that ended last are restored too, since a fill of theirs may still be reported.
    """
    state, ledger = account.state, account.state.ledger
    if last_event_ns:
        account.actors.accounting.roll_day(last_event_ns)
    state.last_fill_ns = left.account.last_fill_ns
    state.opened_at_ns = state.own_ns if ledger.position else 0
    state.origins |= {
        order.order.decision_id: order.origin
        for order in (*left.orders.ended, *left.orders.open)
        if order.order.decision_id
    }
    account.broker.restore(left.orders.open, ledger.position, ledger.average_price, ledger.equity - ledger.unrealized)
    account.actors.order_manager.restore(left.orders.open, left.orders.ended)
    account.executor.look_at_once()
