"""Writes the journal: what was decided, intended, requested, reported, filled and earned, in one SQLite file.

An intent is committed before its order is sent. Everything that happens between two commits shares a transaction:
intents, requests, fills, trades, commands and latches commit at once and take what was buffered before them along;
decisions, their features, order updates, reported positions, equity, alerts and firings wait for the next commit, which
the owner asks for at least once a second. Only the owner's commit ever copies the write-ahead log back.

One process writes, guarded by a lock file beside the journal; any number may read (`file:PATH?mode=ro`).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.config import Mode
from mia_daemon.errors import JournalError
from mia_daemon.journal import pruning, statements
from mia_daemon.journal.file import lost_log
from mia_daemon.journal.pruning import NOTHING, Kept, Place, Step
from mia_daemon.journal.run_header import RunHeader, make_run_id
from mia_daemon.journal.schema import PER_RUN
from mia_daemon.journal.transactions import JournalTransactions
from mia_daemon.records import (
    Alert,
    Decision,
    Fill,
    Order,
    OrderReport,
    PositionReport,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode, Verdict


class RequestKind(StrEnum):
    """What was requested about an order that was sent before."""

    CANCEL = "cancel"
    REPLACE = "replace"
    FLATTEN = "flatten"


class Journal(JournalTransactions):
    """Opens the journal at `path`, created on first use, and holds it exclusively until `close`.

    `begin_run` comes before anything is recorded. Once another program has kept a write waiting, the next ones do not
    wait until one succeeds.

    Args:
        path: of the SQLite file.
        durable: every commit reaches the disk (live). Without, a power cut may take the last commits (paper, replay);
            a killed process loses nothing in either case.
        notice: called with a sentence before and after a migration, which may take long.

    Raises:
        JournalError: here and in every method: another process holds the journal, the disk is full, the file is
            damaged or of a later version. The text says which; nothing is in the journal that was not committed.
    """

    def __init__(self, path: Path, *, durable: bool, notice: Callable[[str], None] = lambda _text: None) -> None:
        super().__init__(path, durable=durable, notice=notice)
        self._positions_since = 0  # fills with a higher number make the positions: a replay starts flat

    # Runs.

    def begin_run(self, header: RunHeader) -> str:
        """End a run that was killed and start a new one; returns its identifier, see `make_run_id`.

        No two runs of this journal share one, and, where the header has a salt, no two of any journals: client order
        ids made of it are unique at a server. Latches that an earlier run could only keep beside the journal are in the
        journal from here on. Where the journal was copied without its log, a latch halts until a person has looked.
        """
        unended = self._run(statements.UNENDED_RUN).fetchone()
        self._run(statements.SEAL_KILLED_RUNS, (header.started_ns,))
        number = self._run(statements.NEXT_RUN).fetchone()[0]
        run_id = header.run_id or make_run_id(header.started_ns, number, header.salt)
        self._run(statements.INSERT_RUN, statements.run_values(run_id, header))
        self._last_number = number * PER_RUN
        self._positions_since = self._last_number if header.mode == Mode.REPLAY else 0
        self._positions.clear()
        if self._lacks_log and unended and header.mode != Mode.REPLAY:
            said = lost_log(self.path, unended[0])
            self._insert_latch(Latch(RiskCode.HALTED, header.started_ns, {"by": said}))
        self._lacks_log = False
        self._insert_pending_latches()
        self.commit()
        return run_id

    def end_run(self, run_id: str, ts_ns: int, how: str) -> None:
        """The run ended on purpose; `how` says by what: "stop", "feed ended", "failed: …"."""
        self._run(statements.END_RUN, (ts_ns, how, run_id))
        self.commit()

    # Committed at once.

    def record_intent(self, orders: Sequence[Order], ts_ns: int) -> None:
        """Orders about to be sent. On return they are committed, and only then may they be sent.

        Raises:
            JournalError: also when a client order id was used before; then none of `orders` is in the journal.
        """
        values: list[Any] = []
        for number, order in enumerate(orders, self._numbers(len(orders))):
            values += statements.intent_values(number, ts_ns, order)
        self._run(statements.insert_intents(len(orders)), values)
        self._commit_unless_in_transaction()

    def record_request(
        self,
        client_order_id: str,
        kind: RequestKind,
        ts_ns: int,
        price: float | None = None,
        quantity: int | None = None,
        reason: str = "",
    ) -> None:
        """A cancel or a replace that is about to be sent; `reason` becomes the exit reason of what it fills."""
        self._run(
            statements.INSERT_REQUEST,
            (client_order_id, self._number(), ts_ns, kind.value, price, quantity, reason),
        )
        self._commit_unless_in_transaction()

    def record_fill(self, fill: Fill) -> bool:
        """An execution; False when its order has one of this id already: it must not be counted again.

        Within `transaction` it is committed together with the round trip it closes.
        """
        position = self._position(fill.symbol, fill.account) + fill.side * fill.quantity
        done = self._run(statements.INSERT_FILL, statements.fill_values(self._number(), fill, position))
        if not done.rowcount:
            return False
        self._positions[fill.symbol, fill.account] = position
        self._run(statements.ADD_TO_FILLED, (fill.quantity, fill.client_order_id))
        self._commit_unless_in_transaction()
        return True

    def _position(self, symbol: str, account: str) -> int:
        known = self._positions.get((symbol, account))
        if known is None:
            row = self._run(statements.LAST_POSITION, (symbol, account, self._positions_since)).fetchone()
            known = self._positions[symbol, account] = row[0] if row else 0
        return known

    def record_trade(self, trade: Trade) -> bool:
        """A closed round trip; False when it is in the journal already."""
        done = self._run(statements.INSERT_TRADE, statements.trade_values(self._number(), trade))
        self._commit_unless_in_transaction()
        return bool(done.rowcount)

    def record_command(self, ts_ns: int, command: str, by: str, result: str, *, event_ns: int = 0) -> None:
        """What an operator asked for, who it was (uid and pid) and what came of it.

        Args:
            ts_ns: wall clock.
            command: its name.
            by: who gave it.
            result: the answer.
            event_ns: of the newest market event at that time; 0 before there was one.
        """
        self._run(statements.INSERT_COMMAND, (self._number(), ts_ns, event_ns, command, by, result))
        self._commit_unless_in_transaction()

    # Latches.

    def set_latch(self, latch: Latch) -> bool:
        """A breaker tripped; False when it is set already (its first setting is kept).

        If it can't be written here it is kept beside the journal, and is in the journal with the next run.
        """
        try:
            done = self._insert_latch(latch)
            self._commit_unless_in_transaction()
        except JournalError:
            self.keep_latch(latch)
            raise
        return done

    def keep_latch(self, latch: Latch) -> bool:
        """Make it survive a restart although the journal can't be written; False when the disk refuses that too."""
        return self._pending.keep(latch)

    def clear_latch(self, code: RiskCode, ts_ns: int, by: str) -> bool:
        """An operator resumed; False when the latch was not set."""
        self._insert_pending_latches()
        done = self._run(statements.CLEAR_LATCH, (ts_ns, by, code.value))
        self._commit_unless_in_transaction()
        return bool(done.rowcount)

    def _insert_latch(self, latch: Latch) -> bool:
        done = self._run(statements.INSERT_LATCH, statements.latch_values(self._number(), latch))
        return bool(done.rowcount)

    def _insert_pending_latches(self) -> None:
        for latch in self._pending:
            self._insert_latch(latch)
            self._pending_written = True

    # Buffered until the next commit.

    def record_decision(self, decision: Decision, verdict: Verdict | None = None) -> None:
        """One decision, kept for the next commit: record it before the intents it leads to.

        `verdict` is the last one of risk on the entry it wants, or would have wanted; None when risk was not asked.
        """
        self._run(statements.INSERT_DECISION, statements.decision_values(self._number(), decision, verdict))

    def record_features(self, decision_id: str, values: NDArray[np.float32]) -> None:
        """All values that a recorded decision was made on, compressed: too slow to come before its orders."""
        self._run(statements.INSERT_FEATURES, statements.feature_values(decision_id, values))

    def record_update(self, update: OrderReport) -> None:
        """What the server reported of an order. One without a client order id is recorded, but changes no order."""
        self._run(statements.INSERT_UPDATE, statements.update_values(self._number(), update))
        self._run(statements.UPDATE_INTENT, statements.intent_changes(update))

    def record_position(self, report: PositionReport) -> None:
        """The position as the server reported it: the sum where it lists several of one symbol and account."""
        self._run(statements.INSERT_POSITION, statements.position_values(self._number(), report))

    def record_firing(self, ts_ns: int, waited_ns: int, what: str, client_order_id: str = "") -> None:
        """A deadline on the daemon's own clock that was reached and led to an action.

        Args:
            ts_ns: event time at that moment.
            waited_ns: how long was waited, on the daemon's clock.
            what: which deadline it was.
            client_order_id: of the order it was about, if it was about one.
        """
        self._run(statements.INSERT_FIRING, (self._number(), ts_ns, waited_ns, what, client_order_id))

    def record_equity(
        self, ts_ns: int, equity: float, peak: float, position: int, unrealized: float, realized_today: float
    ) -> None:
        """A point of the equity curve."""
        self._run(statements.INSERT_EQUITY, (self._number(), ts_ns, equity, peak, position, unrealized, realized_today))

    def record_alert(self, alert: Alert) -> None:
        self._run(statements.INSERT_ALERT, statements.alert_values(self._number(), alert))

    # Removed.

    def prune(self, place: Place, kept: Kept, most: int) -> Step:
        """Remove what is too old of the next `most` decisions, in a transaction of its own.

        It does not wait for the disk, since what a power cut brings back is removed again. While something is buffered
        nothing is done: an error here must undo nothing else.
        """
        if self._db.in_transaction:
            return Step(NOTHING, place)
        step = self.look(place, kept, most)
        if any(step.chosen):
            with self._own_unsynced_transaction():
                pruning.remove(self._run, step.chosen)
        return step
