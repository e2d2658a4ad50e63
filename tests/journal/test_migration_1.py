"""A journal of version 1, which numbered each table for itself and named no run, gets one sequence with runs."""

import json
import sqlite3
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st
from journal_versions import TABLES_1

from mia_daemon.execution import order_path
from mia_daemon.journal.migrations import migrate
from mia_daemon.journal.schema import APPLICATION_ID, NUMBERED, PER_RUN, VERSION
from mia_daemon.journal.verify import verify
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Side
from mia_daemon.risk.codes import RiskCode

SYMBOL, ACCOUNT = "MESZ26_FUT_CME", "Sim1"
S = 10**9
START = 1_790_000_000 * S
PROBS = (0.7, 0.2, 0.1)


class Writer:
    """Writes a journal as a daemon of version 1 did."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(
            f"PRAGMA journal_mode = WAL; BEGIN; {TABLES_1} PRAGMA application_id = {APPLICATION_ID};"
            " PRAGMA user_version = 1; COMMIT"
        )
        self.run_id, self.seq, self.position = "", 0, 0
        self.orders = []

    def insert(self, table, **values):
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        return self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values())).lastrowid

    def run(self, ts_ns, *, mode="paper", source="scid"):
        number = self.db.execute("SELECT COUNT(*) FROM runs").fetchone()[0] + 1
        self.run_id, self.seq = f"RUN{number}", 0
        config = json.dumps({"instrument": {"symbol": SYMBOL, "trade_account": ACCOUNT}, "feed": {"source": source}})
        self.insert(
            "runs", run_id=self.run_id, mode=mode, started_ns=ts_ns, version="0.1.0", config_sha256="c", config=config,
            bundle_sha256="b", catalogue_sha256="f",
        )  # fmt: skip

    def decision(self, ts_ns):
        self.seq += 1
        name = f"{self.run_id}-{self.seq}"
        self.insert(
            "decisions", decision_id=name, seq=self.seq, ts_ns=ts_ns, action="buy", target=1, reason="signal",
            signal=0.5, probability=0.8, p_range=0.7, p_trend=0.2, p_defensive=0.1, policy="p", out_of_range_share=0.0,
            observation_sha256="ab", bid=6000.0, ask=6000.25, context="{}",
        )  # fmt: skip
        return name

    def order(self, ts_ns, decision_id, side=1, role="entry"):
        name = f"{self.run_id}-{len(self.orders) + 1}E"
        self.orders.append((name, side))
        self.insert(
            "intents", client_order_id=name, ts_ns=ts_ns, decision_id=decision_id, symbol=SYMBOL, account=ACCOUNT,
            side=side, quantity=1, type=2, role=role, price=6000.0, limit_price=0.0, time_in_force=1, parent_id="",
            last_quantity=1, last_price=6000.0,
        )  # fmt: skip
        return name

    def update(self, ts_ns, order, status="accepted"):
        self.insert(
            "updates", ts_ns=ts_ns, client_order_id=order, server_order_id="7", symbol=SYMBOL, account=ACCOUNT,
            status=status, quantity=1, filled=int(status == "filled"), average_fill_price=0.0, price=0.0,
            limit_price=0.0, text="", unsolicited=1,
        )  # fmt: skip
        self.db.execute(
            "UPDATE intents SET status = ?1, reported = ?2 WHERE client_order_id = ?3",
            (status, int(status == "filled"), order),
        )

    def request(self, ts_ns, order):
        self.insert(
            "requests", client_order_id=order, ts_ns=ts_ns, kind="replace", price=5999.0, quantity=1, reason="trail"
        )

    def fill(self, ts_ns, order, side, price=6000.0):
        self.position += side
        number = self.db.execute("SELECT COUNT(*) FROM fills").fetchone()[0]
        self.db.execute("UPDATE intents SET booked = booked + 1, worked = 1 WHERE client_order_id = ?", (order,))
        return self.insert(
            "fills", execution_id=f"x{number}", ts_ns=ts_ns, client_order_id=order,
            server_order_id="7" if order else "", symbol=SYMBOL, account=ACCOUNT, side=side, quantity=1, price=price,
            position=self.position,
        )  # fmt: skip

    def trade(self, decision_id, fill, entry_ns, exit_ns, entry_price, exit_price):
        self.insert(
            "trades", trade_id=decision_id, fill=fill, symbol=SYMBOL, side=1, quantity=1, entry_ns=entry_ns,
            exit_ns=exit_ns, entry_price=entry_price, exit_price=exit_price, gross=(exit_price - entry_price) * 5.0,
            costs=0.7, p_range=0.7, p_trend=0.2, p_defensive=0.1, decision_id=decision_id, exit_reason="stop",
        )  # fmt: skip

    def equity(self, ts_ns):
        self.insert(
            "equity", ts_ns=ts_ns, equity=5e4, peak=5e4, position=self.position, unrealized=0.0, realized_today=0.0
        )

    def alert(self, ts_ns):
        self.insert("alerts", ts_ns=ts_ns, code="a", priority=2, text="a 'quoted' text", context='{"x": 1}')

    def command(self, ts_ns):
        self.insert("commands", ts_ns=ts_ns, command="halt", by="uid 0", result="halted")

    def latch(self, ts_ns, cleared_ns=None):
        self.insert("latches", code="halted", ts_ns=ts_ns, context="{}", cleared_ns=cleared_ns, cleared_by=None)

    def close(self):
        self.db.close()

    def end(self, ts_ns, how):
        self.db.execute("UPDATE runs SET ended_ns = ?, how = ? WHERE run_id = ?", (ts_ns, how, self.run_id))


def two_days(path):
    """A run with a round trip that was killed with an order working; one in which that order filled."""
    with closing(Writer(path)) as writer:
        writer.run(START)
        writer.equity(START + S)
        decided = writer.decision(START + 5 * S)
        entry = writer.order(START + 5 * S, decided)
        writer.update(START + 4 * S, entry)  # the server's clock lies behind
        writer.fill(START + 6 * S, entry, 1)
        writer.update(START + 6 * S, entry, "filled")
        stop = writer.order(START + 6 * S, decided, -1, "stop")
        writer.update(START + 6 * S, stop, "working")
        writer.request(START + 7 * S, stop)
        closing_fill = writer.fill(START + 9 * S, stop, -1, 5999.0)
        writer.update(START + 9 * S, stop, "filled")
        writer.trade(decided, closing_fill, START + 6 * S, START + 9 * S, 6000.0, 5999.0)
        writer.latch(START + 9 * S, cleared_ns=START + 10 * S)
        decided = writer.decision(START + 20 * S)
        entry = writer.order(START + 20 * S, decided)
        writer.end(START + 100 * S, "killed")
        writer.run(START + 100 * S)
        writer.fill(START + 101 * S, entry, 1, 6001.0)  # of the first run's order
        writer.update(START + 101 * S, entry, "filled")
        writer.fill(START + 102 * S, "", 1, 6002.0)  # a position that was taken over
        writer.alert(START + 102 * S)
        writer.command(START + 103 * S)
        writer.latch(START + 103 * S)
        writer.equity(START + 104 * S)
        writer.end(START + 105 * S, "stop")
    return path


def test_two_runs_of_version_1_are_whole_after_the_migration_and_add_up(tmp_path):
    path = two_days(tmp_path / "paper.db")
    with JournalView(path) as old:
        before = (list(old.trades()), old.positions(), old.open_orders(), old.recover(SYMBOL, ACCOUNT, 0), old.runs())
        found = verify(old, order_path.findings)
        assert old.version == 1
    said = []
    journal = Journal(path, durable=False, notice=said.append)
    assert [latch.code for latch in journal.latches()] == [RiskCode.HALTED]
    journal.close()
    backup = path.with_name("paper.db.v1-backup")
    assert said[0].startswith(f"journal {path} has version 1: it is copied and migrated to version {VERSION}, 0.1 MB, ")
    assert said[1:] == [f"journal {path} has version {VERSION} now; as it was it is kept in {backup}"]
    with JournalView(path) as view, JournalView(backup) as kept:
        assert (view.version, kept.version) == (VERSION, 1)
        trades, positions, orders, recovered, runs = before
        assert (list(view.trades()), view.positions(), view.open_orders()) == (trades, positions, orders)
        assert (view.recover(SYMBOL, ACCOUNT, 0), view.runs()) == (recovered, runs)
        assert verify(view, order_path.findings) == found
        assert positions == {(SYMBOL, ACCOUNT): 2}
        assert [trade.side for trade in trades] == [Side.BUY]
        assert [(run["point_value"], run["cost_per_side"]) for run in runs] == [(5.0, 0.35)] * 2
        runs_of = {
            table: [row["run"] for row in view.rows(f"SELECT run FROM {table} ORDER BY number")] for table in NUMBERED
        }
    assert {check: problems for check, problems in found.checks.items() if problems} == {}
    assert runs_of == {
        "decisions": [1, 1],
        "intents": [1, 1, 1],
        "requests": [1],
        "updates": [1, 1, 1, 1, 2],
        "fills": [1, 1, 2, 2],
        "positions": [],
        "trades": [1],
        "equity": [1, 2],
        "alerts": [2],
        "commands": [2],
        "latches": [1, 2],
        "firings": [],
    }


def test_simulated_runs_are_told_apart_by_the_time_of_their_events(tmp_path):
    """Their exchange time has nothing to do with the time of their start."""
    with closing(Writer(tmp_path / "paper.db")) as writer:
        for number in range(2):
            writer.run(START + number * S, source="simulator")
            writer.decision(number * 1000 * S)
            writer.equity(number * 1000 * S + S)
            writer.command(START + number * S + 1)
    Journal(tmp_path / "paper.db", durable=False).close()
    with JournalView(tmp_path / "paper.db") as view:
        for table in ("decisions", "equity", "commands"):
            assert [row["run"] for row in view.rows(f"SELECT run FROM {table} ORDER BY number")] == [1, 2], table


EVENTS = ("run", "decision", "order", "update", "request", "fill", "external", "equity", "alert", "command")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.integers(-9, 9)), max_size=60),
    st.sampled_from(["scid", "simulator"]),
    st.sampled_from(["paper", "replay"]),
)
def test_no_row_is_lost_or_changes_its_order_and_each_follows_what_it_is_about(events, source, mode):
    """Whatever the clocks of server and daemon said."""
    writer = Writer(":memory:")
    write(writer, events, source, mode)
    before = {table: rows_of_1(writer.db, table) for table in ("decisions", "intents", *OF_1)}
    migrate(writer.db, 1)
    db = writer.db
    after = {table: rows_of_1(db, table) for table in before}
    fills = dict(db.execute("SELECT number, execution_id FROM fills"))
    closed_by = [fills.get(number) for (number,) in db.execute("SELECT fill FROM trades ORDER BY number")]
    assert after == before
    assert closed_by == [f"x{number - 1}" for number in writer.closing]
    numbers = [number for table in NUMBERED for (number,) in db.execute(f"SELECT number FROM {table}")]
    assert len(set(numbers)) == len(numbers)
    assert {number // PER_RUN for number in numbers} <= {number for (number,) in db.execute("SELECT number FROM runs")}
    for table in ("requests", "updates", "fills"):
        sql = f"SELECT COUNT(*) FROM {table} t JOIN intents i USING (client_order_id) WHERE t.number < i.number"
        assert db.execute(sql).fetchone() == (0,), table
    wrong = "JOIN runs r ON r.number = t.run WHERE t.{0} NOT LIKE r.run_id || '-%'"
    for table, name in (("decisions", "decision_id"), ("intents", "client_order_id")):
        assert not db.execute(f"SELECT * FROM {table} t {wrong.format(name)}").fetchall()
    sql = "SELECT COUNT(*) FROM intents i JOIN decisions d USING (decision_id) WHERE i.number < d.number"
    assert db.execute(sql).fetchone() == (0,)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    writer.close()


OF_1 = ("requests", "updates", "fills", "trades", "equity", "alerts", "commands", "latches")


def write(writer, events, source, mode):
    now, decided, opened, writer.closing = START, "", "", []
    writer.run(now, source=source, mode=mode)
    for what, seconds, skew in events:
        now += seconds * S
        told_ns = now + skew * S
        if what == "run":
            writer.run(now, source=source, mode=mode)
            decided = ""
        elif what == "decision":
            decided = writer.decision(now)
        elif what == "order" and decided:
            writer.order(now, decided, -1 if writer.position > 0 else 1)
        elif what in {"update", "request"} and writer.orders:
            getattr(writer, what)(told_ns, writer.orders[skew % len(writer.orders)][0])
        elif what in {"fill", "external"} and writer.orders:
            name, side = writer.orders[skew % len(writer.orders)] if what == "fill" else ("", 1)
            number = writer.fill(told_ns, name, side)
            opened = opened or name
            if not writer.position and opened:
                writer.trade(f"{opened}.{number}", number, now, now, 6000.0, 6000.0)
                writer.closing.append(number)
                opened = ""
        elif what in {"equity", "alert", "command"}:
            getattr(writer, what)(now)


def rows_of_1(db, table):
    """The rows in their order, without their numbers and what version 1 did not have."""
    db.row_factory = sqlite3.Row
    added = {"number", "run", "fill", "event_ns", "source", "verdict", "verdict_context", "overtrade_risk_score"}
    added |= {"trade_id"} if table == "decisions" else set()
    order = "decision_id" if table == "decisions" else "number"
    rows = [
        {name: row[name] for name in row.keys() if name not in added}  # noqa: SIM118  an sqlite3.Row
        for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}")
    ]
    db.row_factory = None
    return rows
