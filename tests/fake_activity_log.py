"""Fake exports of Sierra Chart's Trade Activity Log: the columns and spelling of real ones, the content of tests."""

import csv
import io
import json
from datetime import UTC, datetime

COLUMNS = (
    "ActivityType", "DateTime", "TransDateTime", "Symbol", "OrderActionSource", "InternalOrderID", "ServiceOrderID",
    "OrderType", "Quantity", "BuySell", "Price", "Price2", "OrderStatus", "FillPrice", "FilledQuantity",
    "TradeAccount", "OpenClose", "ParentInternalOrderID", "PositionQuantity", "FillExecutionServiceID",
    "HighDuringPosition", "LowDuringPosition", "Note", "AccountBalance", "ExchangeOrderID", "ClientOrderID",
    "TimeInForce", "Username", "IsAutomated",
)  # fmt: skip


def time_text(ts_ns, zone=UTC):
    """As Sierra Chart writes it: two blanks between date and time, microseconds."""
    moment = datetime.fromtimestamp(ts_ns // 1_000_000_000, zone).replace(microsecond=ts_ns // 1000 % 1_000_000)
    return moment.strftime("%Y-%m-%d  %H:%M:%S.%f")


def fill_row(fill, position, *, multiplier=1.0, zone=UTC):
    """The row of an execution, as a dict of the columns that have something in them."""
    return {
        "ActivityType": "Fills",
        "DateTime": time_text(fill.ts_ns, zone),
        "TransDateTime": time_text(fill.ts_ns, zone),
        "Symbol": fill.symbol,
        "OrderActionSource": "Fill. DTC client",
        "InternalOrderID": fill.server_order_id,
        "ServiceOrderID": "",
        "OrderType": "Limit",
        "Quantity": str(fill.quantity),
        "BuySell": fill.side.name.title(),
        "OrderStatus": "Filled",
        "FillPrice": f"{fill.price * multiplier:.10g}",
        "FilledQuantity": str(fill.quantity),
        "TradeAccount": fill.account,
        "PositionQuantity": str(position),
        "FillExecutionServiceID": fill.execution_id,
        "ClientOrderID": fill.client_order_id,
        "IsAutomated": "Y",
    }


def order_row(ts_ns, symbol="ESZ26_FUT_CME", account="Sim1"):
    """A row of an order, which a comparison of executions has to pass over."""
    return {
        "ActivityType": "Orders",
        "DateTime": time_text(ts_ns),
        "Symbol": symbol,
        "Quantity": "7",
        "BuySell": "Buy",
        "FillPrice": "1.00",
        "TradeAccount": account,
        "Note": 'Text that "quotes',
    }


def balance_row(ts_ns, amount, account="Sim1"):
    return {
        "ActivityType": "Account Balance",
        "DateTime": time_text(ts_ns),
        "TradeAccount": account,
        "AccountBalance": str(amount),
    }


def text_of(rows, columns=COLUMNS, newline="\r\n"):
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator=newline, quoting=csv.QUOTE_NONE, quotechar=None)
    writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return out.getvalue()


def write(path, rows, columns=COLUMNS, newline="\r\n", encoding="utf-8"):
    path.write_bytes(text_of(rows, columns, newline).encode(encoding))
    return path


def rows_of_simulator(orders_jsonl, symbol, account):
    """The rows that Sierra Chart would have for the executions in a simulator's record of its orders."""
    return [
        {
            "ActivityType": "Fills",
            "DateTime": time_text(line["ts_ns"]),
            "Symbol": symbol,
            "InternalOrderID": line["ServerOrderID"],
            "ClientOrderID": line["ClientOrderID"],
            "Quantity": str(line["quantity"]),
            "BuySell": "Buy" if line["side"] > 0 else "Sell",
            "FillPrice": f"{line['price']:.10g}",
            "TradeAccount": account,
            "PositionQuantity": str(line["position"]),
            "FillExecutionServiceID": line["ExecutionID"],
        }
        for line in map(json.loads, orders_jsonl.read_text().splitlines())
        if line["kind"] == "fill"
    ]
