"""Orders as a client sends them, and what it waits for; `client` is that of tests/simulator/conftest.py."""

from mia_daemon.dtc import messages as dtc

SYMBOL = "ESZ26_FUT_CME"
BUY, SELL = 1, 2
MARKET, LIMIT, STOP, STOP_LIMIT = 1, 2, 3, 4
OPEN, FILLED, CANCELED, REJECTED = 4, 7, 8, 9


def order(client_id: str, side: int = BUY, kind: int = MARKET, quantity: float = 1.0, price: float = 0.0, **more):
    fields = {
        "Symbol": SYMBOL, "TradeAccount": "Sim1", "ClientOrderID": client_id, "OrderType": kind, "BuySell": side,
        "Quantity": quantity, "Price1": price, "TimeInForce": 1,
    }  # fmt: skip
    return dtc.SubmitNewSingleOrder(**{**fields, **more})


def pair(first: str, second: str, side: int, prices: tuple[float, float], quantity: float = 1.0, **more):
    """A limit at the first price and a stop at the second."""
    fields = {
        "Symbol": SYMBOL, "TradeAccount": "Sim1", "TimeInForce": 2,
        "ClientOrderID_1": first, "OrderType_1": LIMIT, "BuySell_1": side, "Price1_1": prices[0],
        "ClientOrderID_2": second, "OrderType_2": STOP, "BuySell_2": side, "Price1_2": prices[1],
        "Quantity_1": quantity, "Quantity_2": quantity,
    }  # fmt: skip
    return dtc.SubmitNewOCOOrder(**{**fields, **more})


async def path(client, client_id: str, last: int) -> list[dtc.OrderUpdate]:
    """The updates of one order up to the status `last`."""
    updates = [await client.of(dtc.OrderUpdate, ClientOrderID=client_id)]
    while updates[-1].OrderStatus != last:
        updates.append(await client.of(dtc.OrderUpdate, ClientOrderID=client_id))
    return updates


async def touch(client) -> tuple[float, float]:
    client.send(dtc.MarketDataRequest(RequestAction=3, SymbolID=99, Symbol=SYMBOL))
    snapshot = await client.of(dtc.MarketDataSnapshot)
    return snapshot.BidPrice, snapshot.AskPrice
