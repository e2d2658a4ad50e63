"""Opening the books: the journal, what earlier runs left in it, and the executor that carries on from there."""

from dataclasses import dataclass

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import Clock
from mia_daemon.config import Mode, Settings
from mia_daemon.execution.accounting import ExecutionListener
from mia_daemon.execution.flat_times import NO_WINDOWS, Windows
from mia_daemon.execution.ledger import Ledger
from mia_daemon.journal.writer import Journal
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.stage import AlertSink
from mia_daemon.trading.trade_executor import TradeExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingAccount:
    """The account of one run."""

    run_id: str
    journal: Journal
    ledger: Ledger
    risk: RiskController
    executor: TradeExecutor


def open_account(
    journal: Journal,
    broker: Broker,
    run_id: str,
    *,
    settings: Settings,
    mode: Mode,
    instrument: Instrument,
    calendar: TradingCalendar,
    cash: float,
    alert: AlertSink,
    notices: ExecutionListener,
    clock: Clock,
    time_scale: float = 1.0,
    windows: Windows = NO_WINDOWS,
) -> TradingAccount:
    """The account of run `run_id`, with the position, orders and latches that earlier runs left in `journal`.

    A replay begins flat whatever stands in its journal: it must repeat itself.

    `cash` is what the account began with, before anything in the journal; `windows` say when there is no position.
    """
    account = settings.instrument.trade_account
    last_ns = 0 if mode is Mode.REPLAY else journal.last_event_ns()
    day = calendar.row_of(last_ns)
    day_start_ns = int(calendar.rows[day, 0]) if day >= 0 else 0
    left = None if mode is Mode.REPLAY else journal.recover(instrument.symbol, account, day_start_ns)
    ledger = Ledger(instrument, cash + (left.realized_before if left else 0.0))
    risk = RiskController(
        settings.risk,
        instrument,
        account,
        max_out_of_range_share=settings.model.max_out_of_range_share,
        max_inference_ms=settings.model.max_inference_ms,
        latches=left.latches if left else (),
        consecutive_losses=left.consecutive_losses if left else 0,
        consecutive_rejects=left.consecutive_rejects if left else 0,
        executions=journal.executions_since_rearm() if left else 0,
        messages_today=journal.messages_since(day_start_ns) if left else 0,
    )
    executor = TradeExecutor(
        settings=settings,
        instrument=instrument,
        run_id=run_id,
        broker=broker,
        journal=journal,
        ledger=ledger,
        risk=risk,
        calendar=calendar,
        alert=alert,
        notices=notices,
        clock=clock,
        time_scale=time_scale,
        windows=windows,
    )
    if left is not None:
        for trade in ledger.restore(
            left.fills, day_start_ns=day_start_ns, peak_equity=left.peak_equity, trade_ids=left.trade_ids
        ):
            journal.record_trade(trade)
        executor.restore(left.orders, left.last_fill_ns, last_ns, left.ended)
    return TradingAccount(run_id=run_id, journal=journal, ledger=ledger, risk=risk, executor=executor)
