"""The start of the connection for orders: bring the link up, and check that server and configuration fit together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, LogonRefused, StartError
from mia_daemon.link.client import DtcClient
from mia_daemon.products.instruments import Instrument

PATIENCE_S: Final = (2.0, 4.0, 8.0)  # 2^attempt

Ask = Callable[[dtc.Message], Awaitable[list[Any]]]
"""Sends a query and returns its answers."""


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


async def check_account(ask: Ask, account: str, address: str) -> None:
    """Raises StartError when the trade account does not exist or trading is disabled for it."""
    accounts = await ask(dtc.TradeAccountsRequest())
    found = next((one for one in accounts if one.TradeAccount == account), None)
    if found is None:
        names = ", ".join(one.TradeAccount for one in accounts) or "none"
        raise StartError(
            f"trade account {account} does not exist at {address} (there: {names}); "
            "set instrument.trade_account, or Sierra Chart's Trade Simulation Mode"
        )
    if found.TradingIsDisabled:
        raise StartError(f"trading is disabled for account {account} at {address}")


async def query_multiplier(ask: Ask, instrument: Instrument, address: str) -> float:
    """The symbol's DisplayPriceMultiplier. Raises StartError when the symbol is unknown or has another tick size."""
    symbol = instrument.symbol
    answers = await ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=symbol))
    if not answers:
        raise StartError(f"{address} does not know the symbol {symbol}: spell it as Sierra Chart does")
    definition = answers[-1]
    multiplier = float(definition.DisplayPriceMultiplier)
    tick = float(definition.MinPriceIncrement)
    if 0.0 < tick < dtc.UNSET_F32 and abs(tick - instrument.tick_size) > 1e-6:
        raise StartError(
            f"{address} says that {symbol} moves by {tick:g}, here it is {instrument.tick_size:g}: "
            "this is not the product it is taken for"
        )
    return multiplier if 0.0 < multiplier < dtc.UNSET_F32 else 1.0
