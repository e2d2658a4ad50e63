"""Daemons are killed in mid-session, forty, or a thousand by `make torture`: no order is sent twice, no fill lost.

One simulator lives through all of it. The check at the end, the same as the simulation's, reads what the simulator has
written down by itself, the journal and the files; it shares no code with the daemon.
"""

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from daemon_process import daemons_in, status_of, until

from fault_simulation import history
from fault_simulation.history import rows, server_record

KILLS = int(os.environ.get("KILLS", "40")) // 2  # of each of the two servers: `make torture` wants more

REPEATED = 3  # of the killed sessions, from their recordings

pytestmark = pytest.mark.timeout(300 + 12 * KILLS)

POINT_VALUE = 50.0  # USD, of the ES
STARTING_CASH = 100_000.0

CONFIG = {
    "feed": {"source": "dtc", "max_event_age_s": 0},
    "features": {"decision_interval_s": 0.5, "warmup_s": 0.0},
    "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
    "decision": {
        "max_position": 20,  # larger than what often rests at the touch: some orders fill in parts
        "enter_above": 0.001,
        "exit_below": 0.0005,
        "min_probability": 0.0,
        "min_hold_s": 0.0,
        "max_hold_s": 3.0,
        "stop_ticks": 2,  # near enough to fill while no daemon is there
        "target_ticks": 2,
        "max_slippage_ticks": 0,
        "defensive_blocks_above": 1.0,
    },
    "windows": {"no_entry_before_close_s": 0.0},
    "broker": {"entry_timeout_s": 1.0, "ack_timeout_s": 20.0},
}


@dataclass
class Aftermath:
    """What is left after the kills, and what each kill found."""

    record: Path  # the simulator's own, of all order traffic
    exchange: Path  # the simulator's memory
    var: Path
    exported: Path  # the files anew, from the journal alone
    too_early: list[str] = field(default_factory=list)  # orders that were at the server before their intent was on file
    positions: list[int] = field(default_factory=list)  # of the server, at each kill
    differ: list[str] = field(default_factory=list)  # sessions that do not repeat as recorded

    @property
    def journal(self) -> Path:
        return self.var / "journal" / "paper.db"


@pytest.fixture(scope="module", params=[False, True], ids=["numbers stay", "numbers change"])
def aftermath(request, fork_server, tmp_path_factory):
    """Of a server that keeps an order's number when the order is replaced, and of one that gives it a new one."""
    settings = {"starting_cash": STARTING_CASH, "new_order_id_on_replace": request.param}
    directory = tmp_path_factory.mktemp("kill")
    with daemons_in(directory, fork_server) as daemons:
        left = Aftermath(
            directory / "exchange" / "orders.jsonl",
            directory / "exchange" / "simulator.db",
            directory / "var",
            directory / "exported",
        )
        exchange_config = daemons.config("exchange.toml", **CONFIG, simulator=settings)
        exchange, port = daemons.simulator(exchange_config, left.record.parent, speed=20)
        config = daemons.config(**CONFIG, dtc={"port": port})
        command = ("--mode", "paper", "--config", config, "--var", left.var, "--quiet")
        chance = random.Random(9)
        for number in range(KILLS):
            daemon = daemons.start(*command, quick=number % 10 != 0)
            if number % 5 == 4:  # somewhere in its start
                time.sleep(chance.uniform(0.0, 0.4))
            elif number % 2:  # some time after it
                daemon.ready()
                time.sleep(chance.uniform(0.0, 0.6))
            else:  # right after something has happened at the server
                more = lines_in(left.record) + chance.randint(1, 12)
                until(lambda more=more: lines_in(left.record) >= more, "it trades", pause_s=0.0005)
            daemon.kill()
            look_around(left)
        last = daemons.start(*command).ready()
        until(lambda: status_of(left.var).get("reconciled"), "the books agree")
        last.signal(signal.SIGINT)
        assert last.wait().status == 0, last.err.read_text()
        assert daemons.run("journal", "export", left.exported, "--var", left.var).status == 0
        for recording in sorted((left.var / "recordings").iterdir())[:: max(KILLS // REPEATED, 1)]:
            ended = daemons.run("verify-session", recording)
            left.differ += [ended.out + ended.err] if ended.status else []
        exchange.signal(signal.SIGTERM)
        assert exchange.wait().status == 0, exchange.err.read_text()
    return left


def look_around(left):
    """Right after a kill: every order that the server has must be on file already."""
    lines = server_record(left.record)
    known = history.intended(left.journal) if left.journal.exists() else set()
    left.too_early += [order_id for order_id in history.sent(lines) if order_id not in known]
    left.positions.append(history.position_at_server(lines))


def test_killed_sessions_repeat_as_recorded(aftermath):
    assert aftermath.differ == []


# ------------------------------------------------------------------------------------------------------------ the files


def lines_in(path):
    return path.read_bytes().count(b"\n")


def whole_csv(path):
    """The rows of a file that ends with a whole row, all as long as its header."""
    content = path.read_bytes()
    assert content.endswith(b"\n"), path
    found = list(csv.reader(content.decode().splitlines(), strict=True))
    assert {len(row) for row in found} == {len(found[0])}, path
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


# ------------------------------------------------------------------------------------------------------------ the check


def sent_twice(left):
    return history.sent_twice(server_record(left.record))


def unknown_orders(left):
    return history.unknown_orders(server_record(left.record), left.journal)


def fills_at_server(left):
    return history.fills_at_server(server_record(left.record))


def fills_in_journal(left):
    return history.fills_in_journal(left.journal)


def trades_not_told_once(left):
    """Round trips of the journal with no row, or several, in the file for people; and the other way round."""
    told = Counter(row["trade_id"] for row in whole_csv(left.var / "trades" / "trades_simulated.csv"))
    known = Counter(trade_id for (trade_id,) in rows(left.journal, "SELECT trade_id FROM trades"))
    assert max(known.values()) == 1
    return (told - known) + (known - told)


# ------------------------------------------------------------------------------------------------------------ the tests


def test_the_kills_came_at_all_kinds_of_moments(aftermath):
    """Without this the rest would say little."""
    fills = sum(fills_at_server(aftermath).values())
    held = sum(position != 0 for position in aftermath.positions)
    assert len(aftermath.positions) == KILLS
    assert fills >= 2 * KILLS
    assert held >= KILLS // 5
    assert rows(aftermath.journal, "SELECT 1 FROM alerts WHERE code = 'fill_missed'")  # filled while none was there


def test_no_order_was_sent_twice(aftermath):
    assert sent_twice(aftermath) == []


def test_every_order_was_on_file_before_it_was_sent(aftermath):
    assert aftermath.too_early == []
    assert list(unknown_orders(aftermath)) == []


def test_a_decision_asked_for_every_order(aftermath):
    assert history.unattributed(aftermath.journal) == []


def test_no_fill_was_lost_and_none_was_made_up(aftermath):
    assert fills_in_journal(aftermath) == fills_at_server(aftermath)
    assert max(fills_in_journal(aftermath).values()) == 1


def test_the_books_agree_at_the_end_and_are_flat(aftermath):
    assert server_record(aftermath.record)[-1]["seq"] == len(server_record(aftermath.record))
    ((position,),) = rows(aftermath.journal, "SELECT position FROM fills ORDER BY number DESC LIMIT 1")
    at_server = sum(side * quantity * times for (_, _, side, quantity, _), times in fills_at_server(aftermath).items())
    assert position == at_server == 0
    ((accounts,),) = rows(aftermath.exchange, "SELECT value FROM meta WHERE key = 'accounts'")
    (account,) = json.loads(accounts).values()
    ((earned,),) = rows(aftermath.journal, "SELECT SUM(gross - costs) FROM trades")
    assert account["cash"] == pytest.approx(STARTING_CASH + earned, abs=0.005)
    points = -sum(side * quantity * price for _, _, side, quantity, price in fills_at_server(aftermath))
    ((gross,),) = rows(aftermath.journal, "SELECT SUM(gross) FROM trades")
    assert gross == pytest.approx(points * POINT_VALUE, abs=0.005)


def test_nothing_is_left_working_or_of_unknown_fate(aftermath):
    """At the server every order was filled, canceled or rejected, and the journal knows how far it had filled."""
    filled, canceled, rejected = 7, 8, 9  # DTC's OrderStatusEnum
    at_server = [json.loads(data) for (data,) in rows(aftermath.exchange, "SELECT data FROM orders")]
    assert {order["status"] for order in at_server} <= {filled, canceled, rejected}
    traded = Counter({order["client_id"]: order["filled"] for order in at_server})
    query = "SELECT client_order_id, status, last_quantity, booked FROM intents"
    for order_id, status, quantity, booked in rows(aftermath.journal, query):
        assert booked == traded[order_id], order_id
        assert booked >= quantity or status in {"canceled", "rejected", "unknown_to_server"}, (order_id, status)


def test_every_run_but_the_last_is_marked_as_killed(aftermath):
    ends = rows(aftermath.journal, "SELECT how FROM runs ORDER BY number")
    assert len(ends) > KILLS // 2
    assert ends[-1] == ("SIGINT",)
    assert ("SIGINT",) not in ends[:-1]


def test_each_trade_is_told_once_and_every_row_is_whole(aftermath):
    assert trades_not_told_once(aftermath) == Counter()
    earned = dict(rows(aftermath.journal, "SELECT trade_id, gross - costs FROM trades"))
    for row in whole_csv(aftermath.var / "trades" / "trades_simulated.csv"):
        assert float(row["profit"]) == pytest.approx(earned[row["trade_id"]], abs=0.005)
    for trade_id in earned:
        (path,) = (aftermath.var / "trade_snapshots").glob(f"trade_*_{trade_id}.json")
        snapshot = json.loads(path.read_text())
        assert snapshot["trade_id"] == trade_id
    for path in aftermath.var.rglob("*.csv"):
        whole_csv(path)
    for path in (aftermath.var / "logs").glob("*.log"):
        for line in path.read_bytes().splitlines(keepends=True):
            assert line.endswith(b"\n")
            json.loads(line)


def told_otherwise(left):
    """Files that differ from what the journal alone makes of them."""
    names = [path.relative_to(left.exported) for path in left.exported.rglob("*") if path.is_file()]
    assert len(names) > 10
    return [str(name) for name in names if (left.exported / name).read_bytes() != (left.var / name).read_bytes()]


def test_the_files_say_what_the_journal_says_however_often_it_was_killed(aftermath):
    """No row is missing, none is ahead: each file is the journal's to the byte."""
    assert told_otherwise(aftermath) == []
    ((decisions,),) = rows(aftermath.journal, "SELECT COUNT(*) FROM decisions")
    for name in ("alpha_scores", "decision_log"):
        assert len(whole_csv(aftermath.var / "logs" / "trading" / f"{name}.csv")) == decisions


def test_what_explains_a_trade_is_on_file_however_often_it_was_killed(aftermath):
    """Each entry has its decision with risk's word, and no number of the sequence was given twice."""
    entered = rows(
        aftermath.journal,
        "SELECT verdict FROM intents LEFT JOIN decisions USING (decision_id) WHERE role = 'entry'",
    )
    assert set(entered) == {("ok",)}
    tables = ("decisions", "intents", "requests", "updates", "fills", "trades", "equity", "alerts", "commands")
    numbers = [number for table in tables for (number,) in rows(aftermath.journal, f"SELECT number FROM {table}")]
    assert len(numbers) == len(set(numbers))
    late = """
        SELECT intents.number FROM intents JOIN updates USING (client_order_id) WHERE updates.number < intents.number
        UNION ALL
        SELECT intents.number FROM intents JOIN fills USING (client_order_id) WHERE fills.number < intents.number
        UNION ALL
        SELECT intents.number FROM intents JOIN decisions USING (decision_id) WHERE decisions.number > intents.number"""
    assert rows(aftermath.journal, late) == []


def test_the_check_notices_what_it_is_for(aftermath, tmp_path):
    """The same functions over books that were tampered with."""
    bad = Aftermath(tmp_path / "orders.jsonl", aftermath.exchange, tmp_path / "var", aftermath.exported)
    lines = aftermath.record.read_text().splitlines(keepends=True)
    order = next(line for line in lines if "SubmitNewSingleOrder" in line)
    bad.record.write_text("".join(lines) + order)
    bad.journal.parent.mkdir(parents=True)
    shutil.copy(aftermath.journal, bad.journal)
    trades = bad.var / "trades" / "trades_simulated.csv"
    trades.parent.mkdir()
    told = (aftermath.var / "trades" / "trades_simulated.csv").read_text().splitlines(keepends=True)
    trades.write_text("".join(told[:-1]) + told[1])
    with closing(sqlite3.connect(bad.journal)) as db, db:
        db.execute("DELETE FROM intents WHERE client_order_id = ?", (json.loads(order)["ClientOrderID"],))
        second, third = db.execute("SELECT number FROM fills ORDER BY number LIMIT 2 OFFSET 1").fetchall()
        db.execute("DELETE FROM fills WHERE number = ?", second)
        db.execute("UPDATE fills SET price = price + 0.25 WHERE number = ?", third)
    assert sent_twice(bad) == [json.loads(order)["ClientOrderID"]]
    assert {order_id for order_id, _ in unknown_orders(bad)} == {json.loads(order)["ClientOrderID"]}
    assert sum((fills_at_server(bad) - fills_in_journal(bad)).values()) == 2
    assert sum((fills_in_journal(bad) - fills_at_server(bad)).values()) == 1
    assert sorted(trades_not_told_once(bad).values()) == [1, 1]
    shutil.copytree(aftermath.exported, bad.var, dirs_exist_ok=True)
    assert told_otherwise(bad) == []
    scores = bad.var / "logs" / "trading" / "alpha_scores.csv"
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:-1]))
    assert told_otherwise(bad) == ["logs/trading/alpha_scores.csv"]
    trades.write_text("".join(told)[:-5])
    with pytest.raises(AssertionError):
        whole_csv(trades)
