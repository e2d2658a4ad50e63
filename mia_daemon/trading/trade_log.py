"""The CSV and JSON files in which people and tools read what trading did. The journal is the truth behind them.

Rows go out whole, one `write` each; a JSON file appears whole under its name. Round trips that are in the journal but
not in the CSV, because the process was killed in between, get their row at the next start (`reconcile`).
"""

import csv
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mia_daemon.clock import iso_utc
from mia_daemon.errors import JournalError, StartError
from mia_daemon.records import Decision, RegimeProbs, Trade
from mia_daemon.row_file import RowFile

TRADES: Final = ("trade_id", "timestamp", "entry_price", "profit", "regime_probs")
ALPHA_SCORES: Final = ("timestamp", "alpha_score", "regime_probs")
DECISION_LOG: Final = ("timestamp", "trade_id", "decision", "signal_score", "regime_probs")
PENALTY_LOG: Final = ("timestamp", "penalty_active", "overtrade_risk_score")


class TradeLog:
    """Writes below `var`: trades/, trade_snapshots/, risk_snapshots/ and logs/trading/.

    Args:
        var: the daemon's data directory.
        simulated: round trips go to trades_simulated.csv (paper, replay), else to trades_real.csv (live).

    Raises:
        StartError: a file or a directory can't be made, or a file carries another header.
        JournalError: in every method that writes: the disk is full or the file is gone.
    """

    def __init__(self, var: Path, *, simulated: bool) -> None:
        logs = var / "logs" / "trading"
        trades = "trades_simulated.csv" if simulated else "trades_real.csv"
        self._snapshots = var / "trade_snapshots"
        self._risk_snapshots = var / "risk_snapshots"
        for directory in (self._snapshots, self._risk_snapshots):
            _make(directory)
        self._trades = RowFile(var / "trades" / trades, TRADES)
        self._alpha = RowFile(logs / "alpha_scores.csv", ALPHA_SCORES)
        self._decisions = RowFile(logs / "decision_log.csv", DECISION_LOG)
        self._penalties = RowFile(logs / "penalty_log.csv", PENALTY_LOG)
        self._penalty_active: bool | None = None

    def close(self) -> None:
        for file in (self._trades, self._alpha, self._decisions, self._penalties):
            file.close()

    def decision(self, decision: Decision, trade_id: str = "") -> None:
        """A row in alpha_scores.csv (the trade probability) and one in decision_log.csv (the policy's action).

        Args:
            decision: any, also one to hold.
            trade_id: of the round trip it belongs to: the open one, or the one an entry opens; "" when there is none.
        """
        said = decision.prediction
        stamp = iso_utc(decision.ts_ns)
        # Formatted by hand: with csv.writer the two rows cost three times as much, and there is one for each decision.
        regimes = '"' + regime_json(said.regime_probs).replace('"', '""') + '"'
        _append_line(self._alpha, f"{stamp},{_number(said.probability)},{regimes}")
        _append_line(self._decisions, f"{stamp},{trade_id},{decision.action.value},{_number(said.action)},{regimes}")

    def trade(self, trade: Trade) -> None:
        """A row in the trades file; the journal has the trade on file already."""
        _append(self._trades, _trade_row(trade))

    def snapshot(self, trade: Trade, details: dict[str, Any] | None = None) -> None:
        """Write trade_snapshots/trade_<id>.json with all that is known of the round trip: half a millisecond.

        Args:
            trade: a closed one.
            details: further keys: fills, features, hashes.
        """
        self._snapshot(trade, details or {})

    def penalty(self, ts_ns: int, score: float, *, active: bool) -> None:
        """A row in penalty_log.csv, when `active` is not what the last row said."""
        if active is not self._penalty_active:
            self._penalty_active = active
            _append(self._penalties, (iso_utc(ts_ns), "true" if active else "false", _number(score)))

    def risk_snapshot(self, ts_ns: int, snapshot: dict[str, Any]) -> Path:
        """Write risk_snapshots/risk_<time>.json (see RiskController.snapshot); returns its path."""
        path = self._risk_snapshots / f"risk_{_file_stamp(ts_ns)}.json"
        _write_json(path, snapshot)
        return path

    def reconcile(self, trades: Iterable[Trade]) -> int:
        """Write what is missing of `trades`, which the journal knows; returns how many rows were missing."""
        written = self._ids_on_file()
        missing = 0
        for trade in trades:
            if trade.trade_id not in written:
                written.add(trade.trade_id)
                _append(self._trades, _trade_row(trade))
                missing += 1
            if not self._snapshot_path(trade).exists():
                self._snapshot(trade, {})
        return missing

    def _ids_on_file(self) -> set[str]:
        with self._trades.path.open(newline="", encoding="utf-8") as file:
            return {row[0] for row in csv.reader(file) if row}

    def _snapshot_path(self, trade: Trade) -> Path:
        return self._snapshots / f"trade_{trade.trade_id}.json"

    def _snapshot(self, trade: Trade, details: dict[str, Any]) -> None:
        known = {
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
        _write_json(self._snapshot_path(trade), details | known)


def regime_json(probabilities: RegimeProbs) -> str:
    """As the schemas want it: `{"range": 0.7, "trend": 0.2, "defensive": 0.1}`."""
    if not math.isfinite(sum(probabilities)):
        return '{"range": null, "trend": null, "defensive": null}'
    in_range, trend, defensive = probabilities
    return f'{{"range": {in_range:.6g}, "trend": {trend:.6g}, "defensive": {defensive:.6g}}}'


def _trade_row(trade: Trade) -> tuple[object, ...]:
    # The row is about the closed round trip: its time is that of the exit.
    regimes = regime_json(trade.regime_probs)
    return (trade.trade_id, iso_utc(trade.exit_ns), repr(float(trade.entry_price)), _money(trade.profit), regimes)


def _money(amount: float) -> str:
    return f"{amount:.2f}"


def _number(value: float) -> str:
    """Eight digits: all that a model's float32 knows; what is no number is left empty."""
    return f"{value:.8g}" if math.isfinite(value) else ""


def _file_stamp(ts_ns: int) -> str:
    """A time that sorts and holds no character that a file system refuses: 20261122T140000_000123Z."""
    return iso_utc(ts_ns).replace("-", "").replace(":", "").replace(".", "_")


def _make(directory: Path) -> None:
    """Now: that snapshots can't be written is not to be found out at the first trade."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"{directory} can't be written: {error.strerror}; check the directory and its owner"
        ) from error


def _append(file: RowFile, row: tuple[object, ...]) -> None:
    try:
        file.append(row)
    except OSError as error:
        raise _unwritable(file.path, error) from error


def _append_line(file: RowFile, line: str) -> None:
    try:
        file.append_line(line)
    except OSError as error:
        raise _unwritable(file.path, error) from error


def _unwritable(path: Path, error: OSError) -> JournalError:
    return JournalError(f"{path} can't be written: {error.strerror}; make room or check its owner")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Under its name the file is whole or absent, also when the process is killed."""
    part = path.with_suffix(f".{os.getpid()}.part")
    text = json.dumps(content, indent=1, default=str, allow_nan=False) + "\n"
    try:
        try:
            part.write_text(text, encoding="utf-8")
        except FileNotFoundError:  # first use
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise _unwritable(path, error) from error
