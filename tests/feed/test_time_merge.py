"""Two files read in pieces give the same order as in one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.feed.sierra_files import merge
from mia_daemon.feed.tailing.time_merge import TimeMerge
from mia_daemon.records import EventKind, empty_events

times = st.lists(st.integers(0, 3), max_size=25).map(np.cumsum)


def events(kind, ts_ns):
    made = empty_events(len(ts_ns))
    made["ts_ns"], made["kind"], made["size"] = ts_ns, kind, np.arange(len(ts_ns))
    return made


@given(times, times, st.integers(1, 6), st.integers(1, 6))
def test_pieces_come_in_the_order_of_the_whole(trade_times, depth_times, trades_at_once, depth_at_once):
    trades, depth = events(EventKind.TRADE, trade_times), events(EventKind.DEPTH, depth_times)
    merger, got, read = TimeMerge(), [], {"trades": 0, "depth": 0}

    def piece(name, source, size):
        start = read[name]
        read[name] = min(start + size, len(source))
        return source[start : read[name]], len(source) > read[name]

    while True:
        if merger.wants_trades:
            rows, more = piece("trades", trades, trades_at_once)
            merger.put_trades(rows, more=more)
        if merger.wants_depth:
            rows, more = piece("depth", depth, depth_at_once)
            merger.put_depth(rows, more=more)
        got.append(merger.take())
        if not merger.behind:
            break
        assert len(got[-1])  # each turn gets on
    assert np.concatenate(got).tobytes() == merge(trades, depth).tobytes()


def test_a_late_event_comes_at_once():
    merger = TimeMerge()
    merger.put_trades(events(EventKind.TRADE, [10, 20]), more=False)
    assert merger.take()["ts_ns"].tolist() == [10, 20]
    merger.put_trades(events(EventKind.TRADE, []), more=False)
    merger.put_depth(events(EventKind.DEPTH, [15]), more=False)
    assert merger.take()["ts_ns"].tolist() == [15]
    assert not merger.behind
