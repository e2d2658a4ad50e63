"""What the simulator remembers, so that it comes back as it was: a SQLite file, and orders.jsonl beside it.

Every change is committed before any client is told of it. The commits survive a killed process (not a power cut: a
simulator's money is not worth an fsync). `orders.jsonl` is an independent account of all order traffic, one JSON object
a line, numbered without gaps; lines that a kill kept from the file are in the database and are added at the next start.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mia_daemon.errors import JournalError, StartError
from mia_daemon.private_file import open_file, prepare_database
from mia_daemon.simulator.account_reports import FillRecord
from mia_daemon.simulator.client_order import ClientOrder, from_dict, to_dict

LAYOUT = 2
"""2: several symbols and accounts. A state of layout 1 is migrated when it is opened."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fills (seq INTEGER PRIMARY KEY AUTOINCREMENT, execution_id TEXT UNIQUE, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (seq INTEGER PRIMARY KEY, line TEXT NOT NULL);
"""


_RECORD_BEGINS = b'{"seq": '


class Saved(NamedTuple):
    """What an earlier run left."""

    facts: dict[str, Any]  # accounts, counters, exchange time, last prices
    orders: list[ClientOrder]  # by order id, linked to each other
    fills: list[FillRecord]  # oldest first


class StateStore:
    """The simulator's memory in `directory`, used by one process at a time.

    Args:
        symbols: what is traded. Those of an earlier run have to be among them; others are added.

    Raises:
        StartError: the directory can't be written, is in use, or holds the state of something else.
    """

    def __init__(self, directory: Path, *symbols: str) -> None:
        self._path = directory / "simulator.db"
        self._record_path = directory / "orders.jsonl"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            prepare_database(self._path)
            self._record_fd = open_file(self._record_path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StartError(
                f"{directory} can't be used for the simulator's state: {error.strerror}; "
                "name another directory with --state"
            ) from error
        with ExitStack() as opened:
            opened.callback(os.close, self._record_fd)
            with self._explained():
                self._db = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
                opened.callback(self._db.close)
                self._lock(self._db)
            self._claim(self._db, symbols)
            self._seq = self._mend_record()
            opened.pop_all()

    @staticmethod
    def _lock(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")  # the lock is ours from here on
        db.executescript(_TABLES)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = "another simulator uses it" if "locked" in str(error) else str(error)
            raise StartError(f"{self._path} can't be opened: {reason}; name another directory with --state") from error
        except sqlite3.DatabaseError as error:
            raise StartError(f"{self._path} is damaged ({error}): move it away to start afresh") from error

    def _claim(self, db: sqlite3.Connection, symbols: tuple[str, ...]) -> None:
        """Begin a new file for these symbols; one that was begun for others is refused."""
        found = self._facts(db)
        layout, held = found.get("layout", LAYOUT), found.get("symbols", [found["symbol"]] if "symbol" in found else [])
        if layout not in {1, LAYOUT} or not set(held) <= set(symbols):
            raise StartError(
                f"{self._path} holds the state of {', '.join(held)} (layout {layout}), "
                f"not of {', '.join(symbols)} (layout {LAYOUT}): move it away, or name another directory (--state; of "
                "the embedded simulator --var)"
            )
        db.execute("BEGIN IMMEDIATE")
        if layout == 1:
            _migrate_layout_1(db, found)
        _put(db, {"layout": LAYOUT, "symbols": symbols})
        db.execute("COMMIT")

    @staticmethod
    def _facts(db: sqlite3.Connection) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}

    def _mend_record(self) -> int:
        """Cut a torn last line, add the lines a kill kept out; the number of the last line."""
        content = self._record_path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if not content.startswith(_RECORD_BEGINS[: len(content)]):
            raise StartError(f"{self._record_path} is no record of orders: move it away to begin a new one")
        last = self._last_number(content[content.rfind(b"\n", 0, whole - 1) + 1 : whole]) if whole else 0
        os.ftruncate(self._record_fd, whole)
        rows = self._db.execute("SELECT seq, line FROM record WHERE seq > ? ORDER BY seq", (last,)).fetchall()
        self._append(line for _, line in rows)
        return int(rows[-1][0]) if rows else int(last)

    @property
    def lease_ns(self) -> int | None:
        """Exchange time that an earlier run may have reached; None before the first run."""
        lease_ns: int | None = self._facts(self._db).get("lease_ns")
        return lease_ns

    def load(self) -> Saved | None:
        """What the last run left; None on the first run."""
        facts = self._facts(self._db)
        if "accounts" not in facts:
            return None
        rows = [json.loads(data) for (data,) in self._db.execute("SELECT data FROM orders ORDER BY order_id")]
        orders = {row["order_id"]: from_dict(row) for row in rows}
        for row in rows:
            order = orders[row["order_id"]]
            order.parent = orders.get(row["parent"])
            order.sibling = orders.get(row["sibling"])
            if order.parent is not None:
                order.parent.children = (*order.parent.children, order)
        fills = [FillRecord(*json.loads(data)) for (data,) in self._db.execute("SELECT data FROM fills ORDER BY seq")]
        return Saved(facts, list(orders.values()), fills)

    def save(
        self,
        facts: dict[str, Any],
        orders: Iterable[ClientOrder] = (),
        dropped: Iterable[int] = (),
        fills: Iterable[FillRecord] = (),
        record: Iterable[dict[str, Any]] = (),
    ) -> None:
        """Commit all of this as one change. When it returns, clients may be told.

        Args:
            facts: as in `Saved`; keys not named keep their value.
            orders: orders that changed.
            dropped: ids of orders to forget.
            fills: new executions.
            record: new lines for orders.jsonl, without their number.

        Raises:
            JournalError: nothing was saved, and nothing may be told.
        """
        lines = [(self._seq + n, json.dumps({"seq": self._seq + n, **told})) for n, told in enumerate(record, 1)]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            _put(self._db, facts)
            self._db.executemany("DELETE FROM orders WHERE order_id = ?", [(order_id,) for order_id in dropped])
            self._db.executemany(
                "INSERT INTO orders VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET data = excluded.data",
                [(order.order_id, json.dumps(to_dict(order))) for order in orders],
            )
            self._db.executemany(
                "INSERT INTO fills (execution_id, data) VALUES (?, ?)",
                [(fill.execution_id, json.dumps(fill)) for fill in fills],
            )
            if lines:
                self._db.execute("DELETE FROM record")  # the earlier ones are in the file
                self._db.executemany("INSERT INTO record VALUES (?, ?)", lines)
            self._db.execute("COMMIT")
            self._append(line for _, line in lines)
        except (sqlite3.Error, OSError) as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalError(f"the simulator's state can't be saved in {self._path}: {error}") from error
        self._seq += len(lines)

    def _last_number(self, line: bytes) -> int:
        try:
            return int(json.loads(line)["seq"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StartError(f"{self._record_path} is damaged at its end: move it away to begin a new one") from error

    def _append(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text:
            os.write(self._record_fd, text.encode())

    def close(self) -> None:
        self._db.close()
        os.close(self._record_fd)


def _put(db: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    db.executemany(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, json.dumps(value)) for key, value in facts.items()],
    )


def _migrate_layout_1(db: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    """From one symbol and one account to several."""
    db.execute("DELETE FROM meta WHERE key IN ('symbol', 'account', 'last_price', 'regime')")
    if "account" not in facts:  # it was begun, and nothing was saved
        return
    symbol, name = facts["symbol"], facts["account"]["name"]
    account = dict(facts["account"])
    position = {"quantity": account.pop("position"), "average": account.pop("average")}
    position["opened_ns"] = account.pop("opened_ns")
    _put(
        db,
        {
            "accounts": {name: {**account, "positions": {symbol: position}}},
            "market": facts.get("market", "seeded"),
            "markets": {symbol: {"last_price": facts["last_price"], "regime": facts["regime"]}},
        },
    )
    orders = [(json.loads(data), order_id) for order_id, data in db.execute("SELECT order_id, data FROM orders")]
    db.executemany(
        "UPDATE orders SET data = ? WHERE order_id = ?",
        [(json.dumps({**order, "symbol": symbol, "account": name}), order_id) for order, order_id in orders],
    )
    fills = [(json.loads(data), seq) for seq, data in db.execute("SELECT seq, data FROM fills")]
    db.executemany(
        "UPDATE fills SET data = ? WHERE seq = ?",
        [(json.dumps([*fill, symbol, name]), seq) for fill, seq in fills],
    )
