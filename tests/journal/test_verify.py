"""A journal that trading wrote holds together; one that was altered anywhere does not, and it is said where."""

import random
import re
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_headers import run_header

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution import order_path
from mia_daemon.execution.ledger import Ledger
from mia_daemon.features import catalogue
from mia_daemon.journal.trips import names, paired, trips
from mia_daemon.journal.verify import verify
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    Action,
    Decision,
    EntryOrigin,
    Fill,
    Order,
    OrderRole,
    OrderType,
    Prediction,
    RegimeProbs,
    Side,
)

ES = instrument("ESZ26_FUT_CME")
PROBS = RegimeProbs(0.7, 0.2, 0.1)
START = 1_790_000_000 * NS_PER_S


def findings(path):
    with JournalView(path) as view:
        return verify(view, order_path.findings)


def wrong(path):
    """What is wrong, by check."""
    return {name: found for name, found in findings(path).checks.items() if found}


async def trade(rig, seed, decisions=40):
    """A random walk with entries, exits, stops and targets."""
    chance = random.Random(seed)
    price = 100.0
    rig.play((1, price))
    assert await rig.reconcile()
    for _ in range(decisions):
        for _ in range(12):
            price = max(price + 0.25 * chance.choice((-2, -1, 0, 1, 2)), 50.0)
            rig.play((chance.choice((20, 100, 500)), price))
        position = rig.position
        rig.decide(*chance.choice((("hold", position), ("exit", 0)) if position else (("buy", 3), ("sell", -2))))
    rig.executor.checkpoint()


@pytest.fixture(scope="module")
def written():
    """The journal of two runs that traded, once it is made."""
    return []


@pytest.fixture
async def traded(make_rig, tmp_path, written):
    """A journal of two runs that traded, nobody's now; the second ended on purpose, flat."""
    path = tmp_path / "paper.db"
    if not written:
        now_ns = 0
        for seed in range(2):
            rig = make_rig(settings={"decision": {"stop_ticks": 8, "target_ticks": 8, "max_position": 3}})
            rig.ts_ns = max(rig.ts_ns, now_ns)
            await trade(rig, seed)
            now_ns = rig.ts_ns
        rig.operator.stop(flatten=True)
        rig.play((1, 100.0), (10, 100.0), (10, 100.0))
        rig.executor.checkpoint()
        rig.journal.end_run(rig.run_id, rig.ts_ns, "stop")
        rig.close()
        written.append(path.read_bytes())
    path.write_bytes(written[0])
    return path


@pytest.fixture
def alter(traded):
    """Change the journal behind its owner's back."""

    def change(*statements):
        with closing(sqlite3.connect(traded, isolation_level=None)) as db:
            for statement in statements:
                assert db.execute(statement).rowcount != 0, statement
        return traded

    return change


async def test_what_trading_wrote_holds_together_also_over_a_restart(traded):
    found = findings(traded)
    assert found.sound, found
    assert len(found.checks) == 17
    with closing(sqlite3.connect(traded)) as db:
        assert db.execute("SELECT COUNT(*) FROM trades").fetchone()[0] > 10


async def test_a_journal_is_verified_while_its_owner_writes(rig):
    """In one snapshot: half a round trip written meanwhile is not seen by half."""
    rig.decide("buy", 1)
    with JournalView(rig.journal.path) as view:
        assert verify(view, order_path.findings).sound
        rig.play((10, 100.0), (10, 100.0))
        rig.operator.flatten("operator")
        rig.play((10, 100.0), (10, 100.0))
        rig.executor.checkpoint()
        assert list(view.trades()) == []
        assert verify(view, order_path.findings).sound
    assert rig.position == 0
    assert findings(rig.journal.path).sound


TRADE = "(SELECT MIN(number) FROM trades)"
FILL = "(SELECT number FROM fills ORDER BY number LIMIT 1 OFFSET 2)"
ENTRY = "(SELECT client_order_id FROM fills ORDER BY number LIMIT 1)"
DECISION = f"(SELECT decision_id FROM intents WHERE client_order_id = {ENTRY})"

FOLLOW_ON = {
    "positions follow from the fills",
    "the last state follows from the fills",
    "round trips follow from the fills",
}
"""What no longer adds up once the contracts of a fill are others."""

BOOKED = "orders that ended are booked as the server told"
PATH = "orders follow the state table"

DAMAGE = {
    "a fill is lost": (
        "DELETE FROM fills WHERE number = (SELECT number FROM fills ORDER BY number LIMIT 1 OFFSET 3)",
        {BOOKED, PATH, "money follows from the fills", *FOLLOW_ON},
        "the fills make",
    ),
    "a fill is larger": (
        f"UPDATE fills SET quantity = quantity + 1 WHERE number = {FILL}",
        {"no order filled beyond its quantity", BOOKED, PATH, "money follows from the fills", *FOLLOW_ON},
        "filled",
    ),
    "a fill is on the other side": (
        f"UPDATE fills SET side = -side WHERE number = {FILL}",
        {"fills make sense", *FOLLOW_ON},
        "another symbol, account or side",
    ),
    "a fill has no price": (
        f"UPDATE fills SET price = 1e999 WHERE number = {FILL}",
        {"fills make sense", "round trips follow from the fills"},
        "is at inf",
    ),
    "a fill's price is another": (
        f"UPDATE fills SET price = price + 0.25 WHERE number = {FILL}",
        {"round trips follow from the fills", "money follows from the fills"},
        "price",
    ),
    "a fill is nobody's of ours": (
        f"UPDATE fills SET client_order_id = replace(client_order_id, '-', '-9') WHERE number = {FILL}",
        {"intents come first", BOOKED, PATH, "round trips follow from the fills"},
        "whose intent is not on file",
    ),
    "a trade is lost": (
        f"DELETE FROM trades WHERE number = {TRADE}",
        {"round trips follow from the fills"},
        "has no trade",
    ),
    "a trade is made up": (
        (
            "INSERT INTO trades (number, trade_id, fill, symbol, side, quantity, entry_ns, exit_ns, entry_price,"
            " exit_price, gross, costs, p_range, p_trend, p_defensive, decision_id, exit_reason)"
            " VALUES (19999999999, 'x', 2, 'ESZ26_FUT_CME', 1, 1, 1, 2, 1.0, 1.0, 0.0, 2.0, 0, 0, 0, '', '')"
        ),
        {"round trips follow from the fills"},
        "trade x is no round trip",
    ),
    "a trade earned more": (
        f"UPDATE trades SET gross = gross + 12.5 WHERE number = {TRADE}",
        {"money follows from the fills"},
        "profit",
    ),
    "a trade cost less": (
        f"UPDATE trades SET costs = costs - 1 WHERE number = {TRADE}",
        {"money follows from the fills"},
        "costs",
    ),
    "a trade was larger": (
        f"UPDATE trades SET quantity = quantity + 1 WHERE number = {TRADE}",
        {"round trips follow from the fills"},
        "says quantity",
    ),
    "a trade is another decision's": (
        f"UPDATE trades SET decision_id = 'x' WHERE number = {TRADE}",
        {"round trips follow from the fills"},
        "names decision x",
    ),
    "a decision is lost": (
        f"DELETE FROM decisions WHERE decision_id = {DECISION}",
        {"every order has its decision"},
        "which is not on file",
    ),
    "an entry has no decision": (
        f"UPDATE intents SET decision_id = '' WHERE client_order_id = {ENTRY}",
        {"every order has its decision", "round trips follow from the fills"},
        "has no decision",
    ),
    "an entry's intent is lost": (
        f"DELETE FROM intents WHERE client_order_id = {ENTRY}",
        {"every order has its decision", "intents come first", "round trips follow from the fills"},
        "whose intent is not on file",
    ),
    "an intent is late": (
        f"UPDATE intents SET number = number + 500000000 WHERE client_order_id = {ENTRY}",
        {"intents come first"},
        "whose intent was written down later",
    ),
    "a decision is later than its order": (
        f"UPDATE decisions SET number = number + 500000000 WHERE decision_id = {DECISION}",
        {"intents come first"},
        "was written down before its decision",
    ),
    "features are another's": (
        "INSERT INTO features VALUES (1, x'00')",
        {"features are whole"},
        "of no decision on file",
    ),
    "features are cut": (
        "INSERT INTO features SELECT number, x'789c' FROM decisions LIMIT 1",
        {"features are whole"},
        "are not whole",
    ),
    "features are too few": (
        "INSERT INTO features SELECT number, x'789c030000000001' FROM decisions LIMIT 1",  # none, compressed
        {"features are whole"},
        "are not whole",
    ),
    "an order is miscounted": (
        f"UPDATE intents SET booked = booked + 1 WHERE client_order_id = {ENTRY}",
        {PATH},
        "booked, its rows lead to",
    ),
    "an order filled beyond its quantity": (
        f"UPDATE intents SET quantity = 1, last_quantity = 1 WHERE client_order_id = {ENTRY}",
        {"no order filled beyond its quantity"},
        "of 1 filled",
    ),
    "the server told that more was filled": (
        f"UPDATE updates SET filled = filled + 1 WHERE client_order_id = {ENTRY} AND status = 'filled'",
        {BOOKED},
        "its fills make",
    ),
    "the server told that less was filled": (
        f"UPDATE updates SET filled = 1 WHERE client_order_id = {ENTRY}",
        {BOOKED},
        "the server told 1 filled, its fills make 3",
    ),
    "an order has another status": (
        f"UPDATE intents SET status = 'canceled' WHERE client_order_id = {ENTRY}",
        {PATH},
        "is on file as canceled, its rows lead to filled",
    ),
    "an order has a status that no server tells": (
        f"UPDATE updates SET status = 'eaten' WHERE client_order_id = {ENTRY} AND status = 'filled'",
        {PATH},
        "says 'eaten', which the state table does not know",
    ),
    "an order's last update is lost": (
        f"DELETE FROM updates WHERE client_order_id = {ENTRY} AND status = 'filled'",
        {PATH},
        "is on file as filled, its rows lead to",
    ),
    "a run is lost": (
        "DELETE FROM runs WHERE number = 1",
        {"every order has its decision", "every row is of a run"},
        "rows of run 1, which is not on file",
    ),
    "a run never ended": (
        "UPDATE runs SET ended_ns = NULL, how = NULL WHERE number = 1",
        {"every run but the last has ended"},
        "never ended",
    ),
    "the last state is another": (
        "UPDATE equity SET position = 5 WHERE number = (SELECT MAX(number) FROM equity)",
        {"the last state follows from the fills"},
        "ended with position +5",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_each_alteration_is_found_and_named(alter, damage):
    statement, checks, says = DAMAGE[damage]
    runs = """UPDATE runs SET config = '{"instrument": {"symbol": "ESZ26_FUT_CME", "trade_account": "Sim1"}}'"""
    path = alter(runs)
    assert wrong(path) == {}
    found = wrong(alter(statement))
    assert set(found) == checks, found
    assert any(says in one for violations in found.values() for one in violations), found


async def test_features_as_the_executor_keeps_them_are_whole(traded):
    with closing(Journal(traded, durable=False)) as journal:
        (decided,) = journal._db.execute(f"SELECT {DECISION}").fetchone()
        journal.record_features(decided, np.linspace(-1, 1, catalogue.COUNT, dtype=np.float32))
        assert journal._db.execute("SELECT COUNT(*) FROM features").fetchone() == (1,)
    assert findings(traded).checks["features are whole"] == []


async def test_what_a_run_of_another_journal_ordered_needs_no_intent_here(alter):
    """Two journals may trade one account: the other's fill is told by the server, its intent is on file there."""
    path = alter(f"UPDATE fills SET client_order_id = '1NG786R9-17E' WHERE number = {FILL}")
    assert findings(path).checks["intents come first"] == []
    path = alter(
        "INSERT INTO requests (client_order_id, number, ts_ns, kind, reason)"
        " VALUES ('1NG786R9-17E', 19999999999, 1, 'cancel', '')"
    )
    (found,) = findings(path).checks["intents come first"]  # but nobody here can have asked for anything of it
    assert found.startswith("request 19999999999 is about order 1NG786R9-17E, whose intent is not on file")


async def test_a_flipped_bit_is_found_where_row_and_index_differ(traded):
    with closing(sqlite3.connect(traded)) as db:
        (name,) = db.execute(f"SELECT execution_id FROM fills WHERE number = {FILL}").fetchone()
    content, found = traded.read_bytes(), []
    for place in (match.start() for match in re.finditer(re.escape(name.encode()), content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        traded.write_bytes(flipped)
        found += findings(traded).checks["the file is whole"]
    # In the row and in its index; what else the file has of it are remains that nobody reads.
    assert len([one for one in found if "missing from index sqlite_autoindex_fills" in one]) == 2, found


@pytest.mark.parametrize(
    ("statement", "check", "says"),
    [
        (f"UPDATE trades SET side = 0 WHERE number = {TRADE}", "round trips follow from the fills", "0 is not a valid"),
        ("UPDATE runs SET config = '{' WHERE number = 2", "the last state follows from the fills", "Expecting"),
    ],
)
async def test_what_no_daemon_writes_is_a_finding_not_the_end(alter, statement, check, says):
    found = findings(alter("PRAGMA ignore_check_constraints = ON", statement))
    assert says in found.checks[check][0]
    assert found.checks["every order has its decision"] == []


async def test_what_a_damaged_index_lets_in_twice_is_found(traded):
    """Without its index, as a damaged file may have it."""
    with closing(sqlite3.connect(traded, isolation_level=None)) as db:
        for table, last in (("fills", "position"), ("intents", "booked")):
            sql = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "number")
            loose = re.sub(r",\s+UNIQUE \(.*\)| UNIQUE", "", sql).replace(table, "again", 1)
            db.execute(loose)
            db.execute(f"INSERT INTO again (number, {columns}) SELECT number, {columns} FROM {table}")
            db.execute(f"INSERT INTO again (number, {columns}) SELECT 19999999999, {columns} FROM {table} LIMIT 1")
            db.execute(f"DROP TABLE {table}")
            db.execute(f"ALTER TABLE again RENAME TO {table}")
            assert last in columns
    found = wrong(traded)
    assert "is on file 2 times" in found["no execution was booked twice"][0]
    assert "is on file 2 times" in found["no client order id was used twice"][0]


async def test_a_page_that_cannot_be_read_is_a_finding_not_the_end(traded):
    """In whichever table it lies; what can be read is still checked."""
    with closing(sqlite3.connect(traded)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'fills'").fetchone()
    with traded.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    found = findings(traded)
    assert found.checks["the file is whole"]
    assert "the file is damaged" in found.checks["money follows from the fills"][0]
    assert found.checks["every order has its decision"] == []


async def test_money_is_checked_at_the_rates_of_the_run_that_booked_it(alter):
    """Whatever the product: the run says what a point was worth and what a side cost."""
    alter(*(f"UPDATE {table} SET symbol = 'CLF27' WHERE 1" for table in ("fills", "intents", "trades")))
    assert wrong(alter("UPDATE runs SET mode = mode WHERE 1")) == {}
    (found,) = wrong(alter("UPDATE runs SET cost_per_side = 7.0 WHERE number = 2")).values()
    with closing(sqlite3.connect(f"file:{alter('UPDATE runs SET mode = mode WHERE 1')}?mode=ro", uri=True)) as db:
        (trades,) = db.execute("SELECT COUNT(*) FROM trades WHERE run = 2").fetchone()
    assert len(found) == 2 * trades


# The fold against the ledger: two ways to the same round trips.

lives = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 4), st.integers(-40, 40), st.booleans()), min_size=1, max_size=40
)


@given(lives)
@settings(max_examples=25)
def test_the_fold_and_the_ledger_agree_on_any_fills(tmp_path_factory, life):
    """Also where a fill crosses zero, and where a position is none of ours."""
    path = tmp_path_factory.mktemp("j") / "a.db"
    journal = Journal(path, durable=False)
    run = journal.begin_run(run_header(START, rates=(ES.point_value, ES.cost_per_side)))
    ledger = Ledger(ES, 50_000.0)
    for n, (side, quantity, ticks, foreign) in enumerate(life):
        ts_ns = START + n * NS_PER_S
        decision, name = f"{run}-{n}", "" if foreign else f"{run}-{n}E"
        origin = EntryOrigin("", RegimeProbs(0, 0, 0)) if foreign else EntryOrigin(decision, PROBS)
        with journal.transaction():
            if not foreign:
                said = Prediction(PROBS, 0.5, 0.8, "p", 0.0, "ab")
                journal.record_decision(Decision(decision, n, ts_ns, Action.BUY, 1, "signal", said, 1.0, 2.0, {}))
                order = Order(name, ES.symbol, "Sim1", side, quantity, OrderType.LIMIT, OrderRole.ENTRY, decision, 1.0)
                journal.record_intent([order], ts_ns)
            fill = Fill(ts_ns, f"x{n}", name, "s", ES.symbol, "Sim1", side, quantity, 6000 + ticks / 4)
            journal.record_fill(fill)
            for closed in ledger.apply(fill, origin, "entry"):
                journal.record_trade(closed)
    journal.close()
    assert wrong(path) == {}
    with JournalView(path) as view:
        named = dict(names(paired(trips(view), view.trades())))
        assert [name for name, trip in named.items() if trip.open] == [ledger.trade_id][: bool(ledger.position)]
        assert [trade.trade_id for trade in view.trades()] == [name for name, trip in named.items() if not trip.open]
