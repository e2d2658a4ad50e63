"""The account as risk looks at it: position, orders, money and market, at this moment."""

from mia_daemon.records import Side
from mia_daemon.risk.risk_controller import RiskFacts
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

    def facts(self, inference_ms: float = 0.0) -> RiskFacts:
        """All that an order is judged by; `inference_ms` is 0 where it must not matter."""
        working = self._working
        unknown = len(working.unknown()) + len(working.missing_fills())
        return self._facts(working.exposure(Side.BUY), working.exposure(Side.SELL), unknown, inference_ms)

    def value(self) -> RiskFacts:
        """Position and money alone, without a look at the orders: for what is watched once a second."""
        return self._facts(0, 0, 0, 0.0)

    def _facts(self, working_buy: int, working_sell: int, unknown: int, inference_ms: float) -> RiskFacts:
        ledger, market = self._ledger, self._market
        touch = market.touch
        return RiskFacts(
            ts_ns=market.now_ns,
            position=ledger.position,
            working_buy=working_buy,
            working_sell=working_sell,
            bid=touch.bid,
            ask=touch.ask,
            touch_ns=touch.ts_ns,
            realized_today=ledger.realized_today,
            unrealized=ledger.unrealized,
            drawdown=ledger.drawdown,
            unknown_orders=unknown,
            link_up=self._server.link_up,
            reconciled=self._server.agreed,
            inference_ms=inference_ms,
        )
