"""The JSON file of a round trip: its name and its contents, from the journal alone."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from mia_daemon.clock import file_stamp, iso_utc
from mia_daemon.journal.background import Background
from mia_daemon.records import RegimeProbs, Side, Trade


def file_name(trade_id: str, entry_ns: int) -> str:
    """`trade_20261122_1NG786R1-17.json`, with the UTC day of the entry: a list of names sorts by day."""
    return f"trade_{file_stamp(entry_ns)[:8]}_{trade_id}.json"


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """An open round trip: what is known of it before it is closed.

    Attributes:
        trade_id: the one it will be recorded under.
        quantity: contracts held.
        entry_price: average of the entries so far.
    """

    trade_id: str
    symbol: str
    side: Side
    quantity: int
    entry_ns: int
    entry_price: float
    regime_probs: RegimeProbs
    decision_id: str


def of_open_trade(trade: OpenTrade, background: Background) -> dict[str, Any]:
    """Of a round trip that is still open: the profit is 0 until it is closed."""
    return {
        "status": "open",
        **_background(background),
        "trade_id": trade.trade_id,
        "timestamp": iso_utc(trade.entry_ns),
        "entry_price": trade.entry_price,
        "profit": 0.0,
        "symbol": trade.symbol,
        "side": trade.side.name.lower(),
        "quantity": trade.quantity,
        "entry_time": iso_utc(trade.entry_ns),
        "regime_probs": trade.regime_probs._asdict(),
        "decision_id": trade.decision_id,
    }


def of_trade(trade: Trade, background: Background) -> dict[str, Any]:
    """Of a closed round trip; the same whenever it is made."""
    return {
        "status": "closed",
        **_background(background),
        "trade_id": trade.trade_id,
        "timestamp": iso_utc(trade.exit_ns),
        "entry_price": trade.entry_price,
        "profit": trade.profit,
        "symbol": trade.symbol,
        "side": trade.side.name.lower(),
        "quantity": trade.quantity,
        "entry_time": iso_utc(trade.entry_ns),
        "exit_time": iso_utc(trade.exit_ns),
        "exit_price": trade.exit_price,
        "exit_reason": trade.exit_reason,
        "gross": trade.gross,
        "costs": trade.costs,
        "regime_probs": trade.regime_probs._asdict(),
        "decision_id": trade.decision_id,
    }


def json_bytes(content: dict[str, Any]) -> bytes:
    """As it is written to the file."""
    return (json.dumps(content, indent=1, default=str, allow_nan=False) + "\n").encode()


def _background(background: Background) -> dict[str, Any]:
    values = background.values
    return {
        "fills": [asdict(fill) for fill in background.fills],
        "bundle": background.bundle,
        "bundle_sha256": background.bundle_sha256,
        "features": {name: _finite(float(values[at])) for name, at in background.shown.items() if at < len(values)},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
