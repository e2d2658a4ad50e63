"""Questions about an open journal: what is recorded, and what earlier runs left for a restart."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mia_daemon.journal import background, pruning, recovery
from mia_daemon.journal.background import Background
from mia_daemon.journal.file import explain
from mia_daemon.journal.pruning import Kept, Place, Step
from mia_daemon.journal.recovery import Recovered
from mia_daemon.journal.rows import DECISION, FILL, TRADE, Values, decision_of, fill_of, trade_of
from mia_daemon.records import Decision, Fill, Trade
from mia_daemon.risk.codes import Latch

_NEWEST: Final = 2**63 - 1
"""Above the number of any row."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run in the journal.

    Attributes:
        number: counted from 1.
        ended: it ended in good order.
        files: size in bytes of each CSV file when the run started.
        timestamp_format: of the rows it wrote.
    """

    number: int
    ended: bool
    files: dict[str, int]
    timestamp_format: str


class JournalReader:
    """Reads an open journal; changes nothing.

    Raises:
        JournalError: in every method: the file is damaged or can't be read.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

    def has_fill(self, client_order_id: str, execution_id: str) -> bool:
        """Whether this execution of this order is in the journal, of whichever run."""
        sql = "SELECT 1 FROM fills WHERE client_order_id = ? AND execution_id = ?"
        return self._query(sql, (client_order_id, execution_id)).fetchone() is not None

    def executions_of(self, server_order_id: str) -> tuple[Fill, ...]:
        """All fills in the journal under this server order id, of whichever order and run, oldest first."""
        sql = f"SELECT {FILL} FROM fills WHERE server_order_id = ? ORDER BY number"  # noqa: S608  our names
        return tuple(map(fill_of, self._query(sql, (server_order_id,))))

    def has_run(self, run_id: str) -> bool:
        """Whether a run of this name is in the journal."""
        return self._query("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone() is not None

    def has_intent(self, client_order_id: str) -> bool:
        """Whether this order is in the journal, of whichever run."""
        return self._query("SELECT 1 FROM intents WHERE client_order_id = ?", (client_order_id,)).fetchone() is not None

    def look(self, place: Place, kept: Kept, most: int) -> Step:
        """What pruning would remove of the next `most` decisions."""
        return pruning.look(self._query, place, kept, most)

    def latches(self) -> tuple[Latch, ...]:
        """Those set, oldest first."""
        return recovery.set_latches(self._query)

    def trades(self, since_ns: int = 0) -> Iterator[Trade]:
        """Round trips that ended at or after `since_ns`, in the order they were recorded."""
        sql = f"SELECT {TRADE} FROM trades WHERE exit_ns >= ? ORDER BY number"  # noqa: S608  our names
        return map(trade_of, self._query(sql, (since_ns,)))

    def decisions(self, run: int, *, newest_first: bool = False) -> Iterator[Decision]:
        """Those of the run with this number, in the order they were made."""
        order = "DESC" if newest_first else "ASC"
        of_run = "decision_id >= run_id || '-' AND decision_id < run_id || '.'"  # its prefix: '.' comes after '-'
        sql = f"SELECT {DECISION} FROM runs JOIN decisions ON {of_run} WHERE runs.number = ? ORDER BY decisions.number "  # noqa: S608
        return map(decision_of, self._query(sql + order, (run,)))

    def last_run(self) -> LastRun | None:
        """The newest; None in a new journal."""
        row = self._query(_SELECT_LAST_RUN).fetchone()
        if row is None:
            return None
        number, how, files, timestamp_format = row
        return LastRun(number, how is not None and not how.startswith("failed"), json.loads(files), timestamp_format)

    def last_event_ns(self) -> int:
        """The newest event time in the journal; 0 in a new one. It determines the trading day of an earlier run.

        The times of fills do not count: they may be the server's.
        """
        return int(self._query(_SELECT_NEWEST).fetchone()[0] or 0)

    def executions_since_rearm(self) -> int:
        """Entries sent since an operator last cleared the latch on repeated executions."""
        row = self._query(_SELECT_EXECUTIONS).fetchone()
        return max(int(row[0]) - int(row[1]), 0)

    def messages_since(self, ts_ns: int) -> int:
        """Orders, replaces and cancels sent since then."""
        return int(self._query(_SELECT_MESSAGES, {"since": ts_ns}).fetchone()[0])

    def background(self, trade: Trade) -> Background:
        """What led to a closed round trip."""
        return background.background_of(self._query, self.path, trade)

    def decided_on(self, decision_id: str) -> Background:
        """The models and features of one decision, as far as they are in the journal."""
        return background.decided_on(self._query, self.path, decision_id)

    def open_background(self, decision_id: str, symbol: str, account: str, last_fill: int = _NEWEST) -> Background:
        """What led to the open position in a symbol and account, by the decision that opened it.

        As of the fill of this number; by default of the newest.
        """
        return background.open_background(self._query, self.path, decision_id, symbol, account, last_fill)

    def recover(self, symbol: str, account: str, day_start_ns: int) -> Recovered:
        """What earlier runs left behind, for a restart.

        Args:
            symbol: of the ledger to restore.
            account: of the ledger to restore.
            day_start_ns: when the current trading day began.
        """
        return recovery.recover(self._query, symbol, account, day_start_ns)

    def _query(self, sql: str, values: Values = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise explain(self.path, error) from error


_SELECT_NEWEST: Final = """\
SELECT MAX(ts_ns) FROM (SELECT ts_ns FROM equity UNION ALL SELECT ts_ns FROM intents)"""

_SELECT_LAST_RUN: Final = """\
SELECT number, how, files, COALESCE(json_extract(config, '$.ops.timestamp_format'), 'iso')
FROM runs ORDER BY number DESC LIMIT 1"""

_SELECT_MESSAGES: Final = """\
SELECT (SELECT COUNT(*) FROM intents WHERE ts_ns >= :since) + (SELECT COUNT(*) FROM requests WHERE ts_ns >= :since)"""

_SELECT_EXECUTIONS: Final = """\
SELECT (SELECT COUNT(*) FROM intents WHERE role = 'entry'),
    (SELECT COALESCE(SUM(json_extract(context, '$.executions')), 0) FROM latches
        WHERE code = 'repeated_execution' AND cleared_ns IS NOT NULL)"""
