"""Which orders the paper exchange rejects, and why."""

from collections.abc import Container

from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Bracket, Order, OrderType

MAX_QUANTITY = 10_000  # contracts; more is a mistake, not an order


def order_objection(order: Order, instrument: Instrument, account: str, used_ids: Container[str]) -> str:
    """Why the order is not accepted; "" when it is."""
    prices = {
        OrderType.MARKET: (),
        OrderType.LIMIT: (order.price,),
        OrderType.STOP: (order.price,),
        OrderType.STOP_LIMIT: (order.price, order.limit_price),
    }[order.type]
    if order.symbol != instrument.symbol:
        return f"symbol {order.symbol} is not traded here"
    if order.account != account:
        return f"account {order.account} does not exist"
    if order.client_order_id in used_ids:
        return f"client order id {order.client_order_id} was used before"
    if not 0 < order.quantity <= MAX_QUANTITY:
        return f"quantity {order.quantity} is not between 1 and {MAX_QUANTITY}"
    if not all(is_valid_price(price, instrument) for price in prices):
        return f"price {order.price} {order.limit_price} is not a price in multiples of {instrument.tick_size}"
    return ""


def bracket_objection(bracket: Bracket) -> str:
    """Why the three orders are no bracket; "" when they are."""
    entry, children = bracket.entry, (bracket.stop, bracket.target)
    if any(child.side is entry.side or child.quantity != entry.quantity for child in children):
        return "stop and target must close what the entry opens"
    if len({entry.client_order_id, *(child.client_order_id for child in children)}) != 3:
        return "the three orders of a bracket need three client order ids"
    return ""


def is_valid_price(price: float, instrument: Instrument) -> bool:
    """Whether it is a price of the instrument, and a multiple of its tick size."""
    ticks = price / instrument.tick_size
    return instrument.is_price(price) and abs(ticks - round(ticks)) < 1e-6
