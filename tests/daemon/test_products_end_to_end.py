"""Products other than equity indices through the whole daemon: replays and `features verify` on generated files."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from daemon_process import TRADES_OFTEN, daemons_in

from mia_daemon.feed.sierra_files import SCID, RecordWriter, events_to_scid
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventKind, empty_events

pytestmark = pytest.mark.timeout(300)

LEVELS = {
    "CLF27_FUT_CME": -2.0,  # a session below zero
    "CLG27_FUT_CME": 0.05,  # one that crosses zero
    "ZNH27_FUT_CME": 110.5,
    "6JZ26_FUT_CME": 0.0065,
}


def walk(traded, level, count=3000):
    """A quarter of an hour of trades, at the bid or at the ask of a price that wanders by ticks."""
    chance = np.random.default_rng(5)
    events = empty_events(count)
    start_ns = int(datetime(2026, 11, 23, 15, tzinfo=UTC).timestamp()) * 10**9
    events["ts_ns"] = start_ns + np.cumsum(chance.integers(10**6, 600 * 10**6, count)) // 1000 * 1000
    events["kind"], events["count"] = EventKind.TRADE, 1
    events["side"] = chance.choice([-1, 1], count)
    bid = round(level / traded.tick_size) + np.cumsum(chance.choice([-1, 0, 0, 0, 1], count))
    events["bid"], events["ask"] = bid * traded.tick_size, (bid + 1) * traded.tick_size
    events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
    events["size"] = chance.integers(1, 9, count)
    return events


@pytest.fixture(scope="module")
def workshop(fork_server, tmp_path_factory):
    with daemons_in(tmp_path_factory.mktemp("products"), fork_server) as daemons:
        yield daemons


@pytest.fixture(scope="module", params=LEVELS)
def recorded(request, workshop):
    """A contract, and a file of it."""
    traded = instrument(request.param)
    path = workshop.directory / f"{traded.symbol}.scid"
    writer = RecordWriter(path, SCID)
    writer.append(events_to_scid(walk(traded, LEVELS[traded.symbol])))
    writer.close()
    return traded, path


def test_a_replay_trades_at_prices_on_the_tick_and_counts_their_value(workshop, recorded):
    """Every fill is at a price of the file, to the bit; the profit is what the fills make of the point value."""
    traded, path = recorded
    var = workshop.directory / f"var-{traded.symbol}"
    ended = workshop.run("replay", path, "--config", workshop.config(**TRADES_OFTEN), "--var", var, "--json")
    assert ended.status == 0, ended.err
    assert "warning" not in ended.err
    found = json.loads(ended.out)
    assert found["round_trips"] > 5
    with closing(sqlite3.connect(f"file:{var / 'journal' / 'replay.db'}?mode=ro", uri=True)) as db:
        fills = db.execute("SELECT side, quantity, price FROM fills").fetchall()
    assert len(fills) == found["fills"]
    assert all(price == traded.round_to_tick(price) for _, _, price in fills)
    assert traded.product.quotes_below_zero == any(price < 0.0 for _, _, price in fills)
    position, cash, profit = 0, 0.0, 0.0
    for side, quantity, price in fills:
        position += side * quantity
        cash -= side * quantity * price * traded.point_value + quantity * traded.cost_per_side
        profit = profit if position else cash  # of the round trips that are closed
    assert found["profit"] == pytest.approx(profit, abs=0.01)


def test_features_keep_their_promises(workshop, recorded):
    _, path = recorded
    ended = workshop.run(
        "features", "verify", path, "--json", "--events", "1200", "--var", workshop.directory / "verify"
    )
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["sound"] == 350
