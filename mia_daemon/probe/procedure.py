"""The procedure of a probe: questions, then orders far from the market, and everything cancelled at the end.

It keeps to a simulated account that is flat and has no working order when it begins. Whatever happens, and also when it
is interrupted, it ends by cancelling its orders and by asking the server what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra_mapping import DtcOrderMapper
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderUpdateReasonEnum
from mia_daemon.errors import MiaError
from mia_daemon.probe.evidence import Change, Evidence, OrderStory
from mia_daemon.probe.link import ProbeLink
from mia_daemon.probe.orders import FAR_SHARE, ProbeOrders
from mia_daemon.probe.queries import Queries
from mia_daemon.probe.trading import ProbeTrading

SIMULATED: Final = "Sim"
"""What the name of every account of Sierra Chart's Trade Simulation Mode begins with."""

UNKNOWN_ORDER: Final = "999999999999"
"""A ServerOrderID that no server has given yet."""

_DAYS: Final = 1


class ProbeStopped(MiaError):
    """The probe can't go on; what it found out so far is true."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What is probed.

    Attributes:
        scope: symbol and account.
        prefix: of ClientOrderIDs, new for every probe.
        price: of the market in points, as the operator or a file says; None: as the server says.
        patience_s: how long an answer may take, seconds.
    """

    scope: ServerScope
    prefix: str
    price: float | None
    patience_s: float


class Procedure:
    """Carries out one probe over a connection that is open.

    Attributes:
        evidence: what was found out so far.
    """

    def __init__(self, link: ProbeLink, plan: ProbePlan, clock: Clock, say: Callable[[str], None]) -> None:
        self.evidence = Evidence(logon=link.server)
        self._link = link
        self._plan = plan
        self._clock = clock
        self._say = say
        self._queries = Queries(link, plan.patience_s)

    async def run(self) -> None:
        """All of it.

        Raises:
            ProbeStopped: it can't go on; the text says why and what to do.
            PeerError: the connection ended; orders may be left at the server.
        """
        await self._ask()
        self._check()
        trading = self._trading()
        try:
            await self._probe_limit(trading)
            await self._probe_pair(trading)
            await self._probe_bracket(trading)
        finally:
            self._say("cancelling what is left")
            await trading.clear(self.evidence.left)

    # Questions.

    async def _ask(self) -> None:
        found, scope, ask = self.evidence, self._plan.scope, self._queries.ask
        account = scope.account
        self._say("asking for accounts, symbol, prices, orders, fills, positions and balance")
        found.accounts = await ask(dtc.TradeAccountsRequest())
        found.definition = await ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=scope.trade_symbol))
        found.prices = await self._queries.prices(scope.trade_symbol)
        found.orders = await ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=account))
        found.positions = await ask(dtc.CurrentPositionsRequest(TradeAccount=account))
        day_ago_s = self._clock.now_ns() // NS_PER_S - 86_400
        found.fills_since = await ask(dtc.HistoricalOrderFillsRequest(TradeAccount=account, StartDateTime=day_ago_s))
        found.fills_by_days = await ask(dtc.HistoricalOrderFillsRequest(TradeAccount=account, NumberOfDays=_DAYS))
        found.balance = await ask(dtc.AccountBalanceRequest(TradeAccount=account))

    def _check(self) -> None:
        """Raises ProbeStopped unless orders may be sent."""
        found, scope, account = self.evidence, self._plan.scope, self._plan.scope.account
        if not found.logon.TradingIsSupported:
            raise ProbeStopped("the server takes no orders: enable Allow Trading in its DTC server settings")
        names = [message.TradeAccount for message in found.accounts.messages]
        if account not in names:
            listed = ", ".join(name for name in names if name.startswith(SIMULATED)) or "no simulated account"
            raise ProbeStopped(
                f"the server does not list the account {account} ({listed}): name one that it lists with --account, "
                "and switch Trade Simulation Mode on"
            )
        if real := [name for name in names if not name.startswith(SIMULATED)]:
            raise ProbeStopped(
                f"the server lists {len(real)} accounts that are not simulated ones: switch Trade Simulation Mode on; "
                f"then there are only accounts whose names begin with {SIMULATED}"
            )
        if not found.definition.messages:
            raise ProbeStopped(f"the server gives no definition of {scope.trade_symbol}: spell it as Sierra Chart does")
        self._check_is_idle()

    def _trading(self) -> ProbeTrading:
        plan, multiplier = self._plan, self.evidence.multiplier
        mapper = DtcOrderMapper(plan.scope)
        mapper.multiplier = multiplier
        orders = ProbeOrders(plan.scope.instrument, plan.scope.account, plan.prefix, self._price(), multiplier)
        return ProbeTrading(self._link, self._queries, mapper, orders, plan.patience_s)

    def _check_is_idle(self) -> None:
        """Raises ProbeStopped unless the server says that the account has neither orders nor positions."""
        found, account = self.evidence, self._plan.scope.account
        if not found.orders.given or not found.positions.given:
            raise ProbeStopped(
                f"the server does not say which orders and positions {account} has: nothing is sent, "
                "since it must be flat and without working orders"
            )
        if found.orders.messages:
            raise ProbeStopped(
                f"{account} has {len(found.orders.messages)} working orders: cancel them, then probe again"
            )
        held = [message for message in found.positions.messages if message.Quantity]
        if held:
            what = ", ".join(f"{message.Quantity:g} {message.Symbol}" for message in held[:3])
            raise ProbeStopped(f"{account} is not flat ({what}): close its positions, then probe again")

    def _price(self) -> float:
        """The market's price, points. Raises ProbeStopped where it is not known, or where what is known disagrees."""
        named, multiplier, prices = self._plan.price, self.evidence.multiplier, self.evidence.prices
        known = (
            [p for p in (prices.LastTradePrice, prices.BidPrice, prices.AskPrice) if 0.0 < p < dtc.UNSET_F64]
            if isinstance(prices, dtc.MarketDataSnapshot)
            else []
        )
        if named is None and (not known or multiplier != 1.0):
            why = "its DisplayPriceMultiplier is not 1" if known else "the server gives none"
            raise ProbeStopped(f"orders must stay away from the market's price, but {why}: name the price with --price")
        price = max(known) if named is None else named
        for one in known:
            if not any(abs(price / market - 1.0) <= FAR_SHARE / 2 for market in (one, one * multiplier)):
                raise ProbeStopped(
                    f"orders must stay away from the market's price, but which one is it: {price:g} "
                    f"{'by the server' if named is None else 'by --price or the .scid file'}, and {one:g} by the "
                    "server? Name the right one with --price"
                )
        return price

    # Orders.

    async def _probe_limit(self, trading: ProbeTrading) -> None:
        found, mapper = self.evidence, trading.mapper
        self._say("a limit order: submit, list, replace, cancel in several ways")
        story = found.limit = await _limit(trading)
        if not story.is_known:
            return
        found.limit_listed = await trading.list_open()
        price = trading.orders.moved(story.order)
        replace_it = mapper.replace(story.order.client_order_id, story.server_id, price, 1)
        found.replace = await trading.change(story, replace_it, _is_replaced)
        await self._probe_cancels(trading, story)

    async def _probe_cancels(self, trading: ProbeTrading, story: OrderStory) -> None:
        """Wrong cancels, then the right one; an order that a wrong one cancels is followed by a new one."""
        found, cancel = self.evidence, trading.mapper.cancel
        ours, other = story.order.client_order_id, f"{self._plan.prefix}0"
        found.cancel_unknown = await trading.change(story, cancel(other, UNKNOWN_ORDER), _is_refused)
        found.cancel_unnumbered = await trading.change(story, cancel(ours, ""), _is_over)
        if not story.may_live:
            found.more_limits.append(story := await _limit(trading))
        found.cancel_misnamed = await trading.change(story, cancel(other, story.server_id), _is_over)
        if not story.may_live:
            found.more_limits.append(story := await _limit(trading))
        right = cancel(story.order.client_order_id, story.server_id)
        found.cancel = await trading.change(story, right, _is_over)
        if not story.may_live:
            found.cancel_again = await trading.change(story, right, _is_refused)

    async def _probe_pair(self, trading: ProbeTrading) -> None:
        self._say("an OCO pair without a parent: submit, cancel one of the two")
        pair = trading.orders.pair()
        request: Any = trading.mapper.pair(pair)
        request = replace(request, ParentTriggerClientOrderID="")
        stop, target = self.evidence.pair = await trading.submit((pair.stop, pair.target), request)
        if stop.is_known and target.is_known:
            cancel = trading.mapper.cancel(target.order.client_order_id, target.server_id)
            self.evidence.pair_cancel = await trading.change(
                target, cancel, lambda _: not stop.may_live and not target.may_live
            )

    async def _probe_bracket(self, trading: ProbeTrading) -> None:
        self._say("a bracket: submit, cancel its parent")
        bracket, mapper = trading.orders.bracket(), trading.mapper
        three = (bracket.entry, bracket.stop, bracket.target)
        requests = (mapper.single(bracket.entry, is_parent=1), mapper.pair(bracket))
        stories = self.evidence.bracket = await trading.submit(three, *requests)
        entry = stories[0]
        if entry.is_known:
            cancel = mapper.cancel(entry.order.client_order_id, entry.server_id)
            self.evidence.bracket_cancel = await trading.change(
                entry, cancel, lambda _: not any(story.may_live for story in stories)
            )


async def _limit(trading: ProbeTrading) -> OrderStory:
    order = trading.orders.limit()
    return (await trading.submit((order,), trading.mapper.single(order)))[0]


def _is_replaced(updates: list[dtc.OrderUpdate]) -> bool:
    complete = OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_COMPLETE
    return any(update.OrderUpdateReason == complete for update in updates) or _is_refused(updates)


def _is_refused(updates: list[dtc.OrderUpdate]) -> bool:
    return Change(answers=updates).refused


def _is_over(updates: list[dtc.OrderUpdate]) -> bool:
    """A cancel was carried out, or refused."""
    change = Change(answers=updates)
    return change.ended or change.refused
