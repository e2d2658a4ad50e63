"""market_memory.db: the market memory on file, for the next run and for people who ask it with SQL.

    clusters        at most 64 kinds of markets: the centre of each as JSON, and which announcement was near
    trade_patterns  the trades entered in each
    contexts        of each trade, what `market_memory` recalls: its market and its outcome

It is written once per closed trade, off the hot path. It is a convenience, never a record: the journal is the truth,
what the file lacks is taken from there, and a damaged file is set aside and made anew.
"""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import StartError
from mia_daemon.model.market_memory import KEEP_NS, REMEMBERED, Experience, Market
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
CREATE TABLE IF NOT EXISTS contexts(
    trade_id TEXT PRIMARY KEY, exit_ns INTEGER, market TEXT, outcome FLOAT);
CREATE INDEX IF NOT EXISTS pattern_cluster ON trade_patterns(cluster_id);
"""


class MemoryFile:
    """The file, open for one writer.

    Attributes:
        notice: one sentence when a damaged file was set aside, else empty; for the caller to tell.

    Raises:
        StartError: the file can't be opened, or is another program's at the moment.
    """

    def __init__(self, path: Path, now_ns: int) -> None:
        self.path = path
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
            raise StartError(f"{path} can't be opened ({error}): check the directory and its owner") from error

    def _set_aside(self, now_ns: int, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{now_ns // NS_PER_S}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._db = _open(self.path)
        self.notice = f"{self.path} is damaged ({error}): kept as {aside.name}, a new memory was begun"

    def experiences(self) -> list[Experience]:
        """All that is on file. Raises StartError when it can't be read."""
        return _experiences(self._db, self.path)

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
            self._db.execute(
                "INSERT OR REPLACE INTO contexts(trade_id, exit_ns, market, outcome) VALUES (?, ?, ?, ?)",
                (trade.trade_id, trade.exit_ns, json.dumps(experience.market.tolist()), experience.outcome),
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
            gone = self._db.execute("DELETE FROM trade_patterns WHERE timestamp < ?", (iso_utc(limit_ns),)).rowcount
            self._db.execute("DELETE FROM contexts WHERE exit_ns < ?", (limit_ns,))
            self._db.execute("DELETE FROM clusters WHERE cluster_id NOT IN (SELECT cluster_id FROM trade_patterns)")
        self._purged_ns = now_ns
        return gone

    def copy_to(self, recording: Path) -> None:
        """Put what is on file beside a recording, so that a replay of it begins with the same memory.

        Raises:
            StartError: it can't be written.
        """
        if not self._db.execute("SELECT count(*) FROM contexts").fetchone()[0]:
            return
        path = recording / FILE_NAME
        try:
            path.unlink(missing_ok=True)
            self._db.execute("VACUUM INTO ?", (str(path),))
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"{path} can't be written ({error}): check the directory and its owner") from error

    def close(self) -> None:
        self._db.close()


def read(path: Path) -> list[Experience]:
    """All that is in a copy which nobody writes. Raises StartError when it can't be read."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise StartError(f"the market memory {path} can't be read ({error})") from error
    with closing(db):
        return _experiences(db, path)


def _experiences(db: sqlite3.Connection, path: Path) -> list[Experience]:
    try:
        found = [
            Experience(trade_id, exit_ns, np.array(json.loads(text), np.float32), outcome)
            for trade_id, exit_ns, text, outcome in db.execute(
                "SELECT trade_id, exit_ns, market, outcome FROM contexts ORDER BY exit_ns, rowid"
            )
        ]
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise StartError(f"the market memory {path} can't be read ({error})") from error
    return [one for one in found if one.market.shape == (len(REMEMBERED),)]


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0.5)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
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
