"""Rows of the journal's tables as records: the columns to select, and the record made of them."""

import json
import math
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, Protocol

from mia_daemon.records import (
    EXTERNAL,
    Action,
    Decision,
    EntryOrigin,
    Fill,
    FillSource,
    Order,
    OrderRole,
    OrderType,
    Prediction,
    RegimeProbs,
    Side,
    TimeInForce,
    Trade,
)

Values = Sequence[Any] | dict[str, Any]
"""Of a statement's parameters."""


class JournalQuery(Protocol):
    """Executes a SELECT on an open journal. Raises JournalError."""

    def __call__(self, sql: str, values: Values = (), /) -> sqlite3.Cursor: ...


FILL_COLUMNS: Final = (
    "ts_ns", "execution_id", "client_order_id", "server_order_id", "symbol", "account", "side", "quantity", "price",
    "source",
)  # fmt: skip
FILL: Final = ", ".join(FILL_COLUMNS)
TRADE: Final = """trade_id, symbol, side, quantity, entry_ns, exit_ns, entry_price, exit_price, gross, costs,
    decision_id, exit_reason, p_range, p_trend, p_defensive"""
DECISION: Final = """decision_id, seq, ts_ns, action, target, reason, bid, ask, context, overtrade_risk_score, trade_id,
    p_range, p_trend, p_defensive, signal, probability, policy, out_of_range_share, observation_sha256"""


def order_of(row: tuple[Any, ...]) -> Order:
    """Of the first twelve columns of an intent."""
    return Order(
        client_order_id=row[0],
        symbol=row[1],
        account=row[2],
        side=Side(row[3]),
        quantity=row[4],
        type=OrderType(row[5]),
        role=OrderRole(row[6]),
        decision_id=row[7],
        price=row[8],
        limit_price=row[9],
        time_in_force=TimeInForce(row[10]),
        parent_id=row[11],
    )


def fill_of(row: tuple[Any, ...]) -> Fill:
    """Of the columns `FILL`, and maybe more after them."""
    return Fill(
        ts_ns=row[0],
        execution_id=row[1],
        client_order_id=row[2],
        server_order_id=row[3],
        symbol=row[4],
        account=row[5],
        side=Side(row[6]),
        quantity=row[7],
        price=row[8],
        source=FillSource(row[9]),
    )


def trade_of(row: tuple[Any, ...]) -> Trade:
    """Of the columns `TRADE`."""
    return Trade(
        trade_id=row[0],
        symbol=row[1],
        side=Side(row[2]),
        quantity=row[3],
        entry_ns=row[4],
        exit_ns=row[5],
        entry_price=row[6],
        exit_price=row[7],
        gross=row[8],
        costs=row[9],
        decision_id=row[10],
        exit_reason=row[11],
        regime_probs=RegimeProbs(*row[12:15]),
    )


def decision_of(row: tuple[Any, ...]) -> Decision:
    """Of the columns `DECISION`; a NaN was stored as NULL, and is a NaN again."""
    return Decision(
        decision_id=row[0],
        seq=row[1],
        ts_ns=row[2],
        action=Action(row[3]),
        target=row[4],
        reason=row[5],
        prediction=Prediction(
            RegimeProbs(_number(row[11]), _number(row[12]), _number(row[13])),
            action=_number(row[14]),
            probability=_number(row[15]),
            policy=row[16],
            out_of_range_share=_number(row[17]),
            observation_sha256=row[18],
        ),
        bid=_number(row[6]),
        ask=_number(row[7]),
        context=json.loads(row[8]),
        overtrade_risk_score=row[9],
        trade_id=row[10],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def origin_of(decision_id: str | None, probabilities: Sequence[float | None]) -> EntryOrigin:
    """The origin of an order, from the identifier and the regimes of its decision."""
    return EntryOrigin(decision_id, _regime_probs(probabilities)) if decision_id else EXTERNAL


def _regime_probs(values: Sequence[float | None]) -> RegimeProbs:
    """Zeros where the decision itself was lost with the process that made it."""
    return RegimeProbs(*(value or 0.0 for value in values))
