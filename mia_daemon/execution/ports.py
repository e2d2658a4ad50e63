"""What the actors of execution use beyond the state: broker, journal, risk, alerts, listener, scope, entrance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mia_daemon.brokers.base import Broker
from mia_daemon.execution.account_journal import AccountJournal
from mia_daemon.execution.inputs import AccountInputs
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Fill, Order, OrderReport, PositionReport, Priority, Trade
from mia_daemon.risk.risk_controller import RiskController

RaiseAlert = Callable[[str, Priority, str, dict[str, Any]], None]
"""Raise an alert at the present event time: code, priority, sentence, context."""


class ExecutionListener(Protocol):
    """Notified of orders, fills and round trips, after orders were sent, never before."""

    def order(self, ts_ns: int, order: Order, what: str) -> None: ...

    def fill(self, fill: Fill) -> None: ...

    def trade(self, trade: Trade) -> None: ...


@dataclass(frozen=True, slots=True)
class TradeScope:
    """The run that trades, the one instrument it trades, and the one account it trades in."""

    run_id: str
    instrument: Instrument
    account: str

    def covers(self, report: OrderReport | Fill | PositionReport) -> bool:
        """Whether it is about our symbol in our account."""
        return report.symbol == self.instrument.symbol and report.account == self.account


@dataclass(frozen=True, slots=True)
class Ports:
    """The services of one run that the actors share."""

    broker: Broker
    journal: AccountJournal
    risk: RiskController
    listener: ExecutionListener
    alert: RaiseAlert
    scope: TradeScope
    inputs: AccountInputs
