"""When the journal's disk fails under a daemon that trades: no new positions, cancels and exits still go out, and it is
said why.

The faults are real ones: what SQLite writes to is taken from under it, so its own errors come through.
"""

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from mia_daemon.errors import JournalError
from mia_daemon.execution import order_path
from mia_daemon.journal.verify import verify
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Action, Fill, OrderRole, Priority, Side
from mia_daemon.risk.codes import RiskCode


@contextmanager
def broken(journal):
    """Every write is an I/O error, what is there can be read: the log's descriptors are read-only for a while."""
    log = journal.path.with_name(f"{journal.path.name}-wal").resolve()
    numbers = [int(link.name) for link in Path("/proc/self/fd").iterdir() if _leads_to(link, log)]
    assert numbers
    kept = [(number, os.dup(number)) for number in numbers]
    other = os.open(log, os.O_RDONLY)
    for number in numbers:
        os.dup2(other, number)
    os.close(other)
    try:
        yield
    finally:
        for number, original in kept:
            os.dup2(original, number)
            os.close(original)


def _leads_to(link, path):
    try:
        return link.readlink() == path
    except OSError:
        return False


@contextmanager
def full(journal):
    """The file has no page left, and those of what is written all the time have no room for another row."""
    db = journal._db
    journal.commit()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    assert db.execute(f"PRAGMA max_page_count = {pages}").fetchone() == (pages,)
    for filler in FILLERS:
        try:
            for number in range(100_000):
                db.execute(filler, (number,))
        except sqlite3.OperationalError as error:
            full_at = error.sqlite_errorname
        assert full_at == "SQLITE_FULL"
    yield
    db.execute("PRAGMA max_page_count = 1000000")


FILLERS = (
    """INSERT INTO equity (number, ts_ns, equity, peak, position, unrealized, realized_today)
    VALUES (19000000000 + ?, 0, 0, 0, 0, 0, 0)""",
    """INSERT INTO decisions VALUES
    ('~' || ?, 10000000000, 0, 0, 'hold', 0, '', NULL, NULL, NULL, NULL, NULL, '', NULL, '', NULL, NULL, '{}', NULL,
    NULL, 0, '')""",
)


@contextmanager
def written_by_another(journal):
    """Somebody's tool holds the file."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        yield
        intruder.execute("ROLLBACK")


FAULTS = {
    "full": (full, "the disk is full: make room"),
    "broken": (broken, "the disk fails: look at the machine's log"),
    "written by another": (written_by_another, "another program writes to it: end that program"),
}
faults = pytest.mark.parametrize("fault", FAULTS)


SLOW = {"paper_entry_latency_ms": 5, "paper_response_latency_ms": 0, "entry_timeout_s": 1000.0}


def told(rig):
    """The journal's alerts, each URGENT and with what to do; their text."""
    alerts = [alert for alert in rig.alerts if alert.code == "journal"]
    assert {alert.priority for alert in alerts} <= {Priority.URGENT}
    assert all(str(rig.journal.path) in alert.text for alert in alerts)
    return " ".join(alert.text for alert in alerts)


@pytest.fixture
async def resting(make_rig):
    """A rig whose entry rests below the market, acknowledged."""
    rig = make_rig(settings={"decision": {"max_slippage_ticks": 0}, "broker": SLOW})
    rig.play((1, 100.0))
    assert await rig.reconcile()
    assert rig.decide("buy", 1).allowed
    rig.play((1, 101.0), (10, 101.0), (10, 101.0))
    assert [entry.at_server for entry in rig.orders.with_role(OrderRole.ENTRY)] == [True]
    rig.executor.checkpoint()
    return rig


@pytest.fixture
async def holding(rig):
    """A rig with a protected position."""
    rig.decide("buy", 1)
    rig.play((10, 100.0), (10, 100.0))
    rig.executor.checkpoint()
    assert rig.position == 1
    return rig


def test_a_booking_that_the_disk_has_undone_already_is_told_by_the_disks_own_error(make_rig):
    """More than fits the cache is written before the commit; a write that fails there ends the transaction."""
    journal = make_rig().journal
    journal.commit()
    journal._db.execute("PRAGMA cache_size = 1")
    with broken(journal), pytest.raises(JournalError, match="the disk fails: look at the machine's log"):
        book_many(journal, 2000)
    assert not journal._db.in_transaction
    assert journal.last_event_ns() == 0
    book_many(journal, 2)
    with closing(sqlite3.connect(journal.path)) as reader:
        assert reader.execute("SELECT COUNT(*), MAX(position) FROM fills").fetchone() == (2, 2)


def book_many(journal, count):
    with journal.transaction():
        for n in range(count):
            journal.record_fill(Fill(1, f"x{n}", "r-1E", "s", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 6000.0))


@faults
async def test_a_resting_entry_is_cancelled_and_no_other_sent(resting, fault):
    """Found out by the second's point of the equity curve, with no decision in sight."""
    break_it, advice = FAULTS[fault]
    with break_it(resting.journal):
        sent = resting.broker.orders_sent
        resting.play((1000, 101.0))
        resting.executor.checkpoint()
        assert advice in told(resting)
        resting.play((10, 101.0), (10, 101.0), (10, 101.0))
        assert len(resting.orders) == 0
        assert resting.decide("buy", 1).code is RiskCode.HALTED
        resting.play((1000, 101.0))
        resting.executor.checkpoint()
        assert resting.broker.orders_sent == sent
        assert resting.position == 0


@faults
async def test_an_entry_that_cannot_be_written_down_does_not_leave(rig, fault):
    """The fault is found out by the entry itself."""
    break_it, advice = FAULTS[fault]
    rig.executor.checkpoint()
    with break_it(rig.journal):
        assert not rig.decide("buy", 1).allowed
        rig.play((10, 100.0), (10, 100.0))
        assert rig.broker.orders_sent == 0
        assert advice in told(rig)
        assert rig.orders.with_role(OrderRole.ENTRY) == []


@faults
async def test_a_position_stays_protected_and_can_be_closed(holding, fault):
    break_it, advice = FAULTS[fault]
    with break_it(holding.journal):
        holding.decide("hold", 1)
        holding.executor.checkpoint()
        assert advice in told(holding)
        holding.play((1000, 100.0), (1000, 100.0))
        assert holding.position == 1
        assert {entry.order.role for entry in holding.orders} == {OrderRole.STOP, OrderRole.TARGET}
        holding.operator.flatten("operator")
        holding.play((10, 100.0), (10, 100.0))
        assert holding.position == 0
        assert len(holding.orders) == 0
        (trade,) = holding.notices.trades
        assert trade.exit_reason == "operator"


@faults
async def test_a_stop_that_fills_meanwhile_is_booked_once(holding, fault):
    """The position is the server's, whether it can be written down or not."""
    break_it, _ = FAULTS[fault]
    with break_it(holding.journal):
        holding.executor.checkpoint()
        holding.play((10, 90.0), (10, 90.0))
        assert holding.position == 0
        assert len(holding.notices.fills) == 2
        assert [trade.exit_reason for trade in holding.notices.trades] == ["stop"]


@faults
async def test_a_kill_cancels_and_closes(resting, fault):
    """The operator's last word needs no disk."""
    break_it, _ = FAULTS[fault]
    with break_it(resting.journal):
        resting.operator.kill("uid 0", flatten=True)
        resting.play((10, 101.0), (10, 101.0), (10, 101.0))
        assert len(resting.orders) == 0
        assert resting.executor.settled


async def test_a_cancel_waits_for_no_file(resting):
    """A file that another program holds is waited for; what only takes risk away has left by then, once."""
    done = []
    write, cancel = resting.journal.transaction, resting.broker.cancel
    resting.journal.transaction = lambda: (done.append("written"), write())[1]
    resting.broker.cancel = lambda *order: (done.append("sent"), cancel(*order))
    with written_by_another(resting.journal):
        resting.operator.kill("uid 0", flatten=True)
    assert done == ["sent", "written"]


@faults
async def test_what_was_on_file_before_the_fault_still_holds_together(holding, fault):
    break_it, _ = FAULTS[fault]
    with break_it(holding.journal):
        for action in (Action.HOLD, Action.HOLD):
            holding.decide(action, 1)
            holding.executor.checkpoint()
            holding.play((1000, 100.0))
    with JournalView(holding.journal.path) as view:
        found = verify(view, order_path.findings)
        assert found.sound, found
        assert view.positions() == {("ESZ26_FUT_CME", "Sim1"): 1}


@pytest.mark.parametrize("fault", FAULTS)
async def test_once_there_is_room_again_an_operator_may_resume(rig, fault):
    """Not the daemon by itself: what it could not write down in between has to be looked at."""
    break_it, _ = FAULTS[fault]
    rig.executor.checkpoint()
    with break_it(rig.journal):
        assert not rig.decide("buy", 1).allowed
    rig.play((2000, 100.0))
    assert rig.decide("buy", 1).code is RiskCode.HALTED
    rig.operator.resume("uid 0")
    assert await rig.reconcile()
    assert rig.decide("buy", 1).allowed
    rig.play((10, 100.0), (10, 100.0))
    rig.executor.checkpoint()
    assert rig.position == 1
    with JournalView(rig.journal.path) as view:
        assert verify(view, order_path.findings).sound


async def test_what_cannot_be_lifted_on_file_stays_set(rig):
    """Or a restart would find a latch that trading had gone on without."""
    rig.operator.halt("uid 0")
    with broken(rig.journal):
        with pytest.raises(JournalError, match="disk"):
            rig.operator.resume("uid 0")
        assert rig.decide("buy", 1).code is RiskCode.HALTED
    assert rig.operator.resume("uid 0") == (RiskCode.HALTED,)
    assert not rig.journal.latches()


@pytest.mark.parametrize("fault", FAULTS)
async def test_trading_is_resumed_only_with_every_fill_on_file(holding, fault):
    """Or a kill right after the next entry would leave the position on file short of one."""
    break_it, _ = FAULTS[fault]
    with break_it(holding.journal):
        holding.operator.flatten("operator")
        holding.play((10, 100.0), (10, 100.0))
        assert holding.position == 0
    holding.operator.resume("uid 0")
    assert holding.journal.recover("ESZ26_FUT_CME", "Sim1", 0).account.positions == {}


async def test_a_look_at_the_entries_that_is_not_on_file_does_not_count(make_rig):
    rig = make_rig(settings={"risk": {"max_executions": 1}})
    rig.play((1, 100.0))
    assert await rig.reconcile()
    assert rig.decide("buy", 1).allowed
    rig.play((10, 100.0), (10, 100.0))
    assert rig.position == 1
    with broken(rig.journal), pytest.raises(JournalError, match="disk"):
        rig.operator.rearm("uid 0")
    assert rig.risk.executions == 1
    assert rig.operator.rearm("uid 0") == 1
    assert rig.risk.executions == 0


# At the start.


def damage(path, table):
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("table", ["runs", "intents", "fills", "trades", "equity", "latches"])
async def test_a_page_that_a_start_needs_and_cannot_read_ends_the_start(holding, make_rig, table):
    """Before anything is sent; the file is left for whoever looks into it."""
    holding.close()
    damage(holding.journal.path, table)
    before = holding.journal.path.read_bytes()
    with pytest.raises(JournalError, match="the file is damaged: move it away, keep it, and start anew"):
        make_rig()
    assert holding.journal.path.read_bytes()[8192:] == before[8192:]


async def test_a_page_found_damaged_while_trading_stops_it(holding, make_rig):
    """One that a start doesn't read: where operators' commands go."""
    holding.close()
    damage(holding.journal.path, "commands")
    rig = make_rig()
    rig.ts_ns = holding.ts_ns
    rig.play((1, 100.0))
    assert await rig.reconcile()
    with pytest.raises(JournalError, match="the file is damaged"):
        rig.journal.record_command(rig.ts_ns, "halt", "uid 0", "halted")
    rig.play((1000, 100.0))
    rig.executor.checkpoint()
    assert "the file is damaged" in told(rig)
    assert rig.decide("buy", 2).code is RiskCode.HALTED
    rig.operator.flatten("operator")
    rig.play((10, 100.0), (10, 100.0), (10, 100.0))
    assert rig.position == 0
    with suppress(JournalError):  # it may still write what does not meet the page
        rig.close()
    rig.journal._db.close()


def test_a_file_held_by_another_program_is_said_so_at_the_start(tmp_path):
    path = tmp_path / "paper.db"
    Journal(path, durable=False).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("PRAGMA locking_mode = EXCLUSIVE")
        intruder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="another program writes to it: end that program"):
            Journal(path, durable=False)
        intruder.execute("ROLLBACK")
    Journal(path, durable=False).close()  # the lock of the refused start was let go
