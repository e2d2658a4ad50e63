"""Builds one run's trading account: restores the state from the journal, and creates the actors on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import Mode, Settings
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.client_pairs import ClientPairs
from mia_daemon.execution.entries import Entries
from mia_daemon.execution.entry_policy import EntryPolicy
from mia_daemon.execution.exits import ExitPolicy, Exits
from mia_daemon.execution.flat_schedule import NO_WINDOWS, FlatSchedule, Windows
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.market_silence import MarketSilence, SilencePolicy
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import ExecutionListener, Ports, TradeScope
from mia_daemon.execution.protection import Protection, ProtectionPolicy
from mia_daemon.execution.reconcile_policy import ReconcilePolicy
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.surplus_orders import SurplusOrders
from mia_daemon.journal.recovery import Recovered
from mia_daemon.journal.writer import Journal
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Alert, AlertSink, Priority
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
    """

    settings: Settings
    scope: TradeScope
    journal: Journal
    broker: Broker
    calendar: TradingCalendar
    clock: Clock
    listener: ExecutionListener
    alert: AlertSink


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
    """The account of one run: state, actors, control loop, operator actions."""

    scope: TradeScope
    journal: Journal
    broker: Broker
    risk: RiskController
    state: ExecutionState
    actors: Actors
    executor: TradeExecutor
    operator: OperatorActions


def open_account(
    setup: AccountSetup,
    loop: TradingLoop,
    *,
    cash: float,
    time: EventTime,
    windows: Windows = NO_WINDOWS,
) -> TradingAccount:
    """Open the account with the position, orders and latches that earlier runs left in the journal.

    A replay begins flat whatever its journal contains, so that it is reproducible.

    Args:
        setup: scope, journal and other services of the run.
        loop: the decision rules.
        cash: starting cash, account currency, before anything in the journal.
        time: how event time passes.
        windows: when there must be no position.
    """
    settings, scope, journal, calendar = setup.settings, setup.scope, setup.journal, setup.calendar
    mode = time.mode
    last_ns = 0 if mode is Mode.REPLAY else journal.last_event_ns()
    day = calendar.row_of(last_ns)
    day_start_ns = int(calendar.rows[day, 0]) if day >= 0 else 0
    left = None if mode is Mode.REPLAY else journal.recover(scope.instrument.symbol, scope.account, day_start_ns)
    ledger = Ledger(scope.instrument, cash + (left.account.realized_before if left else 0.0))
    risk = RiskController(
        settings.risk,
        scope.instrument,
        scope.account,
        max_out_of_range_share=settings.model.max_out_of_range_share,
        max_inference_ms=settings.model.max_inference_ms,
        latches=left.risk.latches if left else (),
        consecutive_losses=left.risk.consecutive_losses if left else 0,
        consecutive_rejects=left.risk.consecutive_rejects if left else 0,
        executions=journal.executions_since_rearm() if left else 0,
        messages_today=journal.messages_since(day_start_ns) if left else 0,
    )
    account = assemble(setup, ledger, risk, loop, time, windows)
    if left is not None:
        for trade in ledger.restore(
            left.account.fills,
            day_start_ns=day_start_ns,
            peak_equity=left.account.peak_equity,
            trade_ids=left.account.trade_ids,
        ):
            journal.record_trade(trade)
        account.state.market.now_ns = last_ns
        restore(account, left, last_ns)
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
    if time.mode is not Mode.REPLAY:
        state.own_clock = _own_clock(setup.clock, stretch)
        state.wall_clock = None if settings.simulated else setup.clock.now_ns

    def alert(code: str, priority: Priority, text: str, context: dict[str, Any]) -> None:
        setup.alert(Alert(state.market.now_ns or setup.clock.now_ns(), code, priority, text, context))

    ports = Ports(setup.broker, setup.journal, risk, setup.listener, alert, scope)
    actors = _actors(setup, state, ports, time)
    executor = TradeExecutor(state, ports, actors, loop, FlatSchedule(state.flatten, windows), setup.clock)
    setup.broker.start(executor.on_broker_event)
    return TradingAccount(
        scope=scope,
        journal=setup.journal,
        broker=setup.broker,
        risk=risk,
        state=state,
        actors=actors,
        executor=executor,
        operator=OperatorActions(state, ports, actors, executor),
    )


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
