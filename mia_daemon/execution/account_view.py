"""The account as risk looks at it: position, orders, money and market, at this moment."""

from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.state import BrokerSync
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.market import MarketState
from mia_daemon.records import Side
from mia_daemon.risk.snapshot import NO_DELAYS, Delays, RiskSnapshot


class AccountView:
    """Puts together what those who trade know, each time it is asked."""

    def __init__(self, ledger: Ledger, working: WorkingOrders, market: MarketState, server: BrokerSync) -> None:
        self._ledger = ledger
        self._working = working
        self._market = market
        self._server = server

    def facts(self, delays: Delays = NO_DELAYS) -> RiskSnapshot:
        """All that an order is judged by; no `delays` where they must not matter."""
        facts, working = self.value(), self._working
        facts.delays = delays
        if len(working):
            facts.working_buy, facts.working_sell = working.exposure(Side.BUY), working.exposure(Side.SELL)
            facts.own_bid, facts.own_ask = working.best_limit(Side.BUY), working.best_limit(Side.SELL)
            facts.unknown_orders = len(working.unknown()) + len(working.missing_fills())
        return facts

    def value(self) -> RiskSnapshot:
        """Position and money alone, without a look at the orders: for what is watched once a second."""
        ledger, market = self._ledger, self._market
        touch = market.touch
        return RiskSnapshot(
            ts_ns=market.now_ns,
            position=ledger.position,
            working_buy=0,
            working_sell=0,
            bid=touch.bid,
            ask=touch.ask,
            touch_ns=touch.ts_ns,
            realized_today=ledger.realized_today,
            unrealized=ledger.unrealized,
            drawdown=ledger.drawdown,
            link_up=self._server.link_up,
            reconciled=self._server.agreed,
        )
