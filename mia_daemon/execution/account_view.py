"""The account as risk looks at it: position, orders, money and market, at this moment."""

from mia_daemon.records import Side
from mia_daemon.risk.facts import NO_DELAYS, Delays, RiskFacts
from mia_daemon.trading.ledger import Ledger
from mia_daemon.trading.orders import WorkingOrders
from mia_daemon.trading.server_view import ServerView
from mia_daemon.trading.touch import Market


class AccountView:
    """Puts together what those who trade know, each time it is asked."""

    def __init__(self, ledger: Ledger, working: WorkingOrders, market: Market, server: ServerView) -> None:
        self._ledger = ledger
        self._working = working
        self._market = market
        self._server = server

    def facts(self, delays: Delays = NO_DELAYS) -> RiskFacts:
        """All that an order is judged by; no `delays` where they must not matter."""
        facts, working = self.value(), self._working
        facts.delays = delays
        if len(working):
            facts.working_buy, facts.working_sell = working.exposure(Side.BUY), working.exposure(Side.SELL)
            facts.own_bid, facts.own_ask = working.best_limit(Side.BUY), working.best_limit(Side.SELL)
            facts.unknown_orders = len(working.unknown()) + len(working.missing_fills())
        return facts

    def value(self) -> RiskFacts:
        """Position and money alone, without a look at the orders: for what is watched once a second."""
        ledger, market = self._ledger, self._market
        touch = market.touch
        return RiskFacts(
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
