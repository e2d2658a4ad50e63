import itertools
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import JournalError
from mia_daemon.instruments import instrument
from mia_daemon.records import (
    Action,
    Alert,
    Decision,
    Fill,
    Order,
    OrderRole,
    OrderStatus,
    OrderType,
    OrderUpdate,
    Prediction,
    Priority,
    RegimeProbs,
    Side,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.trading.journal import Journal, RequestKind
from mia_daemon.trading.ledger import FOREIGN, Ledger, Origin

ES = instrument("ESZ26_FUT_CME")
PROBS = RegimeProbs(0.7, 0.2, 0.1)
START = 1_790_000_000_000_000_000


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal" / "paper.db", durable=False)
    yield opened
    opened.close()


def reopened(journal):
    journal.close()
    return Journal(journal.path, durable=False)


def begin(journal, started_ns=START):
    return journal.begin_run(
        mode="paper", started_ns=started_ns, version="0.1.0", config={"a": 1}, config_sha256="c", bundle_sha256="b",
        catalogue_sha256="f",
    )  # fmt: skip


def order(name, side=Side.BUY, quantity=1, *, role=OrderRole.ENTRY, decision="d1", price=6000.0, parent=""):
    return Order(
        name, ES.symbol, "Sim1", side, quantity, OrderType.LIMIT, role, decision, price, parent_id=parent
    )  # fmt: skip


def decision(name="d1", ts_ns=1):
    said = Prediction(PROBS, 0.5, 0.8, "baseline", 0.0, "ab")
    return Decision(name, 1, ts_ns, Action.BUY, 1, "signal", said, 6000.0, math.nan, {"held_s": 1.5})


def update(name, status, *, filled=0, quantity=1, price=0.0, server="s1", unsolicited=True, ts_ns=1):
    return OrderUpdate(
        ts_ns, name, server, ES.symbol, "Sim1", status, quantity=quantity, filled=filled, price=price,
        unsolicited=unsolicited,
    )  # fmt: skip


def fill(execution, name="o1", side=Side.BUY, quantity=1, price=6000.0, *, ts_ns=1, symbol=ES.symbol):
    return Fill(ts_ns, execution, name, "s1", symbol, "Sim1", side, quantity, price)


def trade(name="d1", profit=10.0, exit_ns=5):
    return Trade(name, ES.symbol, Side.BUY, 1, 1, exit_ns, 6000.0, 6000.2, profit + 2, 2.0, PROBS, "d1", "target")


def recover(journal, day_start_ns=0):
    return journal.recover(ES.symbol, "Sim1", day_start_ns)


def rows(journal, sql):
    """As another process would read it."""
    with sqlite3.connect(f"file:{journal.path}?mode=ro", uri=True) as reader:
        found = reader.execute(sql).fetchall()
    reader.close()
    return found


# ---------------------------------------------------------------------------------------------------------------- runs


def test_runs_begun_in_the_same_second_have_different_short_names(journal):
    names = []
    for _ in range(5):
        names.append(begin(journal))
        journal = reopened(journal)  # as after a kill: no run was ended
    assert len(set(names)) == 5
    assert all(len(name) <= 12 and name.isalnum() for name in names)
    sealed = rows(journal, "SELECT how, ended_ns FROM runs ORDER BY number")
    assert sealed == [("killed", START)] * 4 + [(None, None)]
    journal.close()


def test_a_run_remembers_what_it_ran_with_and_how_it_ended(journal):
    name = begin(journal)
    journal.end_run(name, START + 5, "stop")
    assert rows(journal, "SELECT run_id, mode, version, config, config_sha256, bundle_sha256, how FROM runs") == [
        (name, "paper", "0.1.0", '{"a":1}', "c", "b", "stop")
    ]
    begin(journal)
    assert rows(journal, "SELECT how FROM runs ORDER BY number") == [("stop",), (None,)]


# ------------------------------------------------------------------------------------- what is on file, and from when


def test_an_intent_is_on_file_on_return_and_takes_the_decision_along(journal):
    journal.record_decision(decision())
    assert rows(journal, "SELECT * FROM decisions") == []
    journal.record_intent([order("o1"), order("o2", role=OrderRole.STOP, parent="o1")], 1)
    assert rows(journal, "SELECT client_order_id, role, parent_id FROM intents ORDER BY number") == [
        ("o1", "entry", ""), ("o2", "stop", "o1")
    ]  # fmt: skip
    assert rows(journal, "SELECT decision_id, bid, ask, context FROM decisions") == [
        ("d1", 6000.0, None, '{"held_s":1.5}')
    ]


def test_an_identifier_is_never_used_twice_and_a_refused_group_leaves_nothing(journal):
    journal.record_intent([order("o1")], 1)
    journal.record_decision(decision())
    with pytest.raises(JournalError, match=r"UNIQUE constraint failed: intents\.client_order_id"):
        journal.record_intent([order("o2"), order("o1")], 2)
    journal.commit()
    assert rows(journal, "SELECT client_order_id FROM intents") == [("o1",)]
    assert len(rows(journal, "SELECT * FROM decisions")) == 1  # what was buffered before is not lost


def test_decisions_updates_equity_and_alerts_wait_for_a_commit(journal):
    journal.record_decision(decision())
    journal.record_update(update("o1", OrderStatus.WORKING))
    journal.record_equity(1, 100.0, 110.0, 0, 0.0, 0.0)
    journal.record_alert(Alert(1, "stale", Priority.WARNING, "text", {"age_s": 7}))
    tables = ("decisions", "updates", "equity", "alerts")
    assert [rows(journal, f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0, 0]
    journal.commit()
    assert [rows(journal, f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables] == [1, 1, 1, 1]


def test_requests_fills_trades_latches_and_commands_are_on_file_at_once(journal):
    journal.record_request("o1", RequestKind.REPLACE, 2, 6001.0, 1, reason="signal")
    journal.record_fill(fill("x1"))
    journal.record_trade(trade())
    journal.set_latch(Latch(RiskCode.HALTED, 3, {"by": "uid 0"}))
    journal.record_command(4, "halt", "uid 0 pid 7", "done")
    assert rows(journal, "SELECT kind, price, quantity, reason FROM requests") == [("replace", 6001.0, 1, "signal")]
    assert [rows(journal, f"SELECT COUNT(*) FROM {t}")[0][0] for t in ("fills", "trades", "latches", "commands")] == [
        1, 1, 1, 1
    ]  # fmt: skip


def test_a_fill_and_the_trade_it_closes_are_on_file_together_or_not_at_all(journal):
    with journal.booking():
        assert journal.record_fill(fill("x1"))
        assert rows(journal, "SELECT * FROM fills") == []
        journal.record_trade(trade())
    assert len(rows(journal, "SELECT * FROM fills JOIN trades")) == 1

    def fail():
        with journal.booking():
            journal.record_fill(fill("x2"))
            raise ZeroDivisionError

    journal.record_decision(decision())
    with pytest.raises(ZeroDivisionError):
        fail()
    journal.commit()
    assert rows(journal, "SELECT execution_id FROM fills") == [("x1",)]
    assert len(rows(journal, "SELECT * FROM decisions")) == 1
    assert journal.record_fill(fill("x2"))  # not thought known
    assert recover(journal).positions == {(ES.symbol, "Sim1"): 2}


def test_an_execution_and_a_trade_are_booked_once(journal):
    assert journal.record_fill(fill("x1"))
    assert not journal.record_fill(fill("x1"))
    assert journal.record_trade(trade())
    assert not journal.record_trade(trade())
    journal = reopened(journal)
    assert not journal.record_fill(fill("x1"))
    assert recover(journal).positions == {(ES.symbol, "Sim1"): 1}
    journal.close()


def test_trades_come_back_as_they_went_in(journal):
    trades = [trade(f"t{n}", n - 1.5, exit_ns=n) for n in range(4)]
    for one in trades:
        journal.record_trade(one)
    assert list(journal.trades()) == trades
    assert list(journal.trades(2)) == trades[2:]


def test_numbers_from_numpy_are_taken_as_they_come(journal):
    import numpy as np

    said = Prediction(RegimeProbs(*np.array([0.5, 0.25, 0.25], np.float32)), np.float32(0.5), np.float32(0.75), "p",
                      np.float32(0), "")  # fmt: skip
    journal.record_decision(Decision("d", 1, 1, Action.HOLD, 0, "x", said, np.float64(1), np.float64(2), {}))
    journal.commit()
    assert rows(journal, "SELECT signal, probability, p_range FROM decisions") == [(0.5, 0.75, 0.5)]


# ------------------------------------------------------------------------------------------------------------- latches


def test_latches_hold_until_cleared_and_history_stays(journal):
    latch = Latch(RiskCode.DAILY_LOSS, 3, {"result": -1000.0})
    assert journal.set_latch(latch)
    assert not journal.set_latch(Latch(RiskCode.DAILY_LOSS, 9))
    journal = reopened(journal)
    assert journal.latches() == recover(journal).latches == (latch,)
    assert journal.clear_latch(RiskCode.DAILY_LOSS, 5, "uid 1000")
    assert not journal.clear_latch(RiskCode.DAILY_LOSS, 6, "uid 1000")
    assert journal.latches() == ()
    assert journal.set_latch(latch)
    assert rows(journal, "SELECT code, ts_ns, cleared_ns, cleared_by FROM latches ORDER BY number") == [
        ("daily_loss", 3, 5, "uid 1000"), ("daily_loss", 3, None, None)
    ]  # fmt: skip
    journal.close()


# ------------------------------------------------------------------------------------------------------------ recovery


def test_a_new_journal_recovers_to_nothing(journal):
    recovered = recover(journal)
    assert (recovered.orders, recovered.positions, recovered.fills, recovered.latches) == ((), {}, (), ())
    assert (recovered.realized_before, recovered.peak_equity, recovered.last_fill_ns) == (0, 0.0, 0)
    assert journal.last_event_ns() == 0


S = OrderStatus


@pytest.mark.parametrize(
    ("statuses", "open_after"),
    [
        ([], True),
        ([S.ACCEPTED], True),
        ([S.WORKING], True),
        ([S.CANCELED], False),
        ([S.REJECTED], False),
        ([S.WORKING, S.REJECTED], True),  # it worked: a rejection contradicts that
        ([S.WORKING, S.CANCEL_REJECTED], True),
        ([S.CANCELED, S.REPLACE_REJECTED], False),
        ([S.CANCELED, S.WORKING], False),  # late news
        ([S.UNKNOWN_TO_SERVER], False),
        ([S.UNKNOWN_TO_SERVER, S.WORKING], True),
        ([S.FILLED], True),  # the fill itself is missing
        ([S.REPLACED], True),
    ],
)
def test_which_orders_a_restart_still_has_to_ask_about(journal, statuses, open_after):
    journal.record_intent([order("o1")], 1)
    for status in statuses:
        journal.record_update(update("o1", status))
    journal = reopened(journal)
    assert bool(recover(journal).orders) is open_after
    journal.close()


def test_an_order_is_done_when_all_its_reported_fills_are_booked(journal):
    journal.record_intent([order("o1", quantity=3)], 1)
    journal.record_update(update("o1", S.CANCELED, filled=2, quantity=3))
    (known,) = recover(journal).orders
    assert (known.reported, known.booked, known.status) == (2, 0, S.CANCELED)
    journal.record_fill(fill("x1", quantity=1))
    (known,) = recover(journal).orders
    assert (known.booked, known.executions) == (1, {"x1"})
    journal.record_fill(fill("x2", quantity=1))
    assert recover(journal).orders == ()


def test_a_canceled_order_that_a_complete_answer_lists_is_open_after_all(journal):
    journal.record_intent([order("o1")], 1)
    journal.record_update(update("o1", S.CANCELED))
    journal.record_update(update("o1", S.WORKING, unsolicited=False))
    assert [known.status for known in recover(journal).orders] == [S.WORKING]


def test_an_open_order_comes_back_as_last_confirmed(journal):
    wanted = order("o1", Side.SELL, 2, role=OrderRole.TARGET, price=6010.0, parent="e1")
    journal.record_intent([wanted], 7)
    journal.record_update(update("o1", S.WORKING, server="77", quantity=2, price=6010.0))
    journal.record_update(update("o1", S.REPLACED, server="77", quantity=2, price=6005.0))
    journal.record_update(update("o1", S.REPLACE_REJECTED, server="78", quantity=9, price=1.0))
    (known,) = recover(journal).orders
    assert known.order == wanted
    assert (known.intended_ns, known.status, known.server_order_id) == (7, S.REPLACED, "78")
    assert (known.quantity, known.price, known.reported, known.booked) == (2, 6005.0, 0, 0)


def test_fills_come_back_with_what_opened_them_and_why_they_closed(journal):
    journal.record_decision(decision())
    journal.record_intent(
        [order("e"), order("s", Side.SELL, role=OrderRole.STOP), order("t", Side.SELL, role=OrderRole.TARGET)], 1
    )
    journal.record_fill(fill("x1", "e"))
    journal.record_request("t", RequestKind.REPLACE, 2, 6000.0, 1, reason="reversal")
    journal.record_fill(fill("x2", "t", Side.SELL))
    journal.record_fill(fill("x3", "e"))
    journal.record_fill(fill("x4", "s", Side.SELL))
    journal.record_fill(fill("x5", "stranger", Side.SELL))
    journal = reopened(journal)
    booked = recover(journal).fills
    assert [b.exit_reason for b in booked] == ["entry", "reversal", "entry", "stop", "foreign"]
    assert booked[0].origin == Origin("d1", PROBS)
    assert booked[4].origin == FOREIGN
    assert booked[1].fill == fill("x2", "t", Side.SELL)
    journal.close()


def test_a_trade_keeps_its_decision_even_if_the_decisions_row_was_lost(journal):
    journal.record_intent([order("e")], 1)
    journal.record_fill(fill("x1", "e"))
    assert recover(journal).fills[0].origin == Origin("d1", RegimeProbs(0, 0, 0))


def test_losses_in_a_row_are_counted_from_the_last_trade_back(journal):
    for n, profit in enumerate([-1.0, 5.0, -1.0, -2.0]):
        journal.record_trade(trade(f"t{n}", profit))
    assert recover(journal).consecutive_losses == 2


def test_positions_of_other_symbols_are_told_but_not_mixed_in(journal):
    journal.record_fill(fill("x1"))
    journal.record_fill(fill("x2", symbol="OTHER", quantity=2))
    recovered = recover(journal)
    assert recovered.positions == {(ES.symbol, "Sim1"): 1, ("OTHER", "Sim1"): 2}
    assert [b.fill.execution_id for b in recovered.fills] == ["x1"]


def test_what_the_contract_before_a_roll_earned_stays_in_the_account(journal):
    account = Account(journal, 0)
    account.book(fill("x1", "o1", Side.BUY, price=6000, ts_ns=1))
    account.book(fill("x2", "o2", Side.SELL, price=6010, ts_ns=2))
    earned = account.ledger.equity - 50_000.0
    assert earned > 0
    rolled = journal.recover("ESH27_FUT_CME", "Sim1", 1000)
    assert (rolled.realized_before, rolled.fills) == (earned, ())
    assert set(rolled.trade_ids) == {trade.trade_id for trade in journal.trades()}
    assert recover(journal).realized_before == 0.0  # here the fills tell it


def test_the_newest_peak_counts_so_that_a_rebased_one_stays_rebased(journal):
    journal.record_equity(1, 100.0, 120.0, 0, 0.0, 0.0)
    journal.record_equity(2, 100.0, 100.0, 0, 0.0, 0.0)
    assert recover(journal).peak_equity == 100.0
    assert journal.last_event_ns() == 2


class Account:
    """The way of a fill in the executor: journal, ledger, journal."""

    def __init__(self, journal, day_start_ns, starting_cash=50_000.0):
        self.journal = journal
        recovered = journal.recover(ES.symbol, "Sim1", day_start_ns)
        self.ledger = Ledger(ES, starting_cash + recovered.realized_before)
        self.closed = self.ledger.restore(
            recovered.fills, day_start_ns=day_start_ns, peak_equity=recovered.peak_equity, trade_ids=recovered.trade_ids
        )
        self.missed = [one for one in self.closed if journal.record_trade(one)]

    def book(self, one, *, killed_before_the_trade=False):
        if not self.journal.record_fill(one):
            return
        number = int(one.client_order_id[1:])
        for closed in self.ledger.apply(one, Origin(f"d{number}", PROBS), "entry"):
            if not killed_before_the_trade:
                self.journal.record_trade(closed)

    def facts(self):
        ledger = self.ledger
        return ledger.position, ledger.average_price, ledger.realized_today, ledger.equity, ledger.trade_id


lives = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 3), st.integers(-40, 40), st.booleans(), st.integers(0, 1)),
    min_size=1, max_size=25,
)  # fmt: skip


@given(lives)
@settings(max_examples=20, deadline=None)
def test_however_often_it_is_killed_the_account_is_as_if_it_had_not_been(tmp_path_factory, life):
    """One account is never interrupted; the other is killed after any fill, also before it recorded the trade."""
    path = tmp_path_factory.mktemp("j") / "a.db"
    journal = Journal(path, durable=False)
    steady = Ledger(ES, 50_000.0)
    account = Account(journal, 0)
    trades, ts_ns, day_start_ns = [], 0, 0
    for n, (side, quantity, ticks, kill, new_day) in enumerate(life):
        ts_ns += 10
        if new_day:
            day_start_ns = ts_ns
            steady.start_day()
            account.ledger.start_day()
        journal.record_decision(decision(f"d{n}", ts_ns))
        journal.record_intent([order(f"o{n}", side, quantity, decision=f"d{n}")], ts_ns)
        one = fill(f"x{n}", f"o{n}", side, quantity, 6000 + ticks / 4, ts_ns=ts_ns)
        trades += steady.apply(one, Origin(f"d{n}", PROBS), "entry")
        account.book(one, killed_before_the_trade=kill)
        if kill:
            journal.close()
            journal = Journal(path, durable=False)
            account = Account(journal, day_start_ns)
        expected = (
            steady.position, steady.average_price, pytest.approx(steady.realized_today), steady.equity, steady.trade_id
        )  # fmt: skip
        assert account.facts() == expected
        assert list(journal.trades()) == trades
    journal.close()


def test_a_trade_that_was_missed_is_found_also_on_a_later_day(journal):
    account = Account(journal, 0)
    for n, (side, lost) in enumerate([(Side.BUY, False), (Side.SELL, False), (Side.BUY, False), (Side.SELL, True)]):
        account.book(fill(f"x{n}", f"o{n}", side, price=6000 + n, ts_ns=n), killed_before_the_trade=lost)
    assert len(list(journal.trades())) == 1
    later = Account(journal, 1000)
    assert len(later.missed) == 1
    assert len(list(journal.trades())) == 2
    assert (later.ledger.realized_today, later.ledger.equity) == (0.0, account.ledger.equity)
    again = Account(journal, 1000)
    assert (again.closed, again.ledger.equity) == ([], account.ledger.equity)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_a_second_writer_is_refused_by_name_while_readers_are_welcome(journal):
    begin(journal)
    with pytest.raises(JournalError, match=f"is in use by process {os.getpid()}"):
        Journal(journal.path, durable=False)
    assert len(rows(journal, "SELECT * FROM runs")) == 1
    journal.close()
    Journal(journal.path, durable=False).close()


def test_a_reader_in_the_middle_of_reading_holds_nobody_up(journal):
    begin(journal)
    reader = sqlite3.connect(f"file:{journal.path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM intents").fetchone() == (0,)
    for n in range(1200):
        journal.record_intent([order(f"o{n}")], n)
    journal.commit()  # copies back what the reader does not hold
    assert reader.execute("SELECT COUNT(*) FROM intents").fetchone() == (0,)
    reader.execute("COMMIT")
    assert reader.execute("SELECT COUNT(*) FROM intents").fetchone() == (1200,)
    reader.close()


def test_only_the_owners_commit_copies_the_log_back_and_then_the_log_stops_growing(journal):
    log = journal.path.with_name(journal.path.name + "-wal")
    number = itertools.count()
    sizes = []
    for _ in range(4):
        for _ in range(600):
            journal.record_intent([order(f"o{next(number)}")], 1)
        sizes.append(log.stat().st_size)
        journal.commit()
    assert sizes[0] > 1_000_000
    assert sizes[-1] < 2 * sizes[0]


def test_another_program_that_writes_is_an_error_in_words(journal):
    intruder = sqlite3.connect(journal.path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="another program writes to it"):
        journal.record_intent([order("o1")], 1)
    intruder.execute("ROLLBACK")
    intruder.close()
    journal.record_intent([order("o1")], 1)


def test_a_full_disk_is_an_error_in_words_and_loses_nothing_committed(journal):
    journal.record_intent([order("o0")], 1)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")

    def fill_up():
        for n in range(1, 5000):
            journal.record_intent([order(f"o{n}")], 1)

    with pytest.raises(JournalError, match="the disk is full: make room"):
        fill_up()
    journal._db.execute("PRAGMA max_page_count = 1000000")
    journal.record_intent([order("after")], 1)
    assert rows(journal, "SELECT COUNT(*) FROM intents WHERE client_order_id IN ('o0', 'after')") == [(2,)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"trade_id,timestamp\n" * 100, "it is no SQLite file"),
        (b"SQLite format 3\x00" + b"\xff" * 4096, "journal"),
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, content, expected):
    path = tmp_path / "paper.db"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=expected):
        Journal(path, durable=False)
    assert path.read_bytes() == content


def test_anothers_database_and_another_version_are_refused(tmp_path):
    path = tmp_path / "foreign.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE clusters (cluster_id INTEGER PRIMARY KEY)")
    foreign.commit()
    foreign.close()
    with pytest.raises(JournalError, match="no journal: move it away"):
        Journal(path, durable=False)
    newer = tmp_path / "newer.db"
    Journal(newer, durable=False).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(JournalError, match="has version 2, this daemon writes version 1"):
        Journal(newer, durable=False)


def test_a_directory_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="can't be opened"):
        Journal(tmp_path / "file" / "paper.db", durable=False)


def test_live_syncs_every_commit_and_paper_does_not(tmp_path):
    for durable, expected in ((True, 2), (False, 1)):
        journal = Journal(tmp_path / f"{durable}.db", durable=durable)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (expected,)
        journal.close()
        journal.close()  # again does no harm


# ------------------------------------------------------------------------------------------------------------- kill -9

CHILD = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from mia_daemon.records import *
    from mia_daemon.trading.journal import Journal
    from mia_daemon.trading.trade_log import TradeLog

    var = Path(sys.argv[1])
    journal = Journal(var / "paper.db", durable=False)
    log = TradeLog(var, simulated=True)
    log.reconcile(journal.trades())
    run = journal.begin_run(mode="paper", started_ns=1_790_000_000 * 10**9, version="", config={}, config_sha256="",
                            bundle_sha256="", catalogue_sha256="")
    probs = RegimeProbs(0.7, 0.2, 0.1)
    for n in range(1_000_000):
        name = f"{run}-{n}"
        said = Prediction(probs, 0.5, 0.8, "p", 0.0, "")
        decision = Decision(name, n, n, Action.BUY, 1, "signal", said, 1.0, 2.0, {})
        journal.record_decision(decision)
        order = Order(name + "E", "ES", "Sim1", Side.BUY, 1, OrderType.LIMIT, OrderRole.ENTRY, name, 100.0)
        journal.record_intent([order], n)
        os.write(1, f"intent {name}E\\n".encode())  # acknowledged: it could now be on the wire
        log.decision(decision, name)
        side = Side.BUY if n % 2 == 0 else Side.SELL
        journal.record_fill(Fill(n, "x" + name, name + "E", "", "ES", "Sim1", side, 1, 100.0))
        os.write(1, f"fill x{name}\\n".encode())
        if n % 2:
            trade = Trade(name, "ES", Side.BUY, 1, n, n, 1.0, 1.0, 5.0, 2.0, probs, name, "signal")
            journal.record_trade(trade)
            os.write(1, f"trade {name}\\n".encode())
            log.trade(trade)
    """
)


def test_killed_at_any_moment_it_keeps_all_it_acknowledged_and_every_file_is_whole(tmp_path):
    moments = random.Random(7)
    said = {"intent": set(), "fill": set(), "trade": set()}
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)
        lines = [child.stdout.readline() for _ in range(moments.randrange(1, 400))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        for line in lines:
            kind, name = line.decode().split()
            said[kind].add(name)
    journal = Journal(tmp_path / "paper.db", durable=False)
    assert {name for (name,) in rows(journal, "SELECT client_order_id FROM intents")} >= said["intent"]
    assert {name for (name,) in rows(journal, "SELECT execution_id FROM fills")} >= said["fill"]
    on_file = {one.trade_id for one in journal.trades()}
    assert on_file >= said["trade"]
    assert len(said["trade"]) > 10
    assert journal._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(rows(journal, "SELECT * FROM runs WHERE how = 'killed'")) == 5
    log = _reconciled(tmp_path, journal)
    for path, columns in log.items():
        lines = path.read_text().splitlines(keepends=True)
        assert all(line.endswith("\n") for line in lines), path
        import csv

        assert {len(row) for row in csv.reader(lines)} == {columns}, path
    trades = (tmp_path / "trades" / "trades_simulated.csv").read_text().splitlines()[1:]
    names = [line.split(",", 1)[0] for line in trades]
    assert len(names) == len(set(names))
    assert set(names) == on_file
    snapshots = list((tmp_path / "trade_snapshots").glob("trade_*.json"))
    assert {json.loads(path.read_text())["trade_id"] for path in snapshots} == on_file
    journal.close()


def _reconciled(var, journal):
    from mia_daemon.trading.trade_log import TradeLog

    log = TradeLog(var, simulated=True)
    log.reconcile(journal.trades())
    assert log.reconcile(journal.trades()) == 0
    log.close()
    logs = var / "logs" / "trading"
    return {
        var / "trades" / "trades_simulated.csv": 5,
        logs / "alpha_scores.csv": 3,
        logs / "decision_log.csv": 5,
        logs / "penalty_log.csv": 3,
    }
