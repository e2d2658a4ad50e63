"""What the model's server says, as the records that a broker makes of it."""

from mia_daemon.records import Fill, FillSource, OrderReport, OrderStatus
from model_check.on_file import NOW, ORDERS, PRICES
from model_check.venue import Habits, Past, Update


def report(told: Update, habits: Habits, *, unsolicited: bool) -> OrderReport:
    """An update; `unsolicited=False`: a line in a list of open orders."""
    order, prices = ORDERS[told.order], PRICES[told.order]
    ts_ns, number = NOW + told.time if told.time else 0, str(told.number)
    average = prices[0] + (prices[1] - prices[0]) * told.notional / told.filled if told.filled else 0.0
    execution = None
    if told.executed and unsolicited:
        execution = Fill(
            ts_ns,
            _execution_id(told, habits, listed=False),
            order.client_order_id,
            number,
            order.symbol,
            order.account,
            order.side,
            told.executed,
            prices[told.price],
            FillSource.UPDATE,
            told.filled,
        )
    return OrderReport(
        ts_ns,
        order.client_order_id,
        number,
        order.symbol,
        order.account,
        OrderStatus(told.status),
        order.side,
        told.quantity,
        told.filled,
        average,
        prices[told.moved],
        type=order.type,
        unsolicited=unsolicited,
        fill=execution,
    )


def past(told: Past, habits: Habits) -> Fill:
    """A line in the list of past executions."""
    order = ORDERS[told.order]
    return Fill(
        0,
        _execution_id(told, habits, listed=True),
        "",
        str(told.number),
        order.symbol,
        order.account,
        order.side,
        told.quantity,
        PRICES[told.order][told.moved],
        FillSource.HISTORY,
    )


def _execution_id(told: Update | Past, habits: Habits, *, listed: bool) -> str:
    if habits.ids == 2:
        return ""
    return f"{'h' if listed and habits.ids == 1 else 'u'}{told.order}-{told.execution}"
