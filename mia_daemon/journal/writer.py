"""The truth: what was decided, intended, asked for, answered, filled and earned, in one SQLite file.

An intent is on file before its order is on the wire. Everything that happens between two commits shares a transaction:
intents, requests, features, fills, trades, commands and latches commit at once and take what was buffered before them
along; decisions, order updates, equity and alerts wait for the next commit, which the owner asks for at least once a
second. Only the owner's commit ever copies the write-ahead log back.

One process writes, guarded by a lock file beside the journal; any number may read (`file:PATH?mode=ro`).
"""

import functools
import json
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode
from mia_daemon.errors import JournalError
from mia_daemon.journal.file import PATIENCE_MS, explain, hold, open_journal
from mia_daemon.journal.pending_latches import PendingLatches
from mia_daemon.journal.recovery import JournalReader
from mia_daemon.journal.schema import PER_RUN
from mia_daemon.records import (
    Alert,
    Decision,
    Fill,
    Order,
    OrderStatus,
    OrderUpdate,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode, Verdict

_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no letter is mistaken for a digit
_CHECKPOINT_AFTER_COMMITS: Final = 512  # a few MB of write-ahead log


class RequestKind(StrEnum):
    """What was asked about an order already sent."""

    CANCEL = "cancel"
    REPLACE = "replace"
    FLATTEN = "flatten"


class Journal(JournalReader):
    """Opens the journal at `path`, made on first use, and keeps it to itself until `close`.

    `begin_run` comes before anything is recorded. Once another program has kept a write waiting, those that follow do
    not wait until one succeeds.

    Args:
        path: of the SQLite file.
        durable: every commit reaches the disk (live). Without, a power cut may take the last commits (paper, replay);
            a killed process loses nothing in either case.

    Raises:
        JournalError: here and in every method: another process holds the journal, the disk is full, the file is
            damaged or of another version. The text says which; nothing is on file that was not committed.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._booking = False
        self._calm = True
        self._impatient = False
        self._settling = False  # latches that waited beside the journal are in the open transaction
        self._commits = 0
        self._last = 0  # number given
        self._since = 0  # number after which the fills lie that make today's positions: a replay begins flat
        self._held: dict[tuple[str, str], int] = {}  # after the last fill, by (symbol, account)
        self._lock = hold(path)
        try:
            db = open_journal(path, durable=durable)
            try:
                self._pending = PendingLatches(path)
            except BaseException:
                db.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise
        super().__init__(path, db)

    def close(self) -> None:
        """Commit what is buffered and let go of the file, also when that fails."""
        if self._lock < 0:
            return
        try:
            self.commit()
        finally:
            try:
                self._db.close()
            finally:
                os.close(self._lock)
                self._lock = -1

    # ---------------------------------------------------------------------------------------------------------- runs

    def begin_run(
        self,
        *,
        mode: str,
        started_ns: int,
        version: str,
        config: dict[str, Any],
        config_sha256: str,
        bundle_name: str,
        bundle_sha256: str,
        catalogue_sha256: str,
        point_value: float,
        cost_per_side: float,
        shown: Mapping[str, int] | None = None,
        files: Mapping[str, int] | None = None,
    ) -> str:
        """Seal a run that was killed and begin a new one; returns its identifier, at most 12 characters.

        It is made of the second of the start and of the run's number in this journal, so no two runs share one, and
        client order ids made of it are unique for ever. Latches that an earlier run could only keep beside the journal
        are on file from here on.

        Args:
            mode: paper, live or replay; a replay's positions begin flat.
            started_ns: of the wall clock.
            version: of the program.
            config: all of it.
            config_sha256: of the configuration.
            bundle_name: of the models.
            bundle_sha256: of the models.
            catalogue_sha256: of the features' definitions.
            point_value: of the traded instrument, account currency.
            cost_per_side: of the traded instrument, account currency.
            shown: the features that a trade's snapshot shows, each with its place among the values of a decision.
            files: bytes of each CSV file as the run finds it.
        """
        self._run("UPDATE runs SET ended_ns = ?, how = 'killed' WHERE ended_ns IS NULL", (started_ns,))
        number = self._run("SELECT COALESCE(MAX(number), 0) + 1 FROM runs").fetchone()[0]
        run_id = _base32(started_ns // NS_PER_S) + _base32(number)
        self._run(
            "INSERT INTO runs (run_id, mode, started_ns, version, config_sha256, config, bundle_name, bundle_sha256,"
            " catalogue_sha256, point_value, cost_per_side, shown, files)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run_id, mode, started_ns, version, config_sha256, _json(config), bundle_name, bundle_sha256,
                catalogue_sha256, point_value, cost_per_side, _json(dict(shown or {})), _json(dict(files or {})),
            ),
        )  # fmt: skip
        self._last = number * PER_RUN
        self._since = self._last if mode == Mode.REPLAY else 0
        self._held.clear()
        self._settle_pending()
        self.commit()
        return run_id

    def end_run(self, run_id: str, ts_ns: int, how: str) -> None:
        """The run ended on purpose; `how` says by what: "stop", "feed ended", "failed: …"."""
        self._run("UPDATE runs SET ended_ns = ?, how = ? WHERE run_id = ?", (ts_ns, how, run_id))
        self.commit()

    # ----------------------------------------------------------------------------------------------------- committed

    def record_intent(self, orders: Sequence[Order], ts_ns: int) -> None:
        """What is about to be sent. On return it is on file, and only then may it be sent.

        Raises:
            JournalError: also when a client order id was used before; then none of `orders` is on file.
        """
        values: list[Any] = []
        for number, order in enumerate(orders, self._numbers(len(orders))):
            values += (
                number, order.client_order_id, ts_ns, order.decision_id, order.symbol, order.account,
                int(order.side), order.quantity, int(order.type), order.role.value, order.price, order.limit_price,
                int(order.time_in_force), order.parent_id, order.quantity, order.price,
            )  # fmt: skip
        self._run(_insert_intents(len(orders)), values)  # one statement: all of them or none
        self._commit_unless_booking()

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
            "INSERT INTO requests (client_order_id, number, ts_ns, kind, price, quantity, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (client_order_id, self._number(), ts_ns, kind.value, price, quantity, reason),
        )
        self._commit_unless_booking()

    def record_fill(self, fill: Fill) -> bool:
        """An execution; False when it is on file already and must not be booked again.

        Within `booking` it is committed together with the round trip it closes.
        """
        position = self._position(fill.symbol, fill.account) + fill.side * fill.quantity
        done = self._run(
            _INSERT_FILL,
            (
                self._number(), fill.execution_id, fill.ts_ns, fill.client_order_id, fill.server_order_id, fill.symbol,
                fill.account, int(fill.side), fill.quantity, fill.price, position,
            ),
        )  # fmt: skip
        if not done.rowcount:
            return False
        self._held[fill.symbol, fill.account] = position
        self._run(
            "UPDATE intents SET booked = booked + ?1, worked = 1 WHERE client_order_id = ?2",
            (fill.quantity, fill.client_order_id),
        )
        self._commit_unless_booking()
        return True

    def _position(self, symbol: str, account: str) -> int:
        known = self._held.get((symbol, account))
        if known is None:
            row = self._run(_LAST_POSITION, (symbol, account, self._since)).fetchone()
            known = self._held[symbol, account] = row[0] if row else 0
        return known

    def record_trade(self, trade: Trade) -> bool:
        """A closed round trip; False when it is on file already."""
        done = self._run(
            "INSERT INTO trades (number, trade_id, fill, symbol, side, quantity, entry_ns, exit_ns, entry_price,"
            " exit_price, gross, costs, p_range, p_trend, p_defensive, decision_id, exit_reason) VALUES (?, ?,"
            " (SELECT COALESCE(MAX(number), 0) FROM fills), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (trade_id) DO NOTHING",
            (
                self._number(), trade.trade_id, trade.symbol, int(trade.side), trade.quantity, trade.entry_ns,
                trade.exit_ns, trade.entry_price, trade.exit_price, trade.gross, trade.costs,
                *map(float, trade.regime_probs),
                trade.decision_id, trade.exit_reason,
            ),
        )  # fmt: skip
        self._commit_unless_booking()
        return bool(done.rowcount)

    def record_features(self, decision_id: str, values: NDArray[np.float32]) -> None:
        """All values that a recorded decision was made on, compressed: too slow to come before its orders."""
        self._run(
            "INSERT INTO features (number, vector)"
            " SELECT number, ? FROM decisions WHERE decision_id = ? ON CONFLICT DO NOTHING",
            (zlib.compress(values.astype("<f4", copy=False).tobytes(), 1), decision_id),
        )
        self._commit_unless_booking()

    def record_command(self, ts_ns: int, command: str, by: str, result: str, *, event_ns: int = 0) -> None:
        """What an operator asked for, who it was (uid and pid) and what came of it.

        Args:
            ts_ns: of the wall clock.
            command: its name.
            by: who gave it.
            result: what it was answered.
            event_ns: of the newest market event then; 0 before there was one.
        """
        self._run(
            "INSERT INTO commands (number, ts_ns, event_ns, command, by, result) VALUES (?, ?, ?, ?, ?, ?)",
            (self._number(), ts_ns, event_ns, command, by, result),
        )
        self._commit_unless_booking()

    # --------------------------------------------------------------------------------------------------------- latches

    def set_latch(self, latch: Latch) -> bool:
        """A breaker tripped; False when it is set already (its first setting is kept).

        Where it can't be written here it is kept beside the journal, and is on file with the next run.
        """
        try:
            done = self._insert_latch(latch)
            self._commit_unless_booking()
        except JournalError:
            self.keep_latch(latch)
            raise
        return done

    def keep_latch(self, latch: Latch) -> bool:
        """Have it survive a restart although the journal can't be written; False when the disk refuses that too."""
        return self._pending.keep(latch)

    def clear_latch(self, code: RiskCode, ts_ns: int, by: str) -> bool:
        """An operator resumed; False when the latch was not set."""
        self._settle_pending()
        done = self._run(
            "UPDATE latches SET cleared_ns = ?, cleared_by = ? WHERE code = ? AND cleared_ns IS NULL",
            (ts_ns, by, code.value),
        )
        self._commit_unless_booking()
        return bool(done.rowcount)

    def _insert_latch(self, latch: Latch) -> bool:
        done = self._run(
            "INSERT INTO latches (number, code, ts_ns, context) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self._number(), latch.code.value, latch.ts_ns, _json(latch.context)),
        )
        return bool(done.rowcount)

    def _settle_pending(self) -> None:
        for latch in self._pending:
            self._insert_latch(latch)
            self._settling = True

    @contextmanager
    def booking(self) -> Iterator[None]:
        """All that is recorded within is committed together at the end, or, on an error, not at all."""
        if self._booking:
            yield
            return
        self._run("SAVEPOINT booking")
        self._booking = True
        try:
            yield
        except BaseException:
            self._undone()
            if self._db.in_transaction:  # a full disk has ended the transaction already
                self._run("ROLLBACK TO booking")
                self._run("RELEASE booking")
            raise
        finally:
            self._booking = False
        self._run("RELEASE booking")
        self._commit_unless_booking()

    # ------------------------------------------------------------------------------------------------------ buffered

    def record_decision(self, decision: Decision, verdict: Verdict | None = None) -> None:
        """One decision, kept for the next commit: record it before the intents it leads to.

        `verdict` is what risk said last of the entry it wants, or would have wanted; None when risk was not asked.
        """
        said = decision.prediction
        self._run(
            _INSERT_DECISION,
            (
                decision.decision_id, self._number(), decision.seq, decision.ts_ns, decision.action.value,
                decision.target, decision.reason, float(said.action), float(said.probability),
                *map(float, said.regime_probs), said.policy, float(said.out_of_range_share), said.observation_sha256,
                float(decision.bid), float(decision.ask), _json(decision.context),
                None if verdict is None else verdict.code.value, None if verdict is None else _json(verdict.context),
                decision.overtrade_risk_score, decision.trade_id,
            ),
        )  # fmt: skip

    def record_update(self, update: OrderUpdate) -> None:
        """What the server said of an order. One that names no client order id is kept, but moves no order."""
        status = update.status
        self._run(
            _INSERT_UPDATE,
            (
                self._number(), update.ts_ns, update.client_order_id, update.server_order_id, update.symbol,
                update.account, status.value, update.quantity, update.filled, update.average_fill_price, update.price,
                update.limit_price, update.text, int(update.unsolicited),
            ),
        )  # fmt: skip
        confirms = status not in _SAYS_NOTHING_OF_THE_ORDER and status is not OrderStatus.REJECTED
        self._run(
            _UPDATE_INTENT,
            {
                "id": update.client_order_id,
                "status": "" if status in _SAYS_NOTHING_OF_THE_ORDER else status.value,
                "server": update.server_order_id,
                "quantity": update.quantity if confirms else 0,
                "price": update.price if confirms else 0.0,
                "filled": update.filled,
                "worked": int(status in _WORKS),
                "listed": int(not update.unsolicited),
            },
        )

    def record_equity(
        self, ts_ns: int, equity: float, peak: float, position: int, unrealized: float, realized_today: float
    ) -> None:
        """A point of the equity curve."""
        self._run(
            "INSERT INTO equity (number, ts_ns, equity, peak, position, unrealized, realized_today)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._number(), ts_ns, equity, peak, position, unrealized, realized_today),
        )

    def record_alert(self, alert: Alert) -> None:
        self._run(
            "INSERT INTO alerts (number, ts_ns, code, priority, text, context) VALUES (?, ?, ?, ?, ?, ?)",
            (self._number(), alert.ts_ns, alert.code, int(alert.priority), alert.text, _json(alert.context)),
        )

    def commit(self) -> None:
        """Put what is buffered on file; to be called at least once a second, at a moment when no order waits.

        Now and then it also copies the write-ahead log back, which may take milliseconds.
        """
        try:
            if self._db.in_transaction:
                self._commits += 1
                self._db.execute("COMMIT")
                if self._impatient or self._settling:
                    self._recovered()
            if self._calm and self._commits >= _CHECKPOINT_AFTER_COMMITS:
                self._commits = 0
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    # --------------------------------------------------------------------------------------------------------- SQLite

    def _numbers(self, count: int) -> int:
        """The first of the next ones of the sequence over all tables."""
        if not self._last:
            raise JournalError(f"journal {self.path} was told something before a run was begun")
        first = self._last + 1
        self._last += count
        return first

    def _number(self) -> int:
        return self._numbers(1)

    def _failed(self, error: sqlite3.Error) -> JournalError:
        """What follows waits for nobody; SQLite may have undone what was not committed yet."""
        self._undone()
        if not self._impatient and getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            self._impatient = True
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout = 0")
        return explain(self.path, error)

    def _undone(self) -> None:
        self._held.clear()
        self._settling = False

    def _recovered(self) -> None:
        if self._impatient:
            self._impatient = False
            self._db.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        if self._settling:
            self._settling = False
            self._pending.forget()

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Execute within the open transaction, which a statement that writes opens."""
        try:
            if not self._db.in_transaction and not sql.startswith("SELECT"):
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _commit_unless_booking(self) -> None:
        if self._booking:
            return
        self._calm = False  # an order may be waiting for this commit
        try:
            self.commit()
        finally:
            self._calm = True


_SAYS_NOTHING_OF_THE_ORDER: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
_WORKS: Final = frozenset({OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})

_INSERT_INTENT: Final = """
INSERT INTO intents (number, client_order_id, ts_ns, decision_id, symbol, account, side, quantity, type, role, price,
    limit_price, time_in_force, parent_id, last_quantity, last_price)
VALUES """


@functools.cache
def _insert_intents(count: int) -> str:
    return _INSERT_INTENT + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)


_INSERT_FILL: Final = """
INSERT INTO fills (number, execution_id, ts_ns, client_order_id, server_order_id, symbol, account, side, quantity,
    price, position)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (execution_id) DO NOTHING"""

_LAST_POSITION: Final = """\
SELECT position FROM fills WHERE symbol = ? AND account = ? AND number > ? ORDER BY number DESC LIMIT 1"""

_INSERT_DECISION: Final = """
INSERT INTO decisions (decision_id, number, seq, ts_ns, action, target, reason, signal, probability, p_range, p_trend,
    p_defensive, policy, out_of_range_share, observation_sha256, bid, ask, context, verdict, verdict_context,
    overtrade_risk_score, trade_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_INSERT_UPDATE: Final = """
INSERT INTO updates (number, ts_ns, client_order_id, server_order_id, symbol, account, status, quantity, filled,
    average_fill_price, price, limit_price, text, unsolicited)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# A filled order stays filled; one canceled or rejected comes back only when a complete answer lists it as open.
_UPDATE_INTENT: Final = """
UPDATE intents SET
    status = CASE WHEN :status = '' OR (status = 'filled' AND :status <> 'filled')
        OR (status IN ('canceled', 'rejected') AND :listed = 0 AND :status <> 'filled') THEN status ELSE :status END,
    server_order_id = CASE :server WHEN '' THEN server_order_id ELSE :server END,
    last_quantity = CASE :quantity WHEN 0 THEN last_quantity ELSE :quantity END,
    last_price = CASE :price WHEN 0.0 THEN last_price ELSE :price END,
    worked = MAX(worked, :worked),
    reported = CASE :status
        WHEN 'unknown_to_server' THEN booked
        WHEN 'filled' THEN MAX(reported, CASE :filled WHEN 0 THEN quantity ELSE :filled END)
        ELSE MAX(reported, :filled) END
WHERE client_order_id = :id"""


def _json(context: dict[str, Any]) -> str:
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


def _base32(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = _BASE32[digit] + digits
    return digits or "0"
