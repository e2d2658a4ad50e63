"""The engine and the plain driver of these tests are two writings of the same conventions: they agree."""

import numpy as np
from kernel_driver import NS, Drive, Trades, calendar, random_trades

from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.kernels import bar, clock, cplx, level, ta, vol
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventKind, empty_events

FAMILIES = (vol, cplx, ta, bar, level, clock)
OURS = np.concatenate([np.arange(f.FIRST, f.FIRST + f.COUNT) for f in FAMILIES])
CAL = calendar(days=4)


def days() -> Trades:
    """Three trading days, the last after a weekend; the first with a silence of three hours."""
    parts = []
    for day in (0, 1, 2):
        for hour, hours in ((0.5, 5), (9, 12)) if day == 0 else ((2, 21),):
            start = int(CAL[day, 0] + hour * 3600 * NS)
            parts.append(random_trades(start, hours * 3600, 4000, seed=day + 1, step_ticks=2.0))
    return Trades(*(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))


def test_the_engine_computes_what_the_families_compute_alone():
    trades = days()
    events = empty_events(len(trades))
    events["ts_ns"] = events["recv_ns"] = trades.t
    events["kind"], events["count"] = EventKind.TRADE, 1
    events["price"], events["size"], events["side"] = trades.price, trades.size, trades.side
    events["bid"] = np.where(trades.side > 0, trades.price - 0.25, trades.price)
    events["ask"] = events["bid"] + 0.25
    pipeline = FeaturePipeline(instrument("MNQU21-CME"), 60.0, TradingCalendar(CAL.copy()), 0.0)
    windows = [window for window in pipeline.push(events, 0) if window.due]
    assert len(windows) > 1000
    drive = Drive(*FAMILIES, cal=CAL)
    done = 0
    for window in windows:
        end = done + len(window.events)
        drive.trades(Trades(*(column[done:end] for column in vars(trades).values())))
        done = end
        got = window.values[OURS]
        np.testing.assert_array_equal(got, drive.values()[OURS].astype(np.float32), err_msg=str(window.seq))
    assert pipeline.not_finite == 0
