"""The statements with which the writer changes the journal, and the values of a record in the order of its columns."""

import functools
import json
import math
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.journal.run_header import RunHeader
from mia_daemon.ops.logs import redact
from mia_daemon.records import Alert, Decision, Fill, Order, OrderReport, OrderStatus, PositionReport, Trade
from mia_daemon.risk.codes import Latch, Verdict

# Runs.

SEAL_KILLED_RUNS: Final = "UPDATE runs SET ended_ns = ?, how = 'killed' WHERE ended_ns IS NULL"
UNENDED_RUN: Final = "SELECT run_id FROM runs WHERE how IS NULL ORDER BY number DESC LIMIT 1"
MARK_UNENDED_RUN: Final = "UPDATE runs SET how = 'failed: closed before its end' WHERE how IS NULL"
NEXT_RUN: Final = "SELECT COALESCE(MAX(number), 0) + 1 FROM runs"
END_RUN: Final = "UPDATE runs SET ended_ns = ?, how = ? WHERE run_id = ?"
INSERT_RUN: Final = """
INSERT INTO runs (run_id, mode, started_ns, version, config_sha256, config, bundle_name, bundle_sha256,
    catalogue_sha256, point_value, cost_per_side, shown, files)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def run_values(run_id: str, header: RunHeader) -> tuple[Any, ...]:
    """Of `INSERT_RUN`."""
    config, bundle, rates = header.config, header.bundle, header.rates
    return (
        run_id, header.mode, header.started_ns, header.version, config.sha256, json_text(config.values), bundle.name,
        bundle.sha256, bundle.catalogue_sha256, rates.point_value, rates.cost_per_side, json_text(dict(bundle.shown)),
        json_text(dict(header.files)),
    )  # fmt: skip


# Orders.

_INSERT_INTENT: Final = """
INSERT INTO intents (number, client_order_id, ts_ns, decision_id, symbol, account, side, quantity, type, role, price,
    limit_price, time_in_force, parent_id, last_quantity, last_price)
VALUES """
INSERT_REQUEST: Final = """
INSERT INTO requests (client_order_id, number, ts_ns, kind, price, quantity, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"""
INSERT_UPDATE: Final = """
INSERT INTO updates (number, ts_ns, client_order_id, server_order_id, symbol, account, status, quantity, filled,
    average_fill_price, price, limit_price, text, unsolicited)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# A filled order stays filled. A canceled or rejected one becomes live again only when a complete answer lists it.
UPDATE_INTENT: Final = """
UPDATE intents SET
    status = CASE WHEN :status = '' OR (status = 'filled' AND :status <> 'filled')
        OR (status IN ('canceled', 'rejected') AND :listed = 0 AND :status <> 'filled') THEN status ELSE :status END,
    server_order_id = CASE :server WHEN '' THEN server_order_id ELSE :server END,
    last_quantity = CASE :quantity WHEN 0 THEN last_quantity ELSE :quantity END,
    last_price = CASE :price WHEN 0.0 THEN last_price ELSE :price END,
    worked = MAX(worked, :worked),
    reported = CASE :status
        WHEN 'filled' THEN MAX(reported, CASE :filled WHEN 0 THEN quantity ELSE :filled END)
        ELSE MAX(reported, :filled) END
WHERE client_order_id = :id"""

_REFUSED_REQUEST: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
"""About a request, not about the order: the order's status stays as it is."""
_WORKING: Final = frozenset({OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})


@functools.cache
def insert_intents(count: int) -> str:
    """One statement for `count` orders: all of them are inserted or none."""
    return _INSERT_INTENT + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)


def intent_values(number: int, ts_ns: int, order: Order) -> tuple[Any, ...]:
    """One order's part of `insert_intents`."""
    return (
        number, order.client_order_id, ts_ns, order.decision_id, order.symbol, order.account, int(order.side),
        order.quantity, int(order.type), order.role.value, order.price, order.limit_price, int(order.time_in_force),
        order.parent_id, order.quantity, order.price,
    )  # fmt: skip


def update_values(number: int, update: OrderReport) -> tuple[Any, ...]:
    """Of `INSERT_UPDATE`."""
    return (
        number, update.ts_ns, update.client_order_id, update.server_order_id, update.symbol, update.account,
        update.status.value, update.quantity, update.filled, update.average_fill_price, update.price,
        update.limit_price, update.text, int(update.unsolicited),
    )  # fmt: skip


def intent_changes(update: OrderReport) -> dict[str, Any]:
    """Of `UPDATE_INTENT`: what an update changes about the order it names."""
    status = update.status
    confirms = status not in _REFUSED_REQUEST and status is not OrderStatus.REJECTED
    return {
        "id": update.client_order_id,
        "status": "" if status in _REFUSED_REQUEST else status.value,
        "server": update.server_order_id,
        "quantity": update.quantity if confirms else 0,
        "price": update.price if confirms else 0.0,
        "filled": update.filled,
        "worked": int(status in _WORKING),
        "listed": int(not update.unsolicited),
    }


# Fills and round trips.

LAST_POSITION: Final = """\
SELECT position FROM fills WHERE symbol = ? AND account = ? AND number > ? ORDER BY number DESC LIMIT 1"""
INSERT_FILL: Final = """
INSERT INTO fills (number, execution_id, ts_ns, client_order_id, server_order_id, symbol, account, side, quantity,
    price, position, source)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (client_order_id, execution_id) DO NOTHING"""
ADD_TO_FILLED: Final = "UPDATE intents SET booked = booked + ?1, worked = 1 WHERE client_order_id = ?2"
INSERT_TRADE: Final = """
INSERT INTO trades (number, trade_id, fill, symbol, side, quantity, entry_ns, exit_ns, entry_price, exit_price, gross,
    costs, p_range, p_trend, p_defensive, decision_id, exit_reason)
VALUES (?, ?, (SELECT COALESCE(MAX(number), 0) FROM fills), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (trade_id) DO NOTHING"""


def fill_values(number: int, fill: Fill, position: int) -> tuple[Any, ...]:
    """Of `INSERT_FILL`; `position` is the one after the fill."""
    return (
        number, fill.execution_id, fill.ts_ns, fill.client_order_id, fill.server_order_id, fill.symbol, fill.account,
        int(fill.side), fill.quantity, fill.price, position, fill.source.value,
    )  # fmt: skip


def trade_values(number: int, trade: Trade) -> tuple[Any, ...]:
    """Of `INSERT_TRADE`."""
    return (
        number, trade.trade_id, trade.symbol, int(trade.side), trade.quantity, trade.entry_ns, trade.exit_ns,
        trade.entry_price, trade.exit_price, trade.gross, trade.costs, *map(float, trade.regime_probs),
        trade.decision_id, trade.exit_reason,
    )  # fmt: skip


# Decisions.

INSERT_DECISION: Final = """
INSERT INTO decisions (decision_id, number, seq, ts_ns, action, target, reason, signal, probability, p_range, p_trend,
    p_defensive, policy, out_of_range_share, observation_sha256, bid, ask, context, verdict, verdict_context,
    overtrade_risk_score, trade_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_FEATURES: Final = """
INSERT INTO features (number, vector) SELECT number, ? FROM decisions WHERE decision_id = ? ON CONFLICT DO NOTHING"""


def decision_values(number: int, decision: Decision, verdict: Verdict | None) -> tuple[Any, ...]:
    """Of `INSERT_DECISION`."""
    prediction = decision.prediction
    return (
        decision.decision_id, number, decision.seq, decision.ts_ns, decision.action.value, decision.target,
        decision.reason, float(prediction.action), float(prediction.probability),
        *map(float, prediction.regime_probs), prediction.policy, float(prediction.out_of_range_share),
        prediction.observation_sha256, float(decision.bid), float(decision.ask), json_text(decision.context),
        None if verdict is None else verdict.code.value, None if verdict is None else json_text(verdict.context),
        decision.overtrade_risk_score, decision.trade_id,
    )  # fmt: skip


def feature_values(decision_id: str, values: NDArray[np.float32]) -> tuple[bytes, str]:
    """Of `INSERT_FEATURES`: the vector compressed."""
    return zlib.compress(values.astype("<f4", copy=False).tobytes(), 1), decision_id


# The account, alerts, commands, latches and deadlines.

INSERT_POSITION: Final = """
INSERT INTO positions (number, ts_ns, symbol, account, quantity, average_price, unsolicited)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
INSERT_EQUITY: Final = """
INSERT INTO equity (number, ts_ns, equity, peak, position, unrealized, realized_today) VALUES (?, ?, ?, ?, ?, ?, ?)"""
INSERT_ALERT: Final = """
INSERT INTO alerts (number, ts_ns, code, priority, text, context) VALUES (?, ?, ?, ?, ?, ?)"""
INSERT_COMMAND: Final = """
INSERT INTO commands (number, ts_ns, event_ns, command, by, result) VALUES (?, ?, ?, ?, ?, ?)"""
INSERT_LATCH: Final = """
INSERT INTO latches (number, code, ts_ns, context) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"""
CLEAR_LATCH: Final = "UPDATE latches SET cleared_ns = ?, cleared_by = ? WHERE code = ? AND cleared_ns IS NULL"
INSERT_FIRING: Final = """
INSERT INTO firings (number, ts_ns, waited_ns, what, client_order_id) VALUES (?, ?, ?, ?, ?)"""


def position_values(number: int, report: PositionReport) -> tuple[Any, ...]:
    """Of `INSERT_POSITION`."""
    return (
        number, report.ts_ns, report.symbol, report.account, report.quantity, report.average_price,
        int(report.unsolicited),
    )  # fmt: skip


def alert_values(number: int, alert: Alert) -> tuple[Any, ...]:
    """Of `INSERT_ALERT`."""
    return number, alert.ts_ns, alert.code, int(alert.priority), alert.text, json_text(redact(alert.context))


def latch_values(number: int, latch: Latch) -> tuple[Any, ...]:
    """Of `INSERT_LATCH`."""
    return number, latch.code.value, latch.ts_ns, json_text(latch.context)


def json_text(context: dict[str, Any]) -> str:
    """As `_encode` writes it; a few plain numbers, which come with every decision, in a third of the time."""
    parts = []
    for name, value in context.items():
        kind = type(value)
        plain = kind is int or (kind is float and math.isfinite(value))
        if not (plain and name.isascii() and name.isidentifier()):
            return _encode(context)
        parts.append(f'"{name}":{value!r}')
    return "{" + ",".join(parts) + "}"


_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode
