"""Whether what came before a feature's warm-up still matters after it.

Other pasts are joined to the events at many places: none at all, and the true one upside down with its sizes in
reverse. After the warm-up that the catalogue declares, the values behind all three pasts have to agree.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_daemon.features.catalogue import COUNT, FEATURES
from mia_daemon.features.runs import Runs, Values
from mia_daemon.records import EventArray, EventFlag, EventKind

AGREEING: Final = 0.95  # share of moments
_MIN_MOMENTS: Final = 20
_AFTER: Final = 5  # minutes looked at behind a warm-up, at least
_NEVER_S: Final = 1e7
_STARTS: Final = 60  # places where other pasts are joined
_FEWEST: Final = 6  # of them, for the longest warm-ups
_MOST: Final = 30  # for the shortest


class _Need(NamedTuple):
    """A warm-up, as `Feature` declares it."""

    days: int
    seconds: int

    @property
    def minutes(self) -> int:
        return -(-self.seconds // 60)

    @property
    def tier(self) -> int:
        """Equal for warm-ups that differ by less than four times."""
        return math.floor(math.log(max(self.seconds + 82_800 * self.days, 300) / 300, 4))


def _longest(needs: Iterable[_Need]) -> _Need:
    return _Need(max(need.days for need in needs), max(need.seconds for need in needs))


def book_at(events: EventArray, cut: int) -> EventArray:
    """The traded symbol's book before event `cut` as a snapshot, which is what a server sends one that connects."""
    rows = events[:cut]
    depth = np.flatnonzero((rows["kind"] == EventKind.DEPTH) & (rows["symbol"] == 0))
    cleared = np.flatnonzero(rows["flags"][depth] & EventFlag.CLEAR)
    depth = depth[cleared[-1] if len(cleared) else 0 :]
    newest = depth[::-1]
    _, first = np.unique(rows["price"][newest] * rows["side"][newest], return_index=True)
    book = rows[np.sort(newest[first])].copy()
    book = book[book["size"] > 0]
    if len(book):
        book["ts_ns"], book["recv_ns"] = events["ts_ns"][cut], events["recv_ns"][cut]
        book["flags"] = EventFlag.SNAPSHOT
        book["flags"][0] |= EventFlag.CLEAR
        book["flags"][-1] |= EventFlag.BATCH_END
    return book


class OtherPasts:
    """Other pasts for the events of `runs`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._books: dict[int, EventArray] = {}
        low, bottom, top, high = np.quantile(runs.whole.values.astype(np.float64), (0.0, 0.05, 0.95, 1.0), axis=0)
        usual = np.maximum(top - bottom, 0.01 * (high - low))
        self._usual = np.where(usual > 0.0, usual, 1e-9)

    def apart(self) -> NDArray[np.float64]:
        """How far values behind different pasts are apart once warm: (350,), share of the usual range, or NaN."""
        apart = np.full(COUNT, np.nan)
        tiers: dict[int, dict[_Need, list[int]]] = {}  # of needs alike enough to be looked at in one run
        for feature in FEATURES:
            need = _Need(feature.warmup_days, feature.warmup_s)
            tiers.setdefault(need.tier, {}).setdefault(need, []).append(feature.index)
        for needs in tiers.values():
            found: dict[_Need, list[Values]] = {need: [] for need in needs}
            for cut in self._starts(_longest(needs)):
                for need, difference in self._differences(cut, needs):
                    found[need].append(difference)
            for need, parts in found.items():
                if sum(map(len, parts)) >= _MIN_MOMENTS:
                    of = needs[need]
                    apart[of] = np.quantile(np.concatenate(parts), AGREEING, axis=0) / self._usual[of]
        return apart

    def _differences(self, cut: int, needs: dict[_Need, list[int]]) -> Iterator[tuple[_Need, Values]]:
        """For each warm-up that begins at `cut`: (moments, features), differences between pasts just after it."""
        spans = {need: self._span(cut, need) for need in needs}
        first, end = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
        longest, minute, day = _longest(needs), int(self._runs.minutes[cut]), int(self._runs.days[cut])
        start = min(self._at(minute - longest.minutes - _AFTER, day - longest.days - 1))
        same = np.concatenate([self._book(cut), self._runs.events[cut:first]])
        past = self._runs.other(start, cut, pivot=cut)
        for warming in (same, np.concatenate([past, same])):
            silent, made = self._runs.pipeline(_NEVER_S), self._runs.pipeline()
            self._runs.run(warming, made=silent)
            made.resume(silent.state())
            run = self._runs.run(self._runs.events[first:end], made=made)
            at, mine, whole = np.intersect1d(
                run.at + first, self._runs.whole.at, assume_unique=True, return_indices=True
            )
            for need, (warm, over) in spans.items():
                just = slice(*np.searchsorted(at, (warm, over)))
                true = self._runs.whole.values[whole[just]][:, needs[need]]
                yield need, np.abs(run.values[mine[just]][:, needs[need]] - true)

    def _span(self, cut: int, need: _Need) -> tuple[int, int]:
        """The events at which a warm-up that began at `cut` is just over: a quarter as long, or a day."""
        minute, day = int(self._runs.minutes[cut]), int(self._runs.days[cut])
        days = (day + need.days, day + need.days + 1) if need.days else (0, 0)
        after = need.minutes // 4 + _AFTER
        return max(self._at(minute + need.minutes + 1, days[0])), max(self._at(minute + need.minutes + after, days[1]))

    def _at(self, minute: int, day: int) -> tuple[int, int]:
        """The first events of that minute of trading and of that trading day."""
        return int(np.searchsorted(self._runs.minutes, minute)), int(np.searchsorted(self._runs.days, day))

    def _starts(self, longest: _Need) -> list[int]:
        """Where other pasts are joined: spread over what leaves room for the warm-up, the more the shorter it is."""
        room = (self._runs.minutes <= self._runs.minutes[-1] - longest.minutes - 2) & (
            self._runs.days <= self._runs.days[-1] - longest.days
        )
        places = np.linspace(len(self._runs.events) // 100, len(self._runs.events) - 1, _STARTS).astype(int)
        places = places[room[places]]
        days = int(self._runs.days[-1] - self._runs.days[0]) + 1
        share = max(longest.minutes / int(self._runs.minutes[-1]), longest.days / days, 1e-3)
        wanted = min(max(round(0.5 / share), _FEWEST), _MOST, len(places))
        chosen: list[int] = places[np.linspace(0, len(places) - 1, wanted).astype(int)].tolist()
        return chosen

    def _book(self, cut: int) -> EventArray:
        if cut not in self._books:
            self._books[cut] = book_at(self._runs.events, cut)
        return self._books[cut]
