"""What led to a closed round trip: its fills, and the models and features of the decision to enter."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import JournalError
from mia_daemon.journal.rows import FILL, JournalQuery, fill_of
from mia_daemon.records import Fill, Trade


@dataclass(frozen=True, slots=True)
class Background:
    """What led to a round trip, as far as it is in the journal.

    Attributes:
        fills: of the trip, in the order they were recorded; one that crossed zero belongs to two trips.
        bundle, bundle_sha256: of the models that wanted to enter; "" if no decision of ours did.
        catalogue_sha256: of the feature definitions that `values` follow.
        shown: features for people, each with its index in `values`.
        values: (350,) float32, of the decision to enter; empty if they are not in the journal.
        simulated: the decision was made at the embedded simulator.
    """

    fills: tuple[Fill, ...] = ()
    bundle: str = ""
    bundle_sha256: str = ""
    catalogue_sha256: str = ""
    shown: dict[str, int] = field(default_factory=dict)
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    simulated: bool = False


def background_of(query: JournalQuery, path: Path, trade: Trade) -> Background:
    """Raises JournalError when the features in the journal at `path` are damaged."""
    last = query(_SELECT_CLOSING_FILL, (trade.trade_id,)).fetchone()
    return _background(query, path, trade.decision_id, _fills_up_to(query, last, trade.side))


def open_background(
    query: JournalQuery, path: Path, decision_id: str, symbol: str, account: str, last_fill: int
) -> Background:
    """Of the open position in a symbol and account, as after a fill; otherwise as `background_of`."""
    number, position = query(_SELECT_LAST_FILL, (symbol, account, last_fill)).fetchone() or (0, 0)
    return _background(query, path, decision_id, _fills_up_to(query, (number, symbol, account), position))


def decided_on(query: JournalQuery, path: Path, decision_id: str) -> Background:
    """The models and features of one decision; otherwise as `background_of`."""
    return _background(query, path, decision_id, ())


def _background(query: JournalQuery, path: Path, decision_id: str, fills: tuple[Fill, ...]) -> Background:
    row = query(_SELECT_BACKGROUND, (decision_id,)).fetchone()
    if row is None:
        return Background(fills)
    name, bundle_sha256, catalogue_sha256, shown, source, vector = row
    try:
        values = np.frombuffer(zlib.decompress(vector), "<f4") if vector else np.empty(0, np.float32)
    except (zlib.error, ValueError) as error:
        raise JournalError(f"{path} is damaged: features of {decision_id} ({error})") from error
    return Background(fills, name, bundle_sha256, catalogue_sha256, json.loads(shown), values, source == "simulator")


def _fills_up_to(query: JournalQuery, last: tuple[int, str, str] | None, side: int) -> tuple[Fill, ...]:
    """From the fill that opened a trip, flat or on the other side before it, to the last one.

    `last` is the number of the last fill, its symbol and account, or None for no fills; the sign of `side` is that of
    the trip's position.
    """
    found: list[Fill] = []
    for *fill, position in query(_SELECT_FILLS_UP_TO, last) if last else ():
        found.append(fill_of(tuple(fill)))
        before = position - found[-1].side * found[-1].quantity
        if before * side <= 0:
            break
    return tuple(reversed(found))


_SELECT_CLOSING_FILL: Final = """\
SELECT f.number, f.symbol, f.account FROM trades t JOIN fills f ON f.number = t.fill WHERE t.trade_id = ?"""

_SELECT_LAST_FILL: Final = """\
SELECT number, position FROM fills WHERE symbol = ? AND account = ? AND number <= ? ORDER BY number DESC LIMIT 1"""

_SELECT_FILLS_UP_TO: Final = f"""\
SELECT {FILL}, position FROM fills WHERE number <= ? AND symbol = ? AND account = ? ORDER BY number DESC"""  # noqa: S608

_SELECT_BACKGROUND: Final = """\
SELECT r.bundle_name, r.bundle_sha256, r.catalogue_sha256, r.shown, json_extract(r.config, '$.feed.source'), f.vector
FROM decisions d JOIN runs r ON r.number = d.run LEFT JOIN features f ON f.number = d.number
WHERE d.decision_id = ?"""
