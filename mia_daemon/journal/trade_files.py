"""The CSV and JSON files for people and tools. They can be written again from the journal.

Rows are written whole, one `write` each, and only once the journal has committed their contents; a JSON file appears
complete under its name. What is in the journal but not in the files, because the process was killed in between, is
written at the next start (`reconcile`). A file that can't be written is reported, and stops nothing.
"""

import csv
import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from mia_daemon.appended_file import NOT_WRITTEN, REOPENED, FileNotice, make_directory
from mia_daemon.clock import file_stamp
from mia_daemon.journal.background import Background
from mia_daemon.journal.reader import JournalReader, LastRun
from mia_daemon.journal.table_rows import ALPHA_SCORES, DECISION_LOG, PENALTY_LOG, TRADES, TableRows, line
from mia_daemon.journal.trade_snapshot import OpenTrade, file_name, json_bytes, of_open_trade, of_trade
from mia_daemon.private_file import replace_file
from mia_daemon.records import Decision, Trade
from mia_daemon.row_file import RowFile
from mia_daemon.service_stderr import report_on_stderr

WAITING_ROWS: Final = 100_000
"""Rows of one file that are kept while it can't be written; then the oldest are dropped."""

REBUILD: Final = "; `mia-daemon journal export DIR` writes all its rows from the journal"

_MAYBE_OPEN: Final = 50
"""Round trips, the newest, whose snapshots may be those of the entry after a kill: more than close within seconds."""

_TAIL: Final = 4096  # bytes: longer than any row

WriteFile = Callable[[Path, bytes], None]
"""Writes a whole file, so that it is complete under its name; its errors are reported, not raised."""


class TradeLog:
    """Writes below `var`: trades/, trade_snapshots/, risk_snapshots/ and logs/trading/.

    Args:
        var: the daemon's data directory.
        simulated: round trips go to trades_simulated.csv (paper, replay), else to trades_real.csv (live).
        notify: called with notices of files that were set aside or can't be written.
        rows: the format of rows.
        write_file: writes the JSON files; None to write them at once.
    """

    def __init__(
        self,
        var: Path,
        *,
        simulated: bool,
        notify: FileNotice = report_on_stderr,
        rows: TableRows | None = None,
        write_file: WriteFile | None = None,
    ) -> None:
        self._rows = rows or TableRows()
        self._notify = notify
        self._write_file = write_file or whole_file_writer(notify)
        self._snapshots = var / "trade_snapshots"
        self._risk_snapshots = var / "risk_snapshots"
        logs = var / "logs" / "trading"
        trades = "trades_simulated.csv" if simulated else "trades_real.csv"
        self._trades = _Table(var / "trades" / trades, TRADES, notify)
        self._alpha = _Table(logs / "alpha_scores.csv", ALPHA_SCORES, notify)
        self._decisions = _Table(logs / "decision_log.csv", DECISION_LOG, notify)
        self._penalties = _Table(logs / "penalty_log.csv", PENALTY_LOG, notify)
        for directory in (self._snapshots, self._risk_snapshots):  # found at the start, not at the first trade
            _make(directory, notify)

    @property
    def files(self) -> tuple[RowFile, ...]:
        """The CSV files."""
        return tuple(table.file for table in (self._trades, *self._of_decisions))

    @property
    def _of_decisions(self) -> tuple["_Table", ...]:
        """The tables whose rows are decisions, in the order of `TableRows.decision`."""
        return self._alpha, self._decisions, self._penalties

    def close(self) -> None:
        """Write the waiting rows and close the files."""
        self.flush()
        for file in self.files:
            file.close()

    def sizes(self) -> dict[str, int]:
        """Size in bytes of each file whose rows are decisions: where the rows of a run that starts now will start."""
        return {table.file.path.stem: table.file.size for table in self._of_decisions}

    def decision(self, decision: Decision) -> None:
        """A row in alpha_scores.csv, decision_log.csv and penalty_log.csv each; they wait for `flush`."""
        for table, values in zip(self._of_decisions, self._rows.decision(decision), strict=True):
            table.waiting.append(line(values))

    def flush(self) -> None:
        """Write the rows that wait; to be called when the journal has committed the decisions so far."""
        for table in (self._trades, *self._of_decisions):
            table.flush()

    def trade(self, trade: Trade) -> None:
        """A row in the trades file; the trade is committed in the journal already."""
        self._trades.waiting.append(line(self._rows.trade(trade)))
        self._trades.flush()

    def snapshot(self, trade: Trade, background: Background) -> None:
        """Write the file of a closed round trip with all that is known of it; takes half a millisecond."""
        self._write_json(self._snapshot_path(trade), of_trade(trade, background))

    def open_snapshot(self, trade: OpenTrade, background: Background) -> None:
        """Write the file of a round trip that is still open; `snapshot` completes it."""
        self._write_json(self._snapshots / file_name(trade.trade_id, trade.entry_ns), of_open_trade(trade, background))

    def risk_snapshot(self, ts_ns: int, snapshot: dict[str, Any]) -> Path:
        """Write risk_snapshots/risk_<time>.json (see RiskController.describe); returns its path."""
        path = self._risk_snapshots / f"risk_{file_stamp(ts_ns)}.json"
        self._write_json(path, snapshot)
        return path

    def _write_json(self, path: Path, content: dict[str, Any]) -> None:
        self._write_file(path, json_bytes(content))

    # What was not written because the process was killed.

    def reconcile(self, journal: JournalReader) -> int:
        """Write what the journal has and the files lack; returns how many rows were missing.

        Round trips of the whole journal are compared; decisions of its newest run, if that was killed.
        """
        written = self._written_ids()
        missing = 0
        newest: deque[Trade] = deque(maxlen=_MAYBE_OPEN)
        for trade in journal.trades():
            newest.append(trade)
            if trade.trade_id not in written:
                written.add(trade.trade_id)
                self.trade(trade)
                missing += 1
            if not self._has_snapshot(trade):
                self.snapshot(trade, journal.background(trade))
        for trade in newest:
            if self._is_incomplete(trade):
                self.snapshot(trade, journal.background(trade))
        run = journal.last_run()
        return missing if run is None or run.ended else missing + self._reconcile_decisions(journal, run)

    def _reconcile_decisions(self, journal: JournalReader, run: LastRun) -> int:
        missing = 0
        formats = TableRows(run.timestamp_format)
        for index, table in enumerate(self._of_decisions):
            since = run.files.get(table.file.path.stem)
            if since is None:
                continue
            newest_first = journal.decisions(run.number, newest_first=True)
            rows = (line(formats.decision(decision)[index]) for decision in newest_first)
            missing += table.restore(rows, since)
        return missing

    def _written_ids(self) -> set[str]:
        try:
            with self._trades.file.path.open(newline="", encoding="utf-8", errors="replace") as file:
                return {row[0] for row in csv.reader(file) if row}
        except (OSError, csv.Error) as error:
            self._trades.file.start_over(f"has rows that can't be read ({error})")
            return set()

    def _has_snapshot(self, trade: Trade) -> bool:
        """Whether the file is there; one under its name of earlier versions gets the present one."""
        path = self._snapshot_path(trade)
        if os.path.exists(path):  # noqa: PTH110  # Path.exists raises where it may not look
            return True
        try:
            path.with_name(f"trade_{trade.trade_id}.json").rename(path)
        except OSError:
            return False
        return True

    def _is_incomplete(self, trade: Trade) -> bool:
        """Whether the snapshot is that of the entry: the process was killed before it was completed."""
        try:
            return bool(json.loads(self._snapshot_path(trade).read_bytes())["status"] == "open")
        except KeyError:  # of an earlier version, which wrote closed ones only
            return False
        except (OSError, ValueError, TypeError):
            return True

    def _snapshot_path(self, trade: Trade) -> Path:
        return self._snapshots / file_name(trade.trade_id, trade.entry_ns)


class _Table:
    """A CSV file that the journal can rebuild, and the rows it waits for."""

    def __init__(self, path: Path, columns: tuple[str, ...], notify: FileNotice) -> None:
        def explained(code: str, text: str) -> None:
            notify(code, text if code == REOPENED else text + REBUILD)

        self.file = RowFile(path, columns, explained)
        self.waiting: deque[str] = deque(maxlen=WAITING_ROWS)

    def flush(self) -> None:
        """Write the rows that wait, until the disk refuses one."""
        while self.waiting and self.file.append_line(self.waiting[0]):
            self.waiting.popleft()

    def restore(self, newest_first: Iterable[str], since: int) -> int:
        """Write the rows after the last one in the file; returns how many.

        None if the file is shorter than when the run began: it was moved or shortened. A file that ends with another
        row of the run than its newest one, or with a row of something else, is set aside.

        Args:
            newest_first: the rows of the run.
            since: size of the file in bytes when the run began.
        """
        tail = self._tail(since)
        if tail is None:
            return 0
        rows: list[str] = []
        for row in newest_first:
            if tail and row == tail[-1]:
                break
            rows.append(row)
        else:
            if tail:
                self.file.start_over("ends with a row that the journal does not have")
                return 0
        if not set(tail).isdisjoint(rows):
            self.file.start_over("has its rows in another order than they were written in")
            return 0
        self.waiting.extend(reversed(rows))
        self.flush()
        return len(rows)

    def _tail(self, since: int) -> list[str] | None:
        """The last rows in the file from `since` on; None if it is shorter, or can't be read."""
        size = self.file.size
        try:
            with self.file.path.open("rb") as file:
                file.seek(max(since, size - _TAIL))
                return None if size < since else file.read().decode(errors="replace").splitlines()
        except OSError:
            return None


def whole_file_writer(notify: FileNotice) -> WriteFile:
    """Writes a file at once; what can't be written is reported."""

    def write(path: Path, content: bytes) -> None:
        try:
            try:
                replace_file(path, [content])
            except FileNotFoundError:  # first use
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, [content])
        except OSError as error:
            notify(NOT_WRITTEN, f"{path} can't be written: {error.strerror}; make room or check its owner")

    return write


def _make(directory: Path, notify: FileNotice) -> None:
    try:
        make_directory(directory, notify)
    except OSError as error:
        notify(NOT_WRITTEN, f"{directory} can't be written: {error.strerror}; check the directory and its owner")
