"""Status of a running daemon: the facts behind `status`, and the terminal's status line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.latency import LatencyBuckets
from mia_daemon.ops.console import StatusLine
from mia_daemon.products.ticks import price_text
from mia_daemon.retention.rounds import disk_text
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import Tally
from mia_daemon.trading.trading_loop import DecisionReason

_OLD_PRICE_S: Final = 10.0
"""Age of the last price from which it is in the service manager's status, and in what steps."""

_SHOWN_REASONS: Final = frozenset({DecisionReason.WARMING_UP, DecisionReason.NOT_FINITE})
"""Reasons of the last decision that say why nothing is entered for longer."""


SIMULATED: Final = "simulated market: its profit means nothing"
"""Said of a session at the embedded simulator."""


@dataclass(slots=True)
class DaemonStatus:
    """Collects the status; called once a second.

    Args:
        elapsed_s: seconds since the start.
        disk: how the disk of var/ stands (`retention.rounds.Disk.facts`); None before the first look.
    """

    run: DaemonRun
    account: TradingAccount
    tally: Tally
    elapsed_s: Callable[[], float]
    disk: Callable[[], dict[str, Any] | None] = lambda: None
    _tick_to_order: LatencyBuckets = field(default_factory=LatencyBuckets)

    def facts(self, decisions_per_s: float) -> dict[str, Any]:
        """The facts beside the tasks' metrics; the latency is of the last interval that had an entry."""
        run, account = self.run, self.account
        executor, state, tally = account.executor, account.state, self.tally
        ledger, touch = state.ledger, state.market.touch
        if executor.tick_to_order.count:
            self._tick_to_order, executor.tick_to_order = executor.tick_to_order, LatencyBuckets()
        latency = self._tick_to_order
        regime = run.reporter.regime_probs
        return {
            "run": account.scope.run_id,
            "mode": run.mode.value,
            "symbol": run.instrument.symbol,
            "account": run.settings.instrument.trade_account,
            "state": account.risk.state.value,
            "state_text": self._state_text(),
            "reconciled": state.sync.reconciled,
            "latches": [latch.code.value for latch in account.risk.latches],
            "exchange_ns": tally.last_ts_ns,
            "bid": touch.bid if touch.known else None,
            "ask": touch.ask if touch.known else None,
            "price_age_s": None if state.price_age_ns is None else round(state.price_age_ns / NS_PER_S, 1),
            "position": ledger.position,
            "realized_today": round(ledger.realized_today, 2),
            "unrealized": round(ledger.unrealized, 2),
            "equity": round(ledger.equity, 2),
            "drawdown": round(ledger.drawdown, 6),
            "working_orders": len(state.orders),
            "unknown_orders": len(state.orders.unknown()),
            "regime_probs": regime._asdict() if regime else None,
            "decisions": tally.decisions,
            "decisions_per_s": round(decisions_per_s, 2),
            "events": tally.events,
            "orders": run.reporter.orders,
            "fills": run.reporter.fills,
            "round_trips": run.reporter.round_trips,
            "tick_to_order_p50_s": latency.quantile_s(0.5) if latency.count else None,
            "tick_to_order_p99_s": latency.quantile_s(0.99) if latency.count else None,
            "uptime_s": round(self.elapsed_s(), 1),
            "disk": self.disk(),
        }

    def line(self, facts: Mapping[str, Any]) -> StatusLine:
        """The terminal's status line."""
        touch, ledger = self.account.state.market.touch, self.account.state.ledger
        return StatusLine(
            state=facts["state_text"],
            ts_ns=self.tally.last_ts_ns,
            symbol=self.run.instrument.symbol,
            price=(touch.bid + touch.ask) / 2 if touch.known else None,
            position=ledger.position,
            profit=ledger.realized_today + ledger.unrealized,
            regime_probs=self.run.reporter.regime_probs,
            decisions_per_s=facts["decisions_per_s"],
            tick_to_order_s=facts["tick_to_order_p50_s"],
        )

    def _state_text(self) -> str:
        """What is allowed, and why no entry is sent where none is."""
        account = self.account
        state = account.risk.state.value
        if latches := [latch.code.value for latch in account.risk.latches]:
            return state if latches == [state] else f"{state}: {', '.join(latches)}"
        if not account.state.sync.reconciled:
            return "not reconciled yet"
        last_reason = self.run.reporter.last_reason
        return last_reason.replace("_", " ") if last_reason in _SHOWN_REASONS else state


def status_text(facts: Mapping[str, Any]) -> str:
    """The facts in a few lines, for people."""
    if not facts:
        return "starting: no figures yet"
    price = f"{price_text(facts['bid'])}/{price_text(facts['ask'])}" if facts["bid"] is not None else "no price"
    age = "" if facts["price_age_s"] is None else f" ({facts['price_age_s']:.1f} s old)"
    latency = facts["tick_to_order_p50_s"]
    return (
        f"{facts['state_text']}, {facts['mode']} {facts['symbol']} {price}{age}\n"
        f"position {facts['position']:+d}, {facts['working_orders']} working orders, "
        f"{facts['unknown_orders']} of unknown fate, today {facts['realized_today'] + facts['unrealized']:+.2f}\n"
        f"{facts['decisions']} decisions, {facts['orders']} orders, {facts['fills']} fills, "
        f"{facts['round_trips']} round trips; tick to order "
        f"{'-' if latency is None else f'{latency * 1e6:.0f} µs'}; up {facts['uptime_s']:.0f} s"
        f"{chr(10) + disk_text(facts['disk']) if facts['disk'] else ''}"
    )


def service_text(facts: Mapping[str, Any]) -> str:
    """The facts in one line for `systemctl status`; it changes only with what matters."""
    age_s = facts["price_age_s"]
    if age_s is None:
        price = ", no price yet"
    else:
        price = f", no price for {age_s // _OLD_PRICE_S * _OLD_PRICE_S:.0f} s" if age_s >= _OLD_PRICE_S else ""
    return f"{facts['state_text']}; {facts['mode']} {facts['symbol']}, position {facts['position']:+d}{price}"
