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
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_headers import run_header

from mia_daemon.errors import JournalError
from mia_daemon.execution.ledger import Ledger
from mia_daemon.journal import file as journal_file
from mia_daemon.journal import statements
from mia_daemon.journal.file import PATIENCE_MS
from mia_daemon.journal.pending_latches import pending_path, read_pending
from mia_daemon.journal.reader import LastRun
from mia_daemon.journal.run_header import SALTS, InstrumentRates, RunBundle, RunConfig, RunHeader, make_run_id
from mia_daemon.journal.schema import NUMBERED, PER_RUN
from mia_daemon.journal.writer import Journal, RequestKind
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    EXTERNAL,
    Action,
    Alert,
    Decision,
    EntryOrigin,
    Fill,
    FillSource,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Prediction,
    Priority,
    RegimeProbs,
    Side,
    Trade,
)
from mia_daemon.risk.codes import ALLOWED, Latch, RiskCode, Verdict

ES = instrument("ESZ26_FUT_CME")
PROBS = RegimeProbs(0.7, 0.2, 0.1)
START = 1_790_000_000_000_000_000


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal" / "paper.db", durable=False)
    begin(opened)
    yield opened
    opened.close()


def reopened(journal):
    """The next run on it."""
    journal.close()
    again = Journal(journal.path, durable=False)
    begin(again)
    return again


def begin(journal, started_ns=START, mode="paper"):
    header = RunHeader(
        mode=mode,
        started_ns=started_ns,
        version="0.1.0",
        config=RunConfig({"a": 1}, "c"),
        bundle=RunBundle(name="n", sha256="b", catalogue_sha256="f", shown={"first": 0, "last": 349}),
        rates=InstrumentRates(50.0, 2.0),
        files={"decision_log": 7},
    )
    return journal.begin_run(header)


def order(name, side=Side.BUY, quantity=1, *, role=OrderRole.ENTRY, decision="d1", price=6000.0, parent=""):
    return Order(
        name, ES.symbol, "Sim1", side, quantity, OrderType.LIMIT, role, decision, price, parent_id=parent
    )  # fmt: skip


def decision(name="d1", ts_ns=1):
    said = Prediction(PROBS, 0.5, 0.8, "baseline", 0.0, "ab")
    return Decision(name, 1, ts_ns, Action.BUY, 1, "signal", said, 6000.0, math.nan, {"held_s": 1.5})


def update(name, status, *, filled=0, quantity=1, price=0.0, server="s1", unsolicited=True, ts_ns=1):
    return OrderReport(
        ts_ns, name, server, ES.symbol, "Sim1", status, quantity=quantity, filled=filled, price=price,
        unsolicited=unsolicited,
    )  # fmt: skip


def fill(execution, name="o1", side=Side.BUY, quantity=1, price=6000.0, *, ts_ns=1, symbol=ES.symbol):
    return Fill(ts_ns, execution, name, "s1", symbol, "Sim1", side, quantity, price)


def position(quantity, *, ts_ns=1, average_price=6000.0, unsolicited=True):
    return PositionReport(ts_ns, ES.symbol, "Sim1", quantity, average_price, unsolicited)


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
        journal.close()  # its run did not end
        journal = Journal(journal.path, durable=False)
    assert len(set(names)) == 5
    assert all(len(name) <= 12 and name.isalnum() for name in names)
    sealed = rows(journal, "SELECT how, ended_ns FROM runs ORDER BY number")
    assert sealed == [("killed", START)] * 5 + [("failed: closed before its end", None)]
    journal.close()


def test_runs_of_two_journals_that_begin_in_the_same_second_have_different_ids(tmp_path):
    """Live and paper, or two directories: their orders meet at one server, which has room for 31 characters."""
    names = []
    for salt in (0, 1, SALTS - 1, None):
        journal = Journal(tmp_path / f"{salt}.db", durable=False)
        names.append(journal.begin_run(replace(run_header(START), salt=salt)))
        journal.close()
    assert len(set(names)) == 4
    assert all(name.isalnum() for name in names)
    longest = make_run_id(2**35 * 10**9 - 1, 32**4 - 1, SALTS - 1)
    assert max(map(len, names)) == 13
    assert len(f"{longest}-1234567890123E") == 31


@pytest.mark.parametrize("copied_with_log", [False, True])
@pytest.mark.parametrize("mode", ["paper", "replay"])
def test_a_journal_copied_without_its_log_halts_until_a_person_has_looked(tmp_path, copied_with_log, mode):
    """What it lacks may be a latch. A replay starts from nothing."""
    path, copy = tmp_path / "paper.db", tmp_path / "copy.db"
    with closing(Journal(path, durable=False)) as journal:
        run_id = begin(journal)
        journal._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for suffix in ("", "-wal") if copied_with_log else ("",):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    with closing(Journal(copy, durable=False)) as journal:
        journal.begin_run(run_header(START, mode))
        latches = journal.latches()
    if copied_with_log or mode == "replay":
        assert latches == ()
    else:
        (latch,) = latches
        assert latch.code is RiskCode.HALTED
        assert f"{copy} was copied without copy.db-wal: run {run_id} never ended" in latch.text
        with closing(Journal(copy, durable=False)) as journal:
            assert journal.clear_latch(RiskCode.HALTED, START, "uid 0")
            journal.begin_run(run_header(START + 1))
            assert journal.latches() == ()


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 32**3), st.integers(0, SALTS - 1)), unique=True))
def test_a_run_id_says_second_number_and_salt_and_no_two_are_equal(runs):
    names = {make_run_id(START + second * 10**9, number, salt) for second, number, salt in runs}
    assert len(names) == len(runs)


def test_a_run_remembers_what_it_ran_with_and_how_it_ended(journal):
    name = begin(journal)
    journal.end_run(name, START + 5, "stop")
    columns = (
        "run_id, mode, version, config, config_sha256, bundle_name, bundle_sha256, point_value, cost_per_side, how"
    )
    assert rows(journal, f"SELECT {columns} FROM runs WHERE number = 2") == [
        (name, "paper", "0.1.0", '{"a":1}', "c", "n", "b", 50.0, 2.0, "stop")
    ]
    assert journal.last_run() == LastRun(2, ended=True, files={"decision_log": 7}, timestamp_format="iso")
    begin(journal)
    assert rows(journal, "SELECT how FROM runs ORDER BY number") == [("killed",), ("stop",), (None,)]
    assert journal.last_run() == LastRun(3, ended=False, files={"decision_log": 7}, timestamp_format="iso")


def test_rows_of_all_tables_are_numbered_in_the_order_in_which_they_were_told(journal):
    """Also over runs, and whatever the clocks say: each number names its run."""
    told = []
    for run in (1, 2):
        journal.record_decision(decision(f"d{run}", ts_ns=900))
        journal.record_intent([order(f"o{run}"), order(f"s{run}", role=OrderRole.STOP)], 800)
        journal.record_request(f"o{run}", RequestKind.CANCEL, 700)
        journal.record_update(update(f"o{run}", OrderStatus.WORKING, ts_ns=600))
        journal.record_fill(fill(f"x{run}", f"o{run}", ts_ns=500))
        journal.record_position(position(1, ts_ns=450))
        journal.record_trade(trade(f"t{run}"))
        journal.record_equity(400, 1.0, 1.0, 0, 0.0, 0.0)
        journal.record_alert(Alert(300, "a", Priority.INFO, "t"))
        journal.record_command(200, "halt", "me", "done", event_ns=190)
        journal.set_latch(Latch(list(RiskCode)[-run], 100))
        journal.record_firing(50, 1_000_000_000, "no answer", f"o{run}")
        journal.commit()
        told += ["decisions", "intents", "intents", "requests", "updates", "fills", "positions", "trades", "equity"]
        told += ["alerts", "commands", "latches", "firings"]
        if run == 1:
            journal = reopened(journal)
    assert set(told) == set(NUMBERED)
    every = " UNION ALL ".join(f"SELECT number, run, '{table}' FROM {table}" for table in NUMBERED)
    found = rows(journal, f"SELECT * FROM ({every}) ORDER BY number")
    assert [table for _, _, table in found] == told
    assert [number - run * PER_RUN for number, run, _ in found] == [*range(1, 14)] * 2
    assert [run for _, run, _ in found] == [1] * 13 + [2] * 13
    assert rows(journal, "SELECT ts_ns, event_ns FROM commands") == [(200, 190)] * 2
    journal.close()


def test_nothing_is_recorded_before_a_run_is_begun(tmp_path):
    early = Journal(tmp_path / "a.db", durable=False)
    with pytest.raises(JournalError, match="before a run was begun"):
        early.record_intent([order("o1")], 1)
    early.close()


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


def test_decisions_updates_positions_equity_alerts_and_firings_wait_for_a_commit(journal):
    journal.record_decision(decision())
    journal.record_update(update("o1", OrderStatus.WORKING))
    journal.record_position(position(-2, average_price=math.nan, unsolicited=False))
    journal.record_firing(7, 1_000_000_000, "no answer", "o1")
    journal.record_firing(8, 2_000_000_000, "a snapshot")
    journal.record_equity(1, 100.0, 110.0, 0, 0.0, 0.0)
    journal.record_alert(Alert(1, "stale", Priority.WARNING, "text", {"age_s": 7}))
    tables = ("decisions", "updates", "positions", "firings", "equity", "alerts")
    assert [rows(journal, f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0, 0, 0, 0]
    journal.commit()
    assert [rows(journal, f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables] == [1, 1, 1, 2, 1, 1]
    assert rows(journal, "SELECT ts_ns, symbol, account, quantity, average_price, unsolicited FROM positions") == [
        (1, ES.symbol, "Sim1", -2, None, 0)
    ]
    assert rows(journal, "SELECT ts_ns, waited_ns, what, client_order_id FROM firings ORDER BY number") == [
        (7, 1_000_000_000, "no answer", "o1"), (8, 2_000_000_000, "a snapshot", "")
    ]  # fmt: skip


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
    with journal.transaction():
        assert journal.record_fill(fill("x1"))
        assert rows(journal, "SELECT * FROM fills") == []
        journal.record_trade(trade())
    assert len(rows(journal, "SELECT * FROM fills JOIN trades")) == 1

    def fail():
        with journal.transaction():
            journal.record_fill(fill("x2"))
            raise ZeroDivisionError

    journal.record_decision(decision())
    with pytest.raises(ZeroDivisionError):
        fail()
    journal.commit()
    assert rows(journal, "SELECT execution_id FROM fills") == [("x1",)]
    assert len(rows(journal, "SELECT * FROM decisions")) == 1
    assert journal.record_fill(fill("x2"))  # not thought known
    assert recover(journal).account.positions == {(ES.symbol, "Sim1"): 2}


def test_a_transaction_within_a_transaction_is_committed_with_it_or_not_at_all(journal):
    def fail_afterwards():
        with journal.transaction():
            with journal.transaction():
                journal.record_fill(fill("x1"))
            assert rows(journal, "SELECT COUNT(*) FROM fills") == [(0,)]
            raise ValueError("afterwards")

    with pytest.raises(ValueError, match="afterwards"):
        fail_afterwards()
    assert not journal.has_fill("o1", "x1")
    with journal.transaction():
        with journal.transaction():
            journal.record_fill(fill("x1"))
        journal.record_fill(fill("x2"))
    assert rows(journal, "SELECT execution_id, position FROM fills") == [("x1", 1), ("x2", 2)]


def test_an_execution_and_a_trade_are_booked_once(journal):
    assert journal.record_fill(fill("x1"))
    assert not journal.record_fill(fill("x1"))
    assert journal.record_trade(trade())
    assert not journal.record_trade(trade())
    journal = reopened(journal)
    assert not journal.record_fill(fill("x1"))
    assert recover(journal).account.positions == {(ES.symbol, "Sim1"): 1}
    journal.close()


def test_two_orders_may_have_an_execution_of_the_same_id(journal):
    """A server may number the executions of each order from 1."""
    with closing(journal):
        assert journal.record_fill(fill("1", "o1"))
        assert journal.record_fill(fill("1", "o2"))
        assert not journal.record_fill(replace(fill("1", "o2"), price=6001.0, source=FillSource.HISTORY))
        assert (journal.has_fill("o2", "1"), journal.has_fill("o3", "1"), journal.has_fill("o2", "2")) == (
            True, False, False
        )  # fmt: skip
        assert recover(journal).account.positions == {(ES.symbol, "Sim1"): 2}


def test_the_executions_of_a_server_order_come_back_as_they_went_in_also_in_a_later_run(journal):
    first = replace(fill("1", "o1"), server_order_id="7", source=FillSource.HISTORY)
    other = replace(fill("1", "o2"), server_order_id="8", source=FillSource.AVERAGE)
    later = replace(fill("1", "o3", Side.SELL, 2, 6000.25), server_order_id="7", source=FillSource.EXTERNAL)
    journal.record_fill(first)
    journal.record_fill(other)
    journal = reopened(journal)
    with closing(journal):
        journal.record_fill(later)
        assert journal.executions_of("7") == (first, later)
        assert journal.executions_of("8") == (other,)
        assert journal.executions_of("9") == ()


def test_what_the_execution_layer_asks_of_each_fill_is_found_by_an_index(journal):
    """However many are on file."""
    for sql in (
        "SELECT 1 FROM fills WHERE client_order_id = '' AND execution_id = ''",
        "SELECT * FROM fills WHERE server_order_id = '' ORDER BY number",
    ):
        ((*_, how),) = rows(journal, f"EXPLAIN QUERY PLAN {sql}")
        assert how.startswith("SEARCH fills USING"), how


def test_trades_come_back_as_they_went_in(journal):
    trades = [trade(f"t{n}", n - 1.5, exit_ns=n) for n in range(4)]
    for one in trades:
        journal.record_trade(one)
    assert list(journal.trades()) == trades
    assert list(journal.trades(2)) == trades[2:]


def test_numbers_from_numpy_are_taken_as_they_come(journal):
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
    assert journal.latches() == recover(journal).risk.latches == (latch,)
    assert journal.clear_latch(RiskCode.DAILY_LOSS, 5, "uid 1000")
    assert not journal.clear_latch(RiskCode.DAILY_LOSS, 6, "uid 1000")
    assert journal.latches() == ()
    assert journal.set_latch(latch)
    assert rows(journal, "SELECT code, ts_ns, cleared_ns, cleared_by FROM latches ORDER BY number") == [
        ("daily_loss", 3, 5, "uid 1000"), ("daily_loss", 3, None, None)
    ]  # fmt: skip
    journal.close()


def pending(journal):
    return [latch.code for latch in read_pending(journal.path)]


LOSS = Latch(RiskCode.DAILY_LOSS, 3, {"result": -1000.0})


@contextmanager
def held(journal):
    """Somebody's tool writes to the file."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        yield
        intruder.execute("ROLLBACK")


def test_a_latch_that_cannot_be_journaled_survives_the_restart_all_the_same(journal):
    size = pending_path(journal.path).stat().st_size
    with held(journal):
        with pytest.raises(JournalError, match="another program writes to it"):
            journal.set_latch(LOSS)
        assert journal.keep_latch(Latch(RiskCode.HALTED, 4, {"by": "journal"}))
        assert pending(journal) == [RiskCode.DAILY_LOSS, RiskCode.HALTED]
    assert pending_path(journal.path).stat().st_size == size  # it had its room before the disk was full
    journal = reopened(journal)
    assert journal.latches() == (LOSS, Latch(RiskCode.HALTED, 4, {"by": "journal"}))
    assert pending(journal) == []
    journal.close()


def test_a_latch_kept_beside_the_journal_is_lifted_with_the_others(journal):
    journal.keep_latch(LOSS)
    journal.keep_latch(Latch(RiskCode.HALTED, 4))
    with journal.transaction():
        assert journal.clear_latch(RiskCode.DAILY_LOSS, 5, "uid 7")
        assert len(pending(journal)) == 2  # what is not committed yet is not forgotten
    assert pending(journal) == []
    assert [latch.code for latch in journal.latches()] == [RiskCode.HALTED]
    assert rows(journal, "SELECT code, cleared_by FROM latches ORDER BY number") == [
        ("daily_loss", "uid 7"), ("halted", None)
    ]  # fmt: skip


def test_a_lift_that_is_not_committed_lifts_nothing(journal):
    journal.keep_latch(LOSS)
    with held(journal), pytest.raises(JournalError):
        journal.clear_latch(RiskCode.DAILY_LOSS, 5, "uid 7")
    assert pending(journal) == [RiskCode.DAILY_LOSS]
    journal = reopened(journal)
    assert [latch.code for latch in journal.latches()] == [RiskCode.DAILY_LOSS]
    journal.close()


@pytest.mark.parametrize(
    "content", [b"[{", b"{}x", b'[{"code": "nonsense", "ts_ns": 1, "context": {}}]', b"[7]", b"\xff"]
)
def test_pending_latches_that_cannot_be_read_are_a_halt(journal, content):
    pending_path(journal.path).write_bytes(content)
    assert pending(journal) == [RiskCode.HALTED]
    journal = reopened(journal)
    (latch,) = journal.latches()
    assert (latch.code, "can't be read" in latch.context["by"]) == (RiskCode.HALTED, True)
    journal.close()


def test_where_even_that_file_cannot_be_written_it_is_said(journal, monkeypatch):
    def refuse(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    assert not journal.keep_latch(LOSS)


def test_a_journal_whose_latches_would_have_no_room_is_not_opened_and_let_go(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "paper.db"
    monkeypatch.setattr(os, "write", full)
    for _ in range(2):  # the second time as well: neither the file nor its lock was kept
        with pytest.raises(JournalError, match=r"paper\.latches\.pending\.json can't be written: make room"):
            Journal(path, durable=False)
    monkeypatch.undo()
    Journal(path, durable=False).close()


@pytest.mark.parametrize("name", ["paper.db", "paper.latches.pending.json", "paper.db.lock"])
def test_a_journal_behind_a_symbolic_link_is_refused_and_let_go(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "target")
    for _ in range(2):
        with pytest.raises(JournalError, match="it is a symbolic link; put a plain file in its place; check"):
            Journal(tmp_path / "paper.db", durable=False)
    assert not (tmp_path / "target").exists()
    (tmp_path / name).unlink()
    Journal(tmp_path / "paper.db", durable=False).close()


# ------------------------------------------------------------------------------------------ what explains a decision


VALUES = np.linspace(-1, 1, 350, dtype=np.float32)


def test_a_decision_is_on_file_with_risks_last_word_the_score_and_the_open_trade(journal):
    denied = Verdict(RiskCode.STALE_PRICE, {"age_s": 9.0})
    journal.record_decision(replace(decision("d1"), trade_id="d0", overtrade_risk_score=0.25), denied)
    journal.record_decision(decision("d2"), ALLOWED)
    journal.record_decision(decision("d3"))
    journal.commit()
    columns = "verdict, verdict_context, overtrade_risk_score, trade_id"
    assert rows(journal, f"SELECT {columns} FROM decisions ORDER BY number") == [
        ("stale_price", '{"age_s":9.0}', 0.25, "d0"), ("ok", "{}", 0.0, ""), (None, None, 0.0, "")
    ]  # fmt: skip


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.integers(), max_size=2),
        max_size=4,
    )
)
def test_a_context_is_written_as_json_writes_it(context):
    assert statements.json_text(context) == json.dumps(context, separators=(",", ":"))


def test_decisions_come_back_as_they_went_in(journal):
    run_id = begin(journal)
    made = [
        replace(
            decision(f"{run_id}-{n}"), seq=n, bid=6000.0 + n, ask=6001.0, trade_id="t" * n, overtrade_risk_score=n / 2
        )
        for n in range(12)
    ]
    for one in made:
        journal.record_decision(one)
    assert list(journal.decisions(2)) == made
    assert list(journal.decisions(2, newest_first=True)) == made[::-1]
    assert list(journal.decisions(1)) == []


def test_what_led_to_a_trade_is_found_again_also_in_a_later_run(journal):
    run_id = begin(journal)
    name = f"{run_id}-1"
    journal.record_decision(decision(name))
    journal.record_intent([order("o1", decision=name)], 1)
    journal.record_features(name, VALUES)
    assert rows(journal, "SELECT * FROM features") == []  # with the next commit: one for each decision
    journal.commit()
    assert len(rows(journal, "SELECT * FROM features")) == 1
    before = [fill("w1", "x", Side.SELL), fill("w2", "x")]
    other = fill("other", symbol="OTHER")
    made = [fill("x1", "o1"), fill("x2", "o1"), fill("x3", "o1", Side.SELL)]
    for one in (*before, made[0], other, made[1]):
        journal.record_fill(one)
    journal = reopened(journal)
    journal.record_fill(made[2])
    closing_fill = fill("x4", "o2", Side.SELL, quantity=3)  # turns the position
    with journal.transaction():
        journal.record_fill(closing_fill)
        journal.record_trade(replace(trade("t1"), decision_id=name))
    with journal.transaction():
        journal.record_fill(fill("x5", "o3", quantity=2))
        journal.record_trade(replace(trade("t2"), side=Side.SELL, decision_id=""))
    first, second = (journal.background(one) for one in journal.trades())
    assert first.fills == (*made, closing_fill)
    assert (first.bundle, first.bundle_sha256, first.catalogue_sha256) == ("n", "b", "f")
    assert first.shown == {"first": 0, "last": 349}
    assert first.values.dtype == np.float32
    assert first.values.tolist() == VALUES.tolist()
    assert [one.execution_id for one in second.fills] == ["x4", "x5"]
    assert (second.bundle, len(second.values)) == ("", 0)
    assert journal.background(trade("unknown")).fills == ()
    journal.close()


def test_features_of_a_decision_that_is_not_on_file_are_not_kept(journal):
    journal.record_features("nobody", VALUES)
    assert rows(journal, "SELECT * FROM features") == []


def test_a_replay_begins_flat_whatever_stands_in_its_journal(journal):
    journal.record_fill(fill("x1"))
    begin(journal, mode="replay")
    journal.record_fill(fill("x2", side=Side.SELL, quantity=2))
    begin(journal, mode="replay")
    journal.record_fill(fill("x3"))
    assert rows(journal, "SELECT position FROM fills ORDER BY number") == [(1,), (-2,), (1,)]


# ------------------------------------------------------------------------------------------------------------ recovery


def test_a_journal_no_run_was_begun_in_has_no_last_one(tmp_path):
    with closing(Journal(tmp_path / "paper.db", durable=False)) as journal:
        assert journal.last_run() is None


@pytest.mark.parametrize(("how", "ended"), [("stop", True), ("killed", True), ("failed: the disk is full", False)])
def test_a_run_that_failed_has_not_ended_in_order(journal, how, ended):
    name = begin(journal)
    journal.end_run(name, START, how)
    assert journal.last_run().ended is ended
    assert (journal.has_run(name), journal.has_run(name + "1")) == (True, False)


def test_messages_are_counted_from_a_moment_on(journal):
    """Orders, moves and cancels; not what the server says."""
    journal.record_intent([order("o1")], 10)
    journal.record_intent([order("o2"), order("o3")], 20)
    journal.record_request("o2", RequestKind.REPLACE, 20, price=6001.0)
    journal.record_request("o2", RequestKind.CANCEL, 30)
    journal.record_update(update("o2", OrderStatus.CANCELED, ts_ns=30))
    assert [journal.messages_since(ts_ns) for ts_ns in (0, 10, 11, 20, 21, 31)] == [5, 5, 4, 4, 1, 0]


def test_entries_since_a_person_looked_are_all_less_those_each_look_has_ended(journal):
    for n in range(5):
        journal.record_intent([order(f"e{n}"), order(f"s{n}", Side.SELL, role=OrderRole.STOP)], 1)
    assert journal.executions_since_rearm() == 5
    latch = Latch(RiskCode.REPEATED_EXECUTION, 3, {"executions": 3, "limit": 3})
    journal.set_latch(latch)
    assert journal.executions_since_rearm() == 5  # nobody has looked yet
    journal.clear_latch(latch.code, 4, "uid 7")
    assert journal.executions_since_rearm() == 2
    journal.set_latch(Latch(RiskCode.REPEATED_EXECUTION, 5, {"executions": 9, "limit": 3}))
    journal.clear_latch(latch.code, 6, "uid 7")
    assert journal.executions_since_rearm() == 0


def test_what_a_restart_is_told_of_today_and_of_its_orders(journal):
    journal.record_decision(decision())
    journal.record_intent([order("o1"), order("o2", decision="lost")], 1)
    journal.record_request("o1", RequestKind.REPLACE, 2, price=6001.0)
    journal.record_fill(fill("x1", "", ts_ns=7))
    for name, profit, exit_ns in (("a", -1.0, 5), ("b", 0.0, 10), ("c", -2.0, 11), ("d", -4.0, 12)):
        journal.record_trade(trade(name, profit, exit_ns))
    found = recover(journal, 10)
    assert (found.account.last_fill_ns, found.account.realized_today) == (7, pytest.approx(-6.0))
    assert found.risk.consecutive_losses == 2
    orders = {one.order.client_order_id: (one.origin, one.asked_price, one.status) for one in found.orders.open}
    assert orders == {
        "o1": (EntryOrigin("d1", PROBS), 6001.0, None),
        "o2": (EntryOrigin("lost", RegimeProbs(0.0, 0.0, 0.0)), 0.0, None),
    }


def test_what_was_no_number_then_is_none_now(journal):
    said = Prediction(RegimeProbs(math.nan, 0.2, 0.1), math.nan, math.nan, "baseline", math.nan, "ab")
    journal.record_decision(Decision("none", 1, 1, Action.HOLD, 0, "signal", said, math.nan, math.nan))
    (run_id,) = journal._db.execute("SELECT run_id FROM runs").fetchone()
    journal.record_decision(replace(decision(f"{run_id}-1"), prediction=said, bid=math.nan))
    (found,) = journal.decisions(1)  # the other one is of no run
    prediction = found.prediction
    unknown = (prediction.regime_probs.range, prediction.action, prediction.probability, found.bid, found.ask)
    assert all(math.isnan(value) for value in (*unknown, prediction.out_of_range_share))
    assert prediction.regime_probs[1:] == (0.2, 0.1)


def test_a_trade_without_features_has_none(journal):
    journal.record_decision(decision())
    values = journal.background(trade()).values
    assert (values.shape, values.dtype) == ((0,), np.float32)


def test_a_new_journal_recovers_to_nothing(journal):
    recovered = recover(journal)
    account = recovered.account
    assert (recovered.orders.open, recovered.orders.ended, recovered.risk.latches) == ((), (), ())
    assert (account.positions, account.fills) == ({}, ())
    assert (account.realized_before, account.peak_equity, account.last_fill_ns) == (0, 0.0, 0)
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
    assert bool(recover(journal).orders.open) is open_after
    journal.close()


def test_an_order_is_done_when_all_its_reported_fills_are_booked(journal):
    journal.record_intent([order("o1", quantity=3)], 1)
    journal.record_update(update("o1", S.CANCELED, filled=2, quantity=3))
    (known,) = recover(journal).orders.open
    assert (known.reported, known.booked, known.status) == (2, 0, S.CANCELED)
    journal.record_fill(fill("x1", quantity=1))
    (known,) = recover(journal).orders.open
    assert (known.booked, known.fills) == (1, (fill("x1", quantity=1),))
    journal.record_fill(fill("x2", quantity=1))
    assert recover(journal).orders.open == ()


def test_a_canceled_order_that_a_complete_answer_lists_is_open_after_all(journal):
    journal.record_intent([order("o1")], 1)
    journal.record_update(update("o1", S.CANCELED))
    journal.record_update(update("o1", S.WORKING, unsolicited=False))
    assert [known.status for known in recover(journal).orders.open] == [S.WORKING]


def test_an_open_order_comes_back_as_last_confirmed(journal):
    wanted = order("o1", Side.SELL, 2, role=OrderRole.TARGET, price=6010.0, parent="e1")
    journal.record_intent([wanted], 7)
    journal.record_update(update("o1", S.WORKING, server="77", quantity=2, price=6010.0))
    journal.record_update(update("o1", S.REPLACED, server="77", quantity=2, price=6005.0))
    journal.record_update(update("o1", S.REPLACE_REJECTED, server="78", quantity=9, price=1.0))
    (known,) = recover(journal).orders.open
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
    booked = recover(journal).account.fills
    assert [b.exit_reason for b in booked] == ["entry", "reversal", "entry", "stop", "foreign"]
    assert booked[0].origin == EntryOrigin("d1", PROBS)
    assert booked[4].origin == EXTERNAL
    assert booked[1].fill == fill("x2", "t", Side.SELL)
    journal.close()


def test_a_trade_keeps_its_decision_even_if_the_decisions_row_was_lost(journal):
    journal.record_intent([order("e")], 1)
    journal.record_fill(fill("x1", "e"))
    assert recover(journal).account.fills[0].origin == EntryOrigin("d1", RegimeProbs(0, 0, 0))


def test_rejects_in_a_row_are_counted_from_the_last_entry_that_the_server_spoke_of_back(journal):
    def answered(name, status, role=OrderRole.ENTRY):
        journal.record_intent([replace(order(name), role=role)], 1)
        journal.record_update(update(name, status))
        return recover(journal).risk.consecutive_rejects

    assert recover(journal).risk.consecutive_rejects == 0
    assert answered("e1", S.REJECTED) == 1
    assert answered("e2", S.WORKING) == 0
    assert answered("e3", S.REJECTED) == 1
    assert answered("s3", S.WORKING, OrderRole.STOP) == 1  # of another order it says nothing
    assert answered("e4", S.REJECTED) == 2
    journal.record_update(update("e3", S.CANCEL_REJECTED))
    journal = reopened(journal)
    assert recover(journal).risk.consecutive_rejects == 2
    journal.close()


def test_features_that_are_none_are_said_to_be_damaged(journal):
    journal.record_decision(decision("d1"))
    journal.record_features("d1", np.zeros(350, np.float32))
    journal.record_trade(replace(trade("t1", 1.0), decision_id="d1"))
    journal._db.execute("UPDATE features SET vector = x'00ff'")
    with pytest.raises(JournalError, match="features of d1"):
        journal.background(replace(trade("t1", 1.0), decision_id="d1"))


def test_losses_in_a_row_are_counted_from_the_last_trade_back(journal):
    for n, profit in enumerate([-1.0, 5.0, -1.0, -2.0]):
        journal.record_trade(trade(f"t{n}", profit))
    assert recover(journal).risk.consecutive_losses == 2


def test_losses_and_rejects_whose_latch_was_lifted_do_not_count_after_a_restart(journal):
    for name in ("e1", "e2"):
        journal.record_intent([order(name)], 1)
        journal.record_update(update(name, S.REJECTED))
        journal.record_trade(trade(name, -1.0))
    for code in (RiskCode.CONSECUTIVE_LOSSES, RiskCode.CONSECUTIVE_REJECTS):
        journal.set_latch(Latch(code, 2))
    journal = reopened(journal)
    assert (recover(journal).risk.consecutive_losses, recover(journal).risk.consecutive_rejects) == (2, 2)
    journal.clear_latch(RiskCode.CONSECUTIVE_LOSSES, 3, "uid 0")
    assert (recover(journal).risk.consecutive_losses, recover(journal).risk.consecutive_rejects) == (0, 2)
    journal.clear_latch(RiskCode.CONSECUTIVE_REJECTS, 3, "uid 0")
    journal = reopened(journal)
    journal.record_intent([order("e3")], 4)
    journal.record_update(update("e3", S.REJECTED))
    journal.record_trade(trade("e3", -1.0))
    assert (recover(journal).risk.consecutive_losses, recover(journal).risk.consecutive_rejects) == (1, 1)
    journal.close()


def test_positions_of_other_symbols_are_told_but_not_mixed_in(journal):
    journal.record_fill(fill("x1"))
    journal.record_fill(fill("x2", symbol="OTHER", quantity=2))
    recovered = recover(journal).account
    assert recovered.positions == {(ES.symbol, "Sim1"): 1, ("OTHER", "Sim1"): 2}
    assert [b.fill.execution_id for b in recovered.fills] == ["x1"]


def test_what_the_contract_before_a_roll_earned_stays_in_the_account(journal):
    account = Account(journal, 0)
    account.book(fill("x1", "o1", Side.BUY, price=6000, ts_ns=1))
    account.book(fill("x2", "o2", Side.SELL, price=6010, ts_ns=2))
    earned = account.ledger.equity - 50_000.0
    assert earned > 0
    rolled = journal.recover("ESH27_FUT_CME", "Sim1", 1000).account
    assert (rolled.realized_before, rolled.fills) == (earned, ())
    assert set(rolled.trade_ids) == {trade.trade_id for trade in journal.trades()}
    assert recover(journal).account.realized_before == 0.0  # here the fills tell it


def test_the_newest_peak_counts_so_that_a_rebased_one_stays_rebased(journal):
    journal.record_equity(1, 100.0, 120.0, 0, 0.0, 0.0)
    journal.record_equity(2, 100.0, 100.0, 0, 0.0, 0.0)
    assert recover(journal).account.peak_equity == 100.0
    assert journal.last_event_ns() == 2


class Account:
    """The way of a fill in the executor: journal, ledger, journal."""

    def __init__(self, journal, day_start_ns, starting_cash=50_000.0):
        self.journal = journal
        recovered = journal.recover(ES.symbol, "Sim1", day_start_ns).account
        self.ledger = Ledger(ES, starting_cash + recovered.realized_before)
        self.closed = self.ledger.restore(
            recovered.fills, day_start_ns=day_start_ns, peak_equity=recovered.peak_equity, trade_ids=recovered.trade_ids
        )
        self.missed = [one for one in self.closed if journal.record_trade(one)]

    def book(self, one, *, killed_before_the_trade=False):
        if not self.journal.record_fill(one):
            return
        number = int(one.client_order_id[1:])
        for closed in self.ledger.apply(one, EntryOrigin(f"d{number}", PROBS), "entry"):
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
@settings(max_examples=20)
def test_however_often_it_is_killed_the_account_is_as_if_it_had_not_been(tmp_path_factory, life):
    """One account is never interrupted; the other is killed after any fill, also before it recorded the trade."""
    path = tmp_path_factory.mktemp("j") / "a.db"
    journal = Journal(path, durable=False)
    begin(journal)
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
        trades += steady.apply(one, EntryOrigin(f"d{n}", PROBS), "entry")
        account.book(one, killed_before_the_trade=kill)
        if kill:
            journal = reopened(journal)
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
    assert len(rows(journal, "SELECT * FROM runs")) == 2
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
        for _ in range(2100):
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


def patience_ms(journal):
    return journal._db.execute("PRAGMA busy_timeout").fetchone()[0]


def test_a_file_that_is_held_is_waited_for_once_and_not_for_long(journal):
    assert 0 < patience_ms(journal) == PATIENCE_MS <= 50
    with held(journal):
        for _ in range(2):
            with pytest.raises(JournalError):
                journal.record_request("o1", RequestKind.CANCEL, 1)
            assert patience_ms(journal) == 0
    journal.record_request("o1", RequestKind.CANCEL, 1)
    assert patience_ms(journal) == PATIENCE_MS


def test_a_commit_that_fails_at_the_end_keeps_neither_the_file_nor_the_lock(journal, monkeypatch):
    def fail():
        raise JournalError("the disk is full")

    journal.record_decision(decision())
    monkeypatch.setattr(journal, "commit", fail)
    with pytest.raises(JournalError, match="the disk is full"):
        journal.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        journal._db.execute("SELECT 1")
    journal.close()  # again does no harm
    Journal(journal.path, durable=False).close()


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


def test_a_new_file_that_another_program_holds_is_not_waited_for_for_long_and_let_go(tmp_path, monkeypatch):
    """It is empty, so there was nothing to look at that would have shown it."""
    monkeypatch.setattr(journal_file, "_OPENING_S", 0.01)
    path = tmp_path / "paper.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("BEGIN EXCLUSIVE")
        assert path.stat().st_size == 0
        with pytest.raises(JournalError, match="another program writes to it: end that program"):
            Journal(path, durable=False)
        intruder.execute("ROLLBACK")
    Journal(path, durable=False).close()


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


def test_anothers_database_is_refused(tmp_path):
    path = tmp_path / "foreign.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE clusters (cluster_id INTEGER PRIMARY KEY)")
    foreign.commit()
    foreign.close()
    with pytest.raises(JournalError, match="no journal: move it away"):
        Journal(path, durable=False)


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (4, "run the later mia-daemon that wrote it, or restore a backup of version 3"),
        (0, "which none ever had: it is damaged; restore a backup"),
    ],
)
def test_a_version_not_known_is_refused_with_what_to_do_and_not_touched(tmp_path, version, advice):
    """Also where a killed daemon left its last commits in the log beside it."""
    path, kept = tmp_path / "paper.db", tmp_path / "kept.db"
    journal = Journal(path, durable=False)
    begin(journal)
    journal._db.execute(f"PRAGMA user_version = {version}")
    for suffix in ("", "-wal"):
        kept.with_name(kept.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    journal.close()
    before = [kept.with_name(kept.name + suffix).read_bytes() for suffix in ("", "-wal")]
    assert len(before[1]) > 4096
    with pytest.raises(JournalError, match=f"has version {version}, .*{advice}"):
        Journal(kept, durable=False)
    assert [kept.with_name(kept.name + suffix).read_bytes() for suffix in ("", "-wal")] == before


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
    from mia_daemon.journal.run_header import SALTS, InstrumentRates, RunBundle, RunConfig, RunHeader, make_run_id
    from mia_daemon.journal.writer import Journal
    from mia_daemon.journal.trade_files import TradeLog

    var = Path(sys.argv[1])
    journal = Journal(var / "paper.db", durable=False)
    log = TradeLog(var, simulated=True)
    log.reconcile(journal)
    header = RunHeader(mode="paper", started_ns=1_790_000_000 * 10**9, version="", config=RunConfig({}, ""),
                       bundle=RunBundle(name="", sha256="", catalogue_sha256=""), rates=InstrumentRates(1.0, 0.0),
                       files=log.sizes())
    run = journal.begin_run(header)
    probs = RegimeProbs(0.7, 0.2, 0.1)
    for n in range(1_000_000):
        name = f"{run}-{n}"
        said = Prediction(probs, 0.5, 0.8, "p", 0.0, "")
        decision = Decision(name, n, n * 1000, Action.BUY, 1, "signal", said, 1.0, 2.0, {})
        journal.record_decision(decision)
        order = Order(name + "E", "ES", "Sim1", Side.BUY, 1, OrderType.LIMIT, OrderRole.ENTRY, name, 100.0)
        journal.record_intent([order], n)
        os.write(1, f"intent {name}E\\n".encode())  # acknowledged: it could now be on the wire
        log.decision(decision)
        log.flush()
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
    told = rows(journal, "SELECT COUNT(*) FROM decisions")[0][0]
    log = _reconciled(tmp_path, journal)
    for path, columns in log.items():
        lines = path.read_text().splitlines(keepends=True)
        assert all(line.endswith("\n") for line in lines), path
        import csv

        assert {len(row) for row in csv.reader(lines)} == {columns}, path
    for name in ("alpha_scores", "decision_log"):
        assert len((tmp_path / "logs" / "trading" / f"{name}.csv").read_text().splitlines()) == 1 + told
    trades = (tmp_path / "trades" / "trades_simulated.csv").read_text().splitlines()[1:]
    names = [line.split(",", 1)[0] for line in trades]
    assert len(names) == len(set(names))
    assert set(names) == on_file
    snapshots = list((tmp_path / "trade_snapshots").glob("trade_*.json"))
    assert {json.loads(path.read_text())["trade_id"] for path in snapshots} == on_file
    journal.close()


def _reconciled(var, journal):
    from mia_daemon.journal.trade_files import TradeLog

    log = TradeLog(var, simulated=True)
    log.reconcile(journal)
    assert log.reconcile(journal) == 0
    log.close()
    logs = var / "logs" / "trading"
    return {
        var / "trades" / "trades_simulated.csv": 5,
        logs / "alpha_scores.csv": 3,
        logs / "decision_log.csv": 5,
        logs / "penalty_log.csv": 3,
    }
