"""What waits for the broker: a snapshot to reconcile with, and the end of what was begun."""

import asyncio

from mia_daemon.errors import PeerError
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.trade_executor import TradeExecutor


async def reconcile(account: TradingAccount) -> bool:
    """Request the server's snapshot and bring our state into agreement with it; True when they agree.

    Without a complete answer nothing changes, and it stays due.
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


async def drain(executor: TradeExecutor, timeout_s: float) -> bool:
    """Wait until nothing is left to do; False when time ran out."""
    settled = asyncio.Event()
    executor.on_settled = settled.set
    try:
        async with asyncio.timeout(timeout_s):
            while not executor.settled:
                settled.clear()
                await settled.wait()
    except TimeoutError:
        return False
    return True
