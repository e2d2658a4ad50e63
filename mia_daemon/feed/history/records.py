"""Historical price records as they travel, and as they lie in a `.scid` file."""

from typing import Any

import numpy as np

from mia_daemon.dtc.historical import PRICE_RECORD, PriceRecords
from mia_daemon.feed.sierra_files import SCID_RECORD, Records, to_us

_SAME = (("high", "high"), ("low", "low"), ("last", "close"), ("volume", "total_volume"), ("num_trades", "num_trades"),
         ("bid_volume", "bid_volume"), ("ask_volume", "ask_volume"))  # fmt: skip
_EPOCH_US = int(to_us(0))
_MAX_COUNT = 0xFFFFFFFF


def to_scid(rows: PriceRecords, *, ticks: bool) -> Records:
    """The rows as SCID_RECORD.

    Args:
        rows: (n,) PRICE_RECORD.
        ticks: single trades. Where the server gives one as a bar without height, it becomes a trade of unknown touch.
    """
    records = np.zeros(len(rows), SCID_RECORD)
    records["time"] = rows["time_us"] + _EPOCH_US
    records["open"] = rows["open"]
    for name, field in _SAME:
        records[field] = _counts(rows[name]) if records.dtype[field].kind == "u" else rows[name]
    if ticks:
        last = rows["last"]
        bare = (rows["open"] == last) & (rows["high"] == last) & (rows["low"] == last)
        for field in ("open", "high", "low"):
            records[field][bare] = 0.0
    return records


def from_scid(records: Records) -> PriceRecords:
    """(n,) SCID_RECORD as PRICE_RECORD, nothing lost."""
    rows = np.zeros(len(records), PRICE_RECORD)
    rows["time_us"] = records["time"] - _EPOCH_US
    rows["open"] = records["open"]
    for name, field in _SAME:
        rows[name] = records[field]
    return rows


def bars(trades: PriceRecords, interval_s: int) -> PriceRecords:
    """Trades in order of time as bars of whole intervals since the Unix epoch; empty ones are left out.

    A bar's time is that of its first trade, as in Sierra Chart's answers.
    """
    if not len(trades):
        return trades
    number = trades["time_us"] // (interval_s * 1_000_000)
    first = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    rows = np.zeros(len(first), PRICE_RECORD)
    last = trades["last"]
    rows["time_us"] = trades["time_us"][first]
    rows["open"] = last[first]
    rows["high"] = np.maximum.reduceat(last, first)
    rows["low"] = np.minimum.reduceat(last, first)
    rows["last"] = last[np.append(first[1:], len(trades)) - 1]
    for name in ("volume", "num_trades", "bid_volume", "ask_volume"):
        rows[name] = np.add.reduceat(trades[name], first)
    return rows


def _counts(values: Any) -> Any:
    return np.clip(np.nan_to_num(values), 0, _MAX_COUNT)
