"""The start of the connection for orders: bring the link up, and check that server and configuration fit together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, LogonRefused, StartError
from mia_daemon.link.client import DtcClient
from mia_daemon.products.instruments import same_contract
from mia_daemon.products.ticks import nearest_decimal

PATIENCE_S: Final = (2.0, 4.0, 8.0)  # 2^attempt

MULTIPLIERS: Final = (1e-6, 1e6)
"""The DisplayPriceMultipliers that make sense."""

Ask = Callable[[dtc.Message], Awaitable[list[Any]]]
"""Sends a query and returns its answers."""

AskOrRefuse = Callable[[dtc.Message], Awaitable[list[Any] | None]]
"""The same, for a query that the server may refuse: None then."""


async def wait_until_up(link: DtcClient, running: "asyncio.Task[None]") -> None:
    """The link connects repeatedly on its own, as the task `running`; it gets three periods of time to come up."""
    for attempt, patience_s in enumerate(PATIENCE_S, 1):
        try:
            await _ready(link, running, patience_s)
            break
        except ConnectionLost:
            if attempt == len(PATIENCE_S):
                raise
    server = link.server
    if server is not None and not server.TradingIsSupported:
        raise StartError(f"{link.address} does not take orders: enable Allow Trading in its DTC server settings")


async def _ready(link: DtcClient, running: "asyncio.Task[None]", patience_s: float) -> None:
    """Return when the link is up, or raise when it has ended for good."""
    ready = asyncio.ensure_future(link.ready(patience_s))
    try:
        await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            running.result()
            raise LogonRefused("the link ended before it was up", reconnect_allowed=False)
        ready.result()
    finally:
        ready.cancel()


def check_flags(link: DtcClient, *, pairs_by_server: bool) -> None:
    """Raises StartError when the server says that it does not do what is configured."""
    server = link.server
    if pairs_by_server and server is not None and not (server.OCOOrdersSupported and server.BracketOrdersSupported):
        raise StartError(
            f"{link.address} says that it links no orders (OCOOrdersSupported {server.OCOOrdersSupported}, "
            f"BracketOrdersSupported {server.BracketOrdersSupported}): it would hold no stop with its target; "
            'set broker.brackets = "client" to have them kept by this daemon'
        )


async def check_account(ask: Ask, scope: ServerScope, address: str) -> None:
    """Raises StartError when the trade account does not exist or trading is disabled for it."""
    accounts = await ask(dtc.TradeAccountsRequest())
    account = scope.account
    found = next((one for one in accounts if one.TradeAccount in scope.accounts), None)
    if found is None:
        names = ", ".join(one.TradeAccount for one in accounts) or "none"
        alike = next((one.TradeAccount for one in accounts if one.TradeAccount.casefold() == account.casefold()), "")
        spelled = f"it is spelled {alike} there; " if alike else ""
        raise StartError(
            f"trade account {account} does not exist at {address} (there: {names}); {spelled}"
            "set instrument.trade_account, or Sierra Chart's Trade Simulation Mode"
        )
    if found.TradingIsDisabled:
        raise StartError(f"trading is disabled for account {account} at {address}")


async def query_multiplier(ask: Ask, scope: ServerScope, address: str) -> float:
    """The symbol's DisplayPriceMultiplier. Raises StartError when the symbol is unknown or another product."""
    symbol = scope.trade_symbol
    answers = await ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=symbol))
    if not answers:
        raise StartError(f"{address} does not know the symbol {symbol}: spell it as Sierra Chart does")
    definition = answers[-1]
    if definition.Symbol and definition.Symbol not in scope.symbols:
        raise StartError(
            f"{address} answers about {definition.Symbol} when it is asked about {symbol}: "
            "set instrument.trade_symbol to the spelling for orders, and broker.symbol_spellings to the others"
        )
    tick, size = _told(definition.MinPriceIncrement), scope.instrument.tick_size
    if tick and abs(tick - size) > 1e-6:
        raise StartError(
            f"{address} says that {symbol} moves by {tick:g}, here it is {size:g}: "
            "this is not the product it is taken for"
        )
    multiplier = _told(definition.DisplayPriceMultiplier) or 1.0
    _check_multiplier(multiplier, symbol, address)
    return multiplier


def _told(value: float) -> float:
    """The decimal that a float32 stands for; 0 where it is unset or makes no sense."""
    return nearest_decimal(value) if 0.0 < value < dtc.UNSET_F32 else 0.0


def _check_multiplier(multiplier: float, symbol: str, address: str) -> None:
    if not MULTIPLIERS[0] <= multiplier <= MULTIPLIERS[1]:
        raise StartError(
            f"{address} says that prices of {symbol} are to be multiplied by {multiplier:g} (DisplayPriceMultiplier): "
            "no order can be priced by that; look at the symbol's settings in Sierra Chart"
        )


async def check_positions(ask: AskOrRefuse, scope: ServerScope, address: str) -> None:
    """Raises StartError when a position is held under a spelling of our symbol or account that is not configured."""
    for held in await ask(dtc.CurrentPositionsRequest(TradeAccount=scope.account)) or ():
        symbol, account = scope.symbol(held.Symbol), scope.account_of(held.TradeAccount)
        ours = scope.instrument.symbol
        if held.NoPositions or account.casefold() != scope.account.casefold() or not same_contract(symbol, ours):
            continue
        if symbol != ours:
            raise StartError(
                f"{address} spells {ours} {held.Symbol} in its positions: "
                "add that to broker.symbol_spellings if it is the same contract"
            )
        if account != scope.account:
            raise StartError(
                f"{address} spells account {scope.account} {held.TradeAccount} in its positions: "
                "add that to broker.account_spellings if it is the same account"
            )
