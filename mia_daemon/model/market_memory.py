"""What became of trades that were entered in markets like this one: part of the policy's knowledge of itself.

A market is seven features, each in typical deviations from a typical value; both are fixed, so that a distance means
the same next month. A memory is told the market of each entry and what became of the trade, and asked, at each
decision, for its nearest neighbours. It knows nothing of files (`memory_file`) and nothing later than the moment asked
about, so a replay that begins with the same memory repeats itself.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.features import catalogue
from mia_daemon.records import NOTHING_RECALLED, Recalled, Trade

REMEMBERED: Final[Mapping[str, tuple[float, float]]] = {
    "spread_ticks": (1.0, 1.0),
    "vol_ratio_1m_15m": (0.0, 0.5),
    "vol_ratio_5m_60m": (0.0, 0.5),
    "er_15m": (0.3, 0.2),
    "hurst_15m": (0.5, 0.15),
    "tod_sin": (0.0, 0.7),
    "tod_cos": (0.0, 0.7),
}
"""Features that describe a market in short, with a typical value and a typical deviation."""

NEIGHBOURS: Final = 16
CAPACITY: Final = 1024
"""Trades that are recalled: the newest."""

KEEP_NS: Final = 30 * 24 * 3600 * NS_PER_S
_OPEN_ENTRIES: Final = 64

Market = NDArray[np.float32]
"""(7,) in the order of `REMEMBERED`, in typical deviations from the typical value."""

_INDICES: Final = np.array([catalogue.index(name) for name in REMEMBERED], np.intp)
_TYPICAL: Final = np.array([typical for typical, _ in REMEMBERED.values()], np.float32)
_SCALE: Final = np.array([scale for _, scale in REMEMBERED.values()], np.float32)
_ATR: Final = catalogue.index("atr_14")


@dataclass(frozen=True, slots=True)
class Entry:
    """The market a trade was entered in, and its atr_14 in points."""

    market: Market
    atr: float


@dataclass(frozen=True, slots=True)
class Experience:
    """A trade that is over.

    Attributes:
        market: it was entered in.
        outcome: profit after costs, in ATRs (as of the entry) of the largest size held.
    """

    trade_id: str
    exit_ns: int
    market: Market
    outcome: float


def entry_of(values: NDArray[np.float32]) -> Entry:
    """The market that the 350 `values` of a decision describe; a value that is not finite counts as typical."""
    market = (values[_INDICES] - _TYPICAL) / _SCALE
    return Entry(np.where(np.isfinite(market), market, np.float32(0.0)), float(values[_ATR]))


def experience_of(trade: Trade, entry: Entry, tick_size: float, point_value: float) -> Experience:
    """What to remember of a closed trade; one tick stands in for an ATR that is not warm."""
    atr = max(tick_size, entry.atr)  # also where it is not a number
    outcome = trade.profit / (atr * point_value * max(trade.quantity, 1))
    return Experience(trade.trade_id, trade.exit_ns, entry.market, outcome)


class MarketMemory:
    """The newest trades of the last 30 days, in flat arrays.

    Args:
        tick_size: of what is traded, points.
        point_value: account currency a point of one contract.
    """

    def __init__(self, tick_size: float, point_value: float) -> None:
        self._tick_size = tick_size
        self._point_value = point_value
        # In order of their exits. When they are full the newest `CAPACITY` move to the front.
        self._markets = np.zeros((2 * CAPACITY, len(REMEMBERED)), np.float32)
        self._outcomes = np.zeros(2 * CAPACITY)
        self._exits_ns = np.zeros(2 * CAPACITY, np.int64)
        self._stored = 0
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return min(self._stored, CAPACITY)

    def begin_with(self, known: Iterable[Experience]) -> None:
        """Take over what earlier runs experienced, before this one experiences anything."""
        for experience in sorted(known, key=lambda one: one.exit_ns):
            self._store(experience)

    def entered(self, decision_id: str, values: NDArray[np.float32]) -> None:
        """Keep the market of a decision to enter until its trade is over; one that made no trade is forgotten later."""
        while len(self._entries) >= _OPEN_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[decision_id] = entry_of(values)

    def closed(self, trade: Trade) -> Experience | None:
        """Remember a trade that is over; None when the market of its entry is not known."""
        entry = self._entries.pop(trade.decision_id, None)
        if entry is None:
            return None
        experience = experience_of(trade, entry, self._tick_size, self._point_value)
        self._store(experience)
        return experience

    def _store(self, experience: Experience) -> None:
        if self._stored == 2 * CAPACITY:
            for array in (self._markets, self._outcomes, self._exits_ns):
                array[:CAPACITY] = array[CAPACITY:]
            self._stored = CAPACITY
        exits_ns = self._exits_ns
        at = int(exits_ns[: self._stored].searchsorted(experience.exit_ns, side="right"))
        for array in (self._markets, self._outcomes, exits_ns):
            array[at + 1 : self._stored + 1] = array[at : self._stored]
        self._markets[at] = experience.market
        self._outcomes[at] = experience.outcome
        exits_ns[at] = experience.exit_ns
        self._stored += 1

    def recall(self, values: NDArray[np.float32], now_ns: int) -> Recalled:
        """The nearest trades that were over by `now_ns` and not 30 days before; `values` are the 350 of a decision."""
        exits_ns = self._exits_ns[: self._stored]
        oldest, newest = exits_ns.searchsorted((now_ns - KEEP_NS, now_ns), side="right").tolist()
        known = slice(max(oldest, newest - CAPACITY), newest)
        outcomes = self._outcomes[known]
        if not outcomes.size:
            return NOTHING_RECALLED
        apart = self._markets[known] - entry_of(values).market
        squares = np.einsum("ij,ij->i", apart, apart)
        if outcomes.size > NEIGHBOURS:
            nearest = squares.argpartition(NEIGHBOURS)[:NEIGHBOURS]
            outcomes, squares = outcomes[nearest], squares[nearest]
        return Recalled(
            trades=outcomes.size,
            won_share=float(np.count_nonzero(outcomes > 0.0)) / outcomes.size,
            outcome=float(outcomes.sum()) / outcomes.size,
            distance=math.sqrt(float(squares.sum()) / squares.size / len(REMEMBERED)),
        )
