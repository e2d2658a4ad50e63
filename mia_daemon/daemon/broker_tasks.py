"""Coroutines that wait for the broker: reconciliation with a snapshot, and draining before shutdown."""

import asyncio
from collections.abc import Callable
from typing import Final

from mia_daemon.errors import PeerError
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.trade_executor import TradeExecutor, do_nothing

TICK_S: Final = 0.05
"""Seconds between two looks at what is due."""


async def reconcile(account: TradingAccount) -> bool:
    """Request the server's snapshot and bring our state into agreement with it; True when they agree.

    Without a complete answer no state changes, and a snapshot stays due.
    """
    executor = account.executor
    query = executor.begin_reconcile()
    if query is None:
        return False
    try:
        snapshot = await account.broker.request_snapshot(query.since_ns)
    except PeerError as error:
        executor.reconcile_failed(query, error)
        return False
    except BaseException:
        executor.reconcile_failed(query)
        raise
    return executor.on_snapshot(query, snapshot)


async def keep_reconciled(account: TradingAccount, on_disagreement: Callable[[], None] = do_nothing) -> None:
    """Reconcile whenever a snapshot is due, until cancelled."""
    while True:
        await asyncio.sleep(TICK_S)
        if account.executor.reconcile_due and not await reconcile(account):
            on_disagreement()


async def keep_time(executor: TradeExecutor) -> None:
    """Let the executor act on what falls due in our time, until cancelled."""
    while True:
        await asyncio.sleep(TICK_S)
        executor.on_timer()


async def drain(executor: TradeExecutor, timeout_s: float) -> bool:
    """Wait until the executor is settled; False after `timeout_s` seconds."""
    settled = asyncio.Event()
    executor.on_settled = settled.set
    try:
        async with asyncio.timeout(timeout_s):
            while not executor.settled:
                settled.clear()
                await settled.wait()
    except TimeoutError:
        return executor.settled
    finally:
        executor.on_settled = do_nothing
    return True
