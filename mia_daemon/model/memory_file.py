"""market_memory.db: the market memory on file, for the next run and for people who ask it with SQL.

    clusters        at most 64 kinds of markets: the centre of each as JSON, and which announcement was near
    trade_patterns  the trades entered in each
    contexts        of each trade, what `market_memory` recalls: its market and its outcome

Trades of the embedded simulator, which has a market and a time of its own, are kept apart from those of a real market:
neither is recalled in the other, nor ages by its time. The file is written once per closed trade, off the hot path. It
is a convenience, never a record: the journal is the truth, what the file lacks is taken from there, and a damaged file
is set aside and made anew.
"""

import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import StartError
from mia_daemon.model.market_memory import KEEP_NS, REMEMBERED, Experience, Market
from mia_daemon.private_file import prepare_database
from mia_daemon.records import Trade

FILE_NAME: Final = "market_memory.db"
MAX_CLUSTERS: Final = 64
NEAR: Final = 1.5
"""Root mean square distance, in typical deviations, within which two markets count as alike."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clusters(
    cluster_id INTEGER PRIMARY KEY, event_type TEXT, features TEXT, timestamp DATETIME);
CREATE TABLE IF NOT EXISTS trade_patterns(
    pattern_id INTEGER PRIMARY KEY, cluster_id INTEGER, trade_id TEXT UNIQUE, entry_price FLOAT, exit_price FLOAT,
    profit FLOAT, regime TEXT, timestamp DATETIME);
CREATE INDEX IF NOT EXISTS pattern_cluster ON trade_patterns(cluster_id);
"""
_CONTEXTS = """
CREATE TABLE IF NOT EXISTS contexts(
    trade_id TEXT PRIMARY KEY, exit_ns INTEGER, market TEXT, outcome FLOAT, simulated INTEGER);
"""
_ADD_CONTEXT = """
INSERT OR REPLACE INTO contexts(trade_id, exit_ns, market, outcome, simulated) VALUES (?, ?, ?, ?, ?)"""
_WAIT_S: Final = 0.02
"""For another program that writes: the market waits too."""


class MemoryFile:
    """The file, open for one writer.

    Args:
        simulated: what is added and read are trades of the embedded simulator.

    Attributes:
        notice: one sentence when a damaged file was set aside, else empty; for the caller to tell.

    Raises:
        StartError: the file can't be opened, or is another program's at the moment.
    """

    def __init__(self, path: Path, now_ns: int, *, simulated: bool = False) -> None:
        self.path = path
        self._simulated = simulated
        self.notice = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _open(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._set_aside(now_ns, error)
            self._purged_ns = 0
            self.purge(now_ns)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"{path} can't be opened ({reason}): check the directory and its owner") from error

    def _set_aside(self, now_ns: int, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{now_ns // NS_PER_S}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._db = _open(self.path)
        self.notice = f"{self.path} is damaged ({error}): kept as {aside.name}, a new memory was begun"

    def experiences(self) -> list[Experience]:
        """All that is on file, by the time they ended. Raises StartError when it can't be read."""
        return _experiences(self._db, self.path, f"simulated = {self._simulated:d}")

    def add(self, trade: Trade, experience: Experience, event_type: str = "") -> str:
        """Store a closed trade under the market it was entered in; returns what went wrong in one sentence, or "".

        A trade already known changes nothing. A damaged file met here is set aside as on opening, and the trade is the
        first of the new memory.
        """
        try:
            try:
                self._add(trade, experience, event_type)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._db.close()
                self._set_aside(trade.exit_ns, error)
                self._add(trade, experience, event_type)
                return self.notice
        except (OSError, sqlite3.Error) as error:
            return f"{self.path} can't be written ({error}): trade {trade.trade_id} is not in it until the next start"
        return ""

    def _add(self, trade: Trade, experience: Experience, event_type: str) -> None:
        with self._db:
            self._db.execute(_ADD_CONTEXT, _context(experience, simulated=self._simulated))
            if self._db.execute("SELECT 1 FROM trade_patterns WHERE trade_id = ?", (trade.trade_id,)).fetchone():
                return
            now = iso_utc(trade.exit_ns)
            cluster = self._cluster(experience.market, event_type, now)
            regime = trade.regime_probs.most_likely()
            self._db.execute(
                "INSERT INTO trade_patterns"
                "(cluster_id, trade_id, entry_price, exit_price, profit, regime, timestamp) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (cluster, trade.trade_id, trade.entry_price, trade.exit_price, trade.profit, regime, now),
            )
        if trade.exit_ns - self._purged_ns > KEEP_NS // 30:
            self.purge(trade.exit_ns)

    def _cluster(self, market: Market, event_type: str, now: str) -> int:
        """The one that a market belongs to, moved toward it; a new one where none is near and there is room."""
        clusters = [
            (_distance(market, _centre(text)), cluster)
            for cluster, text in self._db.execute(
                "SELECT cluster_id, features FROM clusters WHERE event_type = ?", (event_type,)
            )
        ]
        (count,) = self._db.execute("SELECT count(*) FROM clusters").fetchone()
        distance, nearest = min(clusters, default=(math.inf, 0))
        if clusters and (distance <= NEAR or count >= MAX_CLUSTERS):
            self._move_centre(nearest, market, now)
            return nearest
        row = (event_type, json.dumps(_named(market)), now)
        added = self._db.execute("INSERT INTO clusters(event_type, features, timestamp) VALUES (?, ?, ?)", row)
        return int(added.lastrowid or 0)

    def _move_centre(self, cluster: int, market: Market, now: str) -> None:
        """The centre is the mean of its members' markets."""
        (text,) = self._db.execute("SELECT features FROM clusters WHERE cluster_id = ?", (cluster,)).fetchone()
        (members,) = self._db.execute("SELECT count(*) FROM trade_patterns WHERE cluster_id = ?", (cluster,)).fetchone()
        moved = (_centre(text) * members + market) / np.float32(members + 1)
        self._db.execute(
            "UPDATE clusters SET features = ?, timestamp = ? WHERE cluster_id = ?",
            (json.dumps(_named(moved)), now, cluster),
        )

    def purge(self, now_ns: int) -> int:
        """Forget what is older than 30 days, and clusters that hold nothing; returns how many trades went.

        Raises:
            sqlite3.Error: the file can't be written or is damaged.
        """
        limit_ns = now_ns - KEEP_NS
        with self._db:
            own = self._db.execute(
                "DELETE FROM trade_patterns WHERE trade_id IN "
                "(SELECT trade_id FROM contexts WHERE exit_ns < ? AND simulated = ?)",
                (limit_ns, self._simulated),
            )
            self._db.execute("DELETE FROM contexts WHERE exit_ns < ? AND simulated = ?", (limit_ns, self._simulated))
            nobodys = self._db.execute(
                "DELETE FROM trade_patterns WHERE timestamp < ? AND trade_id NOT IN (SELECT trade_id FROM contexts)",
                (iso_utc(limit_ns),),
            )
            self._db.execute("DELETE FROM clusters WHERE cluster_id NOT IN (SELECT cluster_id FROM trade_patterns)")
        self._purged_ns = now_ns
        return own.rowcount + nobodys.rowcount

    def close(self) -> None:
        self._db.close()


def write(path: Path, experiences: Iterable[Experience]) -> None:
    """Make a file of nothing but these, for `read`. Raises StartError when it can't be written."""
    try:
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(_CONTEXTS)
            db.executemany(_ADD_CONTEXT, (_context(experience, simulated=False) for experience in experiences))
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"{path} can't be written ({error}): check the directory and its owner") from error


def read(path: Path) -> list[Experience]:
    """All that `write` put there, by the time they ended. Raises StartError when it can't be read."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise StartError(f"the market memory {path} can't be read ({error})") from error
    with closing(db):
        return _experiences(db, path)


def _experiences(db: sqlite3.Connection, path: Path, which: str = "true") -> list[Experience]:
    sql = f"SELECT trade_id, exit_ns, market, outcome FROM contexts WHERE {which} ORDER BY exit_ns, rowid"  # noqa: S608
    try:
        found = [_experience(*row) for row in db.execute(sql)]
    except sqlite3.Error as error:
        raise StartError(f"the market memory {path} can't be read ({error})") from error
    return [experience for experience in found if experience is not None]


def _experience(trade_id: str, exit_ns: object, text: object, outcome: object) -> Experience | None:
    """None for a row that no daemon has written."""
    try:
        market = np.array(json.loads(str(text)), np.float32)
    except (ValueError, TypeError, RecursionError):
        return None
    if market.shape != (len(REMEMBERED),) or not np.isfinite(market).all():
        return None
    if not isinstance(exit_ns, int) or not isinstance(outcome, float) or not math.isfinite(outcome):
        return None
    return Experience(trade_id, exit_ns, market, outcome)


def _context(experience: Experience, *, simulated: bool) -> tuple[str, int, str, float, bool]:
    market = json.dumps(experience.market.tolist())
    return experience.trade_id, experience.exit_ns, market, experience.outcome, simulated


def _open(path: Path) -> sqlite3.Connection:
    prepare_database(path)
    db = sqlite3.connect(path, timeout=_WAIT_S)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA + _CONTEXTS)
        if "simulated" not in {row[1] for row in db.execute("PRAGMA table_info(contexts)")}:
            db.executescript(f"DROP TABLE contexts; {_CONTEXTS}")  # of an earlier version: the journal has it all
        if (answer := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(answer)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _named(market: Market) -> dict[str, float]:
    """For people: by the features' names, in their own units."""
    return {
        name: round(typical + scale * x, 6)
        for (name, (typical, scale)), x in zip(REMEMBERED.items(), market.tolist(), strict=True)
    }


def _centre(text: str) -> Market:
    named = json.loads(text)
    return np.array(
        [(named.get(name, typical) - typical) / scale for name, (typical, scale) in REMEMBERED.items()], np.float32
    )


def _distance(one: Market, other: Market) -> float:
    return math.sqrt(float(np.square(one - other).mean()))
