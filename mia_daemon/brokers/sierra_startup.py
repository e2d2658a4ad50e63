"""The start of the connection for orders: bring the link up, and check that server and configuration fit together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState

from mia_daemon.brokers.base import WaitingHandler
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import (
    CertificateRefused,
    ConnectionLost,
    LogonRefused,
    RequestTimeout,
    ServerDenied,
    ServerMismatch,
    ServerNotReady,
)
from mia_daemon.link.client import DtcClient
from mia_daemon.products.instruments import same_contract
from mia_daemon.products.ticks import nearest_decimal

PATIENCE_S: Final = (2.0, 4.0, 8.0)
"""Seconds of the first three attempts to come up, 2^attempt; each later one takes as long as the third."""

MULTIPLIERS: Final = (1e-6, 1e6)
"""The DisplayPriceMultipliers that make sense."""

Ask = Callable[[dtc.Message], Awaitable[list[Any]]]
"""Sends a query and returns its answers."""

AskOrRefuse = Callable[[dtc.Message], Awaitable[list[Any] | None]]
"""The same, for a query that the server may refuse: None then."""


def patience_s(attempt: int) -> float:
    """Seconds that attempt number `attempt`, from 1, to come up may take."""
    return PATIENCE_S[min(attempt, len(PATIENCE_S)) - 1]


def keep_trying(link: DtcClient, on_waiting: WaitingHandler | None) -> AsyncRetrying:
    """Attempts to come up: three, and with `on_waiting` as many as it takes where waiting helps.

    A server that refuses the logon, or whose certificate is refused, gets three. Each attempt waits for the link by
    itself, so a pause follows only where the link is up and the server's answers do not fit yet.

    Args:
        link: connects repeatedly on its own.
        on_waiting: called with the reason from the third failed attempt on.
    """

    def retry(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, ConnectionLost | RequestTimeout | ServerNotReady):
            return False
        if state.attempt_number < len(PATIENCE_S):
            return True
        return on_waiting is not None and not isinstance(link.failure, LogonRefused | CertificateRefused)

    def report(state: RetryCallState) -> None:
        if on_waiting is not None and state.attempt_number >= len(PATIENCE_S) and state.outcome is not None:
            on_waiting(str(state.outcome.exception()))

    return AsyncRetrying(
        retry=retry,
        wait=lambda state: patience_s(state.attempt_number) if link.up else 0.0,
        before_sleep=report,
        reraise=True,
    )


async def wait_until_up(link: DtcClient, running: "asyncio.Task[None]", timeout_s: float) -> None:
    """Return when the link, which connects repeatedly on its own as the task `running`, is logged on.

    Raises:
        ConnectionLost: it was not within `timeout_s`.
        LogonRefused: it has ended for good.
        ServerDenied: the server takes no orders.
    """
    ready = asyncio.ensure_future(link.ready(timeout_s))
    try:
        await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            running.result()
            raise LogonRefused("the link ended before it was up", reconnect_allowed=False)
        ready.result()
    finally:
        ready.cancel()
    server = link.server
    if server is not None and not server.TradingIsSupported:
        raise ServerDenied(f"{link.address} does not take orders: enable Allow Trading in its DTC server settings")


def check_flags(link: DtcClient, *, pairs_by_server: bool) -> None:
    """Raises ServerMismatch when the server says that it does not do what is configured."""
    server = link.server
    if pairs_by_server and server is not None and not (server.OCOOrdersSupported and server.BracketOrdersSupported):
        raise ServerMismatch(
            f"{link.address} says that it links no orders (OCOOrdersSupported {server.OCOOrdersSupported}, "
            f"BracketOrdersSupported {server.BracketOrdersSupported}): it would hold no stop with its target; "
            'set broker.brackets = "client" to have them kept by this daemon'
        )


async def check_account(ask: Ask, scope: ServerScope, address: str) -> None:
    """Raises an error when the trade account does not exist or trading is disabled for it.

    Raises:
        ServerNotReady: the server lists no account at all.
        ServerMismatch, ServerDenied: it has others, or trading is disabled for this one.
    """
    accounts = await ask(dtc.TradeAccountsRequest())
    account = scope.account
    found = next((one for one in accounts if one.TradeAccount in scope.accounts), None)
    if found is None:
        if not accounts:
            raise ServerNotReady(f"{address} lists no trade account: it has to be connected for trading")
        names = ", ".join(one.TradeAccount for one in accounts)
        alike = next((one.TradeAccount for one in accounts if one.TradeAccount.casefold() == account.casefold()), "")
        spelled = f"it is spelled {alike} there; " if alike else ""
        raise ServerMismatch(
            f"trade account {account} does not exist at {address} (there: {names}); {spelled}"
            "set instrument.trade_account, or Sierra Chart's Trade Simulation Mode"
        )
    if found.TradingIsDisabled:
        raise ServerDenied(f"trading is disabled for account {account} at {address}")


async def query_multiplier(ask: Ask, scope: ServerScope, address: str) -> float:
    """The symbol's DisplayPriceMultiplier. Raises ServerMismatch when the symbol is unknown or another product."""
    symbol = scope.trade_symbol
    answers = await ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=symbol))
    if not answers:
        raise ServerMismatch(f"{address} does not know the symbol {symbol}: spell it as Sierra Chart does")
    definition = answers[-1]
    if definition.Symbol and definition.Symbol not in scope.symbols:
        raise ServerMismatch(
            f"{address} answers about {definition.Symbol} when it is asked about {symbol}: "
            "set instrument.trade_symbol to the spelling for orders, and broker.symbol_spellings to the others"
        )
    tick, size = _told(definition.MinPriceIncrement), scope.instrument.tick_size
    if tick and abs(tick - size) > 1e-6:
        raise ServerMismatch(
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
        raise ServerMismatch(
            f"{address} says that prices of {symbol} are to be multiplied by {multiplier:g} (DisplayPriceMultiplier): "
            "no order can be priced by that; look at the symbol's settings in Sierra Chart"
        )


async def check_positions(ask: AskOrRefuse, scope: ServerScope, address: str) -> None:
    """Raises ServerMismatch when a position is held under a spelling of symbol or account that is not configured."""
    for held in await ask(dtc.CurrentPositionsRequest(TradeAccount=scope.account)) or ():
        symbol, account = scope.symbol(held.Symbol), scope.account_of(held.TradeAccount)
        ours = scope.instrument.symbol
        if held.NoPositions or account.casefold() != scope.account.casefold() or not same_contract(symbol, ours):
            continue
        if symbol != ours:
            raise ServerMismatch(
                f"{address} spells {ours} {held.Symbol} in its positions: "
                "add that to broker.symbol_spellings if it is the same contract"
            )
        if account != scope.account:
            raise ServerMismatch(
                f"{address} spells account {scope.account} {held.TradeAccount} in its positions: "
                "add that to broker.account_spellings if it is the same account"
            )
