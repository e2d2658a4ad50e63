"""The hour of real market depth beside the project, as the files that Sierra Chart would have written of it."""

from typing import NamedTuple

import numpy as np

from mia_daemon.feed import sierra_files as sf

NAME = "ESH4_FUT_CME"
DAY = "2023-12-25"
LONGEST_SILENCE_NS = 10**10


class Hour(NamedTuple):
    """What the source says, from where its book changes all the time.

    `state_us` are the times of the book's states; `touch` (n, 4) their best bid, its size, best ask, its size.
    """

    scid: object
    depth_directory: object
    depth: object
    state_us: np.ndarray
    touch: np.ndarray


def write(path, directory):
    """`NAME.scid` and its depth file in `directory`, from the source at `path`."""
    data = dict(np.load(path))
    states = np.flatnonzero(data["bp"][:, 0] < data["ap"][:, 0])
    states = states[np.flatnonzero(np.diff(data["ts"][states].astype("i8")) > LONGEST_SILENCE_NS)[-1] + 1 :]
    state_us = sf.to_us(data["ts"][states].astype("i8"))
    last = np.append(np.diff(state_us) > 0, [True])  # of the states in one microsecond, which is all that a file tells
    states, state_us = states[last], state_us[last]
    books = [_book(data, k) for k in states]
    depth = _changes(state_us, books)
    trades = _trades(data["trades"], state_us, books)
    (directory / f"{NAME}.scid").write_bytes(sf.SCID.header() + trades.tobytes())
    (directory / f"{NAME}.{DAY}.depth").write_bytes(sf.DEPTH.header() + depth.tobytes())
    touch = np.array([[max(bid), bid[max(bid)], min(ask), ask[min(ask)]] for bid, ask in books])
    return Hour(directory / f"{NAME}.scid", directory, directory / f"{NAME}.{DAY}.depth", state_us, touch)


def _book(data, k):
    """({price: size} of the bids, of the asks) of state `k`."""
    return tuple(
        {float(p): int(q) for p, q in zip(data[prices][k], data[sizes][k], strict=True) if q > 0}
        for prices, sizes in (("bp", "bq"), ("ap", "aq"))
    )


def _changes(state_us, books):
    """DEPTH_RECORDs: a snapshot of the first state, then what changes from each state to the next."""
    rows = [(state_us[0], sf.CLEAR_BOOK, 0, 0.0, 0)]  # time, command, flags, price, quantity
    before = ({}, {})
    for time_us, book in zip(state_us, books, strict=True):
        begin = len(rows)
        for side, (old, new) in enumerate(zip(before, book, strict=True)):
            rows += [(time_us, 6 + side, 0, price, 0) for price in old.keys() - new.keys()]
            add = 2 if not before[0] else 4
            rows += [(time_us, add + side, 0, p, q) for p, q in new.items() if old.get(p) != q]
        if len(rows) > begin:
            time_us, command, _, price, quantity = rows[-1]  # noqa: PLW2901
            rows[-1] = (time_us, command, sf.END_OF_BATCH, price, quantity)
        before = book
    records = np.zeros(len(rows), sf.DEPTH_RECORD)
    for name, column in zip(("time", "command", "flags", "price", "quantity"), zip(*rows, strict=True), strict=True):
        records[name] = column
    return records


def _trades(trades, state_us, books):
    """SCID_RECORDs: each trade with the touch it met, that of the last state before it."""
    time_us = sf.to_us(trades[:, 0].astype("i8"))
    inside = (time_us > state_us[0]) & (time_us <= state_us[-1])
    trades, time_us = trades[inside], time_us[inside]
    met = np.searchsorted(state_us, time_us, side="left") - 1
    records = np.zeros(len(trades), sf.SCID_RECORD)
    records["time"] = time_us
    records["close"], records["num_trades"] = trades[:, 1], 1
    records["low"] = [max(books[k][0]) for k in met]
    records["high"] = [min(books[k][1]) for k in met]
    records["total_volume"] = trades[:, 2]
    bought = trades[:, 3] > 0
    records["ask_volume"][bought] = records["total_volume"][bought]
    records["bid_volume"][~bought] = records["total_volume"][~bought]
    return records
