"""The CSV and JSON files for people and tools. They can be written again from the journal.

Rows are written whole, one `write` each, and only once the journal has committed their contents; a JSON file appears
complete under its name. What is in the journal but not in the files, because the process was killed in between, is
written at the next start (`reconcile`).
"""

import csv
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mia_daemon.clock import iso_utc
from mia_daemon.errors import JournalError, StartError
from mia_daemon.journal.background import Background
from mia_daemon.journal.reader import JournalReader, LastRun
from mia_daemon.private_file import replace_file
from mia_daemon.records import Decision, RegimeProbs, Trade
from mia_daemon.risk.throttle import PENALTY_ABOVE
from mia_daemon.row_file import RowFile

TRADES: Final = ("trade_id", "timestamp", "entry_price", "profit", "regime_probs")
ALPHA_SCORES: Final = ("timestamp", "alpha_score", "regime_probs")
DECISION_LOG: Final = ("timestamp", "trade_id", "decision", "signal_score", "regime_probs")
PENALTY_LOG: Final = ("timestamp", "penalty_active", "overtrade_risk_score")

_TAIL: Final = 4096  # bytes: longer than any row


class TradeLog:
    """Writes below `var`: trades/, trade_snapshots/, risk_snapshots/ and logs/trading/.

    Args:
        var: the daemon's data directory.
        simulated: round trips go to trades_simulated.csv (paper, replay), else to trades_real.csv (live).

    Raises:
        StartError: a file or a directory can't be created, or a file has another header.
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
        self._waiting: deque[tuple[RowFile, str]] = deque()  # rows the journal has not committed yet

    def close(self) -> None:
        """Write the waiting rows and close the files, also when the write fails."""
        try:
            self.flush()
        finally:
            for file in (self._trades, *self._by_name().values()):
                file.close()

    def _by_name(self) -> dict[str, RowFile]:
        """The files whose rows are decisions."""
        return {file.path.stem: file for file in (self._alpha, self._decisions, self._penalties)}

    def sizes(self) -> dict[str, int]:
        """Size in bytes of each file whose rows are decisions: where the rows of a run that starts now will start."""
        return {name: file.path.stat().st_size for name, file in self._by_name().items()}

    def decision(self, decision: Decision) -> None:
        """A row in alpha_scores.csv (the trade probability) and one in decision_log.csv (the policy's action).

        One in penalty_log.csv, when the penalty on overtrading starts or ends. All wait for `flush`.
        """
        score = decision.overtrade_risk_score
        alpha, logged = _decision_rows(decision)
        self._waiting.append((self._alpha, alpha))
        self._waiting.append((self._decisions, logged))
        if (active := score > PENALTY_ABOVE) is not self._penalty_active:
            self._penalty_active = active
            self._waiting.append((self._penalties, _penalty_row(decision.ts_ns, score)))

    def flush(self) -> None:
        """Write the rows of the decisions so far; to be called when the journal has committed them."""
        while self._waiting:
            file, row = self._waiting[0]
            _append_line(file, row)
            self._waiting.popleft()

    def trade(self, trade: Trade) -> None:
        """A row in the trades file; the trade is committed in the journal already."""
        _append(self._trades, _trade_row(trade))

    def snapshot(self, trade: Trade, background: Background) -> None:
        """Write trade_snapshots/trade_<id>.json with all that is known of the round trip; takes half a millisecond."""
        _write_json(self._snapshot_path(trade), _snapshot(trade, background))

    def risk_snapshot(self, ts_ns: int, snapshot: dict[str, Any]) -> Path:
        """Write risk_snapshots/risk_<time>.json (see RiskController.describe); returns its path."""
        path = self._risk_snapshots / f"risk_{_file_stamp(ts_ns)}.json"
        _write_json(path, snapshot)
        return path

    # What was not written because the process was killed.

    def reconcile(self, journal: JournalReader) -> int:
        """Write what the journal has and the files lack; returns how many rows were missing.

        Round trips of the whole journal are compared; decisions of its newest run, if that was killed.
        """
        written = self._written_ids()
        missing = 0
        for trade in journal.trades():
            if trade.trade_id not in written:
                written.add(trade.trade_id)
                _append(self._trades, _trade_row(trade))
                missing += 1
            if not self._snapshot_path(trade).exists():
                self.snapshot(trade, journal.background(trade))
        run = journal.last_run()
        return missing if run is None or run.ended else missing + self._reconcile_decisions(journal, run)

    def _reconcile_decisions(self, journal: JournalReader, run: LastRun) -> int:
        missing = 0
        last = journal.decisions(run.number, newest_first=True), journal.decisions(run.number, newest_first=True)
        for rows, file in (
            ((_decision_rows(decision)[0] for decision in last[0]), self._alpha),
            ((_decision_rows(decision)[1] for decision in last[1]), self._decisions),
            (reversed(list(_penalty_rows(journal.decisions(run.number)))), self._penalties),
        ):
            since = run.files.get(file.path.stem)
            if since is None:
                continue
            for row in _missing(rows, file.path, since):
                _append_line(file, row)
                missing += 1
        return missing

    def _written_ids(self) -> set[str]:
        with self._trades.path.open(newline="", encoding="utf-8") as file:
            return {row[0] for row in csv.reader(file) if row}

    def _snapshot_path(self, trade: Trade) -> Path:
        return self._snapshots / f"trade_{trade.trade_id}.json"


def _missing(newest_first: Iterable[str], path: Path, since: int) -> list[str]:
    """The rows after the last one in the file; none if the file was truncated, or has other rows."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(since, size - _TAIL))
        tail = file.read().decode().splitlines()
    if size < since:
        return []
    rows: list[str] = []
    for row in newest_first:
        if tail and row == tail[-1]:
            return rows[::-1]
        rows.append(row)
    return [] if tail else rows[::-1]


def _snapshot(trade: Trade, background: Background) -> dict[str, Any]:
    """From the journal alone, so that it is the same whenever it is made."""
    values = background.values
    return {
        "fills": [asdict(fill) for fill in background.fills],
        "bundle": background.bundle,
        "bundle_sha256": background.bundle_sha256,
        "features": {name: _finite(float(values[at])) for name, at in background.shown.items() if at < len(values)},
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def regime_json(probabilities: RegimeProbs) -> str:
    """In the format of the schemas: `{"range": 0.7, "trend": 0.2, "defensive": 0.1}`."""
    if not math.isfinite(sum(probabilities)):
        return '{"range": null, "trend": null, "defensive": null}'
    in_range, trend, defensive = probabilities
    return f'{{"range": {in_range:.6g}, "trend": {trend:.6g}, "defensive": {defensive:.6g}}}'


def _decision_rows(decision: Decision) -> tuple[str, str]:
    """In alpha_scores.csv and in decision_log.csv.

    Formatted by hand: csv.writer takes three times as long, and there are two rows for each decision.
    """
    prediction = decision.prediction
    stamp = iso_utc(decision.ts_ns)
    regimes = '"' + regime_json(prediction.regime_probs).replace('"', '""') + '"'
    action = f"{decision.trade_id},{decision.action.value},{_number(prediction.action)}"
    return f"{stamp},{_number(prediction.probability)},{regimes}", f"{stamp},{action},{regimes}"


def _penalty_row(ts_ns: int, score: float) -> str:
    return f"{iso_utc(ts_ns)},{'true' if score > PENALTY_ABOVE else 'false'},{_number(score)}"


def _penalty_rows(decisions: Iterable[Decision]) -> Iterator[str]:
    before = None
    for decision in decisions:
        score = decision.overtrade_risk_score
        if (active := score > PENALTY_ABOVE) is not before:
            before = active
            yield _penalty_row(decision.ts_ns, score)


def _trade_row(trade: Trade) -> tuple[object, ...]:
    # The time of a closed round trip is that of its exit.
    regimes = regime_json(trade.regime_probs)
    return (trade.trade_id, iso_utc(trade.exit_ns), repr(float(trade.entry_price)), _money(trade.profit), regimes)


def _money(amount: float) -> str:
    return f"{amount:.2f}"


def _number(value: float) -> str:
    """Eight digits: the precision of a model's float32; empty for NaN and infinity."""
    return f"{value:.8g}" if math.isfinite(value) else ""


def _file_stamp(ts_ns: int) -> str:
    """A time that sorts and has no character that a file system refuses: 20261122T140000_000123Z."""
    return iso_utc(ts_ns).replace("-", "").replace(":", "").replace(".", "_")


def _make(directory: Path) -> None:
    """Made at the start, so that an error does not appear only at the first trade."""
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
    """Under its name the file is complete or absent, also when the process is killed."""
    text = json.dumps(content, indent=1, default=str, allow_nan=False) + "\n"
    try:
        try:
            replace_file(path, [text.encode()])
        except FileNotFoundError:  # first use
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, [text.encode()])
    except OSError as error:
        raise _unwritable(path, error) from error
