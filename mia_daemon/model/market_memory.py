"""market_memory.db: in which market a trade was made, and what became of it.

Once per closed trade, off the hot path: the market at the entry joins the nearest of at most `MAX_CLUSTERS` clusters,
or founds one, and the trade is stored under it. `recall` asks what happened in markets like a given one. The memory is
a convenience, never a record: the journal is the truth, and a damaged memory is set aside and begun anew.
"""

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import StartError
from mia_daemon.records import Trade

REMEMBERED: Final[Mapping[str, tuple[float, float]]] = {
    "spread_ticks": (1.0, 1.0),
    "vol_ratio_1m_15m": (0.0, 0.5),
    "vol_ratio_5m_60m": (0.0, 0.5),
    "er_15m": (0.3, 0.2),
    "hurst_15m": (0.5, 0.15),
    "tod_sin": (0.0, 0.7),
    "tod_cos": (0.0, 0.7),
}
"""Features that describe a market in short, with a typical value and a typical deviation. Fixed, so that a distance
means the same next month."""

MAX_CLUSTERS: Final = 64
NEAR: Final = 1.5
"""Root mean square distance, in typical deviations, within which two markets count as alike."""

KEEP_NS: Final = 30 * 24 * 3600 * NS_PER_S
_SCHEMA = """
CREATE TABLE IF NOT EXISTS clusters(
    cluster_id INTEGER PRIMARY KEY, event_type TEXT, features TEXT, timestamp DATETIME);
CREATE TABLE IF NOT EXISTS trade_patterns(
    pattern_id INTEGER PRIMARY KEY, cluster_id INTEGER, trade_id TEXT UNIQUE, entry_price FLOAT, exit_price FLOAT,
    profit FLOAT, regime TEXT, timestamp DATETIME);
CREATE INDEX IF NOT EXISTS pattern_cluster ON trade_patterns(cluster_id);
"""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What became of trades in one cluster of alike markets."""

    cluster_id: int
    distance: float
    trades: int
    profit: float  # sum, account currency, after costs
    won_share: float


class MarketMemory:
    """The memory's file, open for one writer.

    Attributes:
        notice: one sentence when a damaged file was set aside, else empty; for the caller to raise as an alert.

    Raises:
        StartError: the directory can't be written.
    """

    def __init__(self, path: Path, now_ns: int) -> None:
        self.path = path
        self.notice = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open(path)
        except sqlite3.OperationalError as error:
            raise StartError(f"{path} can't be opened ({error}): check the directory and its owner") from error
        except OSError as error:
            raise StartError(f"{path} can't be made ({error.strerror}): check the directory and its owner") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(now_ns, error)
        self.purge(now_ns)

    def _set_aside(self, now_ns: int, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{now_ns // NS_PER_S}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._db = _open(self.path)
        self.notice = f"{self.path} is damaged ({error}): kept as {aside.name}, a new memory was begun"

    def remember(self, trade: Trade, features: Mapping[str, float], event_type: str = "") -> str:
        """Store a closed trade under the market it was entered in; returns what went wrong in one sentence, or "".

        `features` are catalogue values at the decision to enter; those of `REMEMBERED` that are missing or not finite
        count as typical. A trade already known changes nothing. A damaged file met here is set aside as on opening,
        and the trade is the first of the new memory.
        """
        try:
            self._remember(trade, features, event_type)
        except sqlite3.OperationalError as error:
            return f"{self.path} can't be written ({error}): trade {trade.trade_id} is not in the market memory"
        except sqlite3.DatabaseError as error:
            self._db.close()
            self._set_aside(trade.exit_ns, error)
            self._remember(trade, features, event_type)
            return self.notice
        return ""

    def _remember(self, trade: Trade, features: Mapping[str, float], event_type: str) -> None:
        market = _market(features)
        now = iso_utc(trade.exit_ns)
        with self._db:
            if self._db.execute("SELECT 1 FROM trade_patterns WHERE trade_id = ?", (trade.trade_id,)).fetchone():
                return
            near = self._nearest(market, 1)
            full = self._db.execute("SELECT count(*) FROM clusters").fetchone()[0] >= MAX_CLUSTERS
            if near and (full or near[0][0] <= NEAR):
                cluster = near[0][1]
                self._move_centre(cluster, market, now)
            else:
                row = (event_type, json.dumps(market), now)
                added = self._db.execute("INSERT INTO clusters(event_type, features, timestamp) VALUES (?, ?, ?)", row)
                cluster = int(added.lastrowid or 0)
            self._db.execute(
                "INSERT INTO trade_patterns"
                "(cluster_id, trade_id, entry_price, exit_price, profit, regime, timestamp) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    cluster,
                    trade.trade_id,
                    trade.entry_price,
                    trade.exit_price,
                    trade.profit,
                    trade.regime_probs.most_likely(),
                    now,
                ),
            )

    def recall(self, features: Mapping[str, float], k: int = 3) -> list[Recalled]:
        """The `k` clusters nearest to a market, nearest first, with what became of their trades."""
        found = []
        for distance, cluster in self._nearest(_market(features), k):
            trades, profit, won = self._db.execute(
                "SELECT count(*), total(profit), total(profit > 0) FROM trade_patterns WHERE cluster_id = ?", (cluster,)
            ).fetchone()
            found.append(Recalled(cluster, distance, trades, profit, won / trades if trades else 0.0))
        return found

    def purge(self, now_ns: int) -> int:
        """Forget what is older than 30 days, and clusters that hold nothing; returns how many trades went."""
        limit = iso_utc(now_ns - KEEP_NS)
        with self._db:
            gone = self._db.execute("DELETE FROM trade_patterns WHERE timestamp < ?", (limit,)).rowcount
            self._db.execute(
                "DELETE FROM clusters WHERE timestamp < ? OR cluster_id NOT IN (SELECT cluster_id FROM trade_patterns)",
                (limit,),
            )
        return gone

    def close(self) -> None:
        self._db.close()

    def _nearest(self, market: Mapping[str, float], k: int) -> list[tuple[float, int]]:
        clusters = self._db.execute("SELECT cluster_id, features FROM clusters").fetchall()
        return sorted((_distance(market, json.loads(text)), cluster) for cluster, text in clusters)[:k]

    def _move_centre(self, cluster: int, market: Mapping[str, float], now: str) -> None:
        """The centre is the mean of its members' markets."""
        (text,) = self._db.execute("SELECT features FROM clusters WHERE cluster_id = ?", (cluster,)).fetchone()
        (members,) = self._db.execute("SELECT count(*) FROM trade_patterns WHERE cluster_id = ?", (cluster,)).fetchone()
        centre = json.loads(text)
        moved = {name: (centre.get(name, x) * members + x) / (members + 1) for name, x in market.items()}
        self._db.execute(
            "UPDATE clusters SET features = ?, timestamp = ? WHERE cluster_id = ?", (json.dumps(moved), now, cluster)
        )


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


def _market(features: Mapping[str, float]) -> dict[str, float]:
    known = {name: float(features.get(name, math.nan)) for name in REMEMBERED}
    return {name: x if math.isfinite(x) else REMEMBERED[name][0] for name, x in known.items()}


def _distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    squares = [((one[name] - other.get(name, typical)) / scale) ** 2 for name, (typical, scale) in REMEMBERED.items()]
    return math.sqrt(sum(squares) / len(squares))
