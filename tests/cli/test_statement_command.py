"""`mia-daemon reconcile-statement`: what it prints, and its exit statuses."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from fake_activity_log import fill_row, write
from run_headers import run_header

from mia_daemon.cli import main
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, FillSource, Side

CONFIG = Path(__file__).parents[2] / "etc" / "mia.toml"
T0 = 1_796_135_405_000_000_000  # 2026-12-01 14:30:05 UTC
FILLS = [
    Fill(T0 + n, f"e{n}", "", f"s{n}", "ESZ26_FUT_CME", "Sim1", side, 1, 6000.0 + n, FillSource.EXTERNAL)
    for n, side in enumerate((Side.BUY, Side.SELL))
]
ROWS = [fill_row(FILLS[0], 1), fill_row(FILLS[1], 0)]


@pytest.fixture
def reconcile(tmp_path, capsys):
    """Runs the command on a statement of `rows`; exit status, output and error output."""
    (tmp_path / "journal").mkdir()
    for mode in ("live", "paper"):
        with closing(Journal(tmp_path / "journal" / f"{mode}.db", durable=False)) as journal:
            journal.begin_run(run_header(mode=mode))
            for fill in FILLS if mode == "live" else ():
                journal.record_fill(fill)

    def run(rows, *words, config=CONFIG):
        path = write(tmp_path / "log.txt", rows)
        words = ("reconcile-statement", path, "--config", config, "--var", tmp_path, *words)
        return main([str(word) for word in words]), *capsys.readouterr()

    return run


def test_equal_is_0_with_a_table_of_the_day(reconcile):
    status, out, err = reconcile(ROWS)
    assert (status, err) == (0, "")
    header, *rows = out.splitlines()
    assert header.split() == ["day", "symbol", "figure", "journal", "statement", "difference"]
    assert ["2026-12-01", "ESZ26_FUT_CME", "gross", "50.00", "50.00"] in [row.split() for row in rows]
    assert rows[-1] == "equal: 2 executions of 1 day agree, and what they come to"


def test_a_difference_is_1(reconcile):
    status, out, _ = reconcile(ROWS[:1])
    assert status == 1
    assert "journal only (external)" in out
    assert out.splitlines()[-1].startswith("differs: 1 executions; of 1 day, 1 with other contracts")


def test_json_is_one_object_and_says_what_was_compared(reconcile):
    status, out, _ = reconcile(ROWS, "--json", "--day", "2026-12-01", "--time-zone", "UTC")
    told = json.loads(out)
    assert (status, told["equal"], told["account"], told["time_zone"]) == (0, True, "Sim1", "UTC")
    assert told["days"][0]["statement"]["stated_position"] == 0
    assert len(told["external"]) == 2


def test_the_configured_time_zone_is_used_unless_another_is_named(reconcile, tmp_path):
    config = tmp_path / "mia.toml"
    text = CONFIG.read_text()
    assert 'statement_time_zone = "UTC" ' in text
    config.write_text(text.replace('statement_time_zone = "UTC" ', 'statement_time_zone = "Asia/Tokyo" '))
    assert json.loads(reconcile(ROWS, "--json", config=config)[1])["notes"] != []
    assert json.loads(reconcile(ROWS, "--json", "--time-zone", "UTC", config=config)[1])["notes"] == []


def test_the_journal_is_that_of_live_unless_another_is_named(reconcile, tmp_path):
    assert reconcile(ROWS, "--mode", "paper")[0] == 1
    assert reconcile(ROWS, "--journal", tmp_path / "journal" / "live.db")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--day", "yesterday"], "'yesterday' is no date: write 2026-12-01"),
        (["--time-zone", "CST"], "'CST' is no time zone known here: write one as America/Chicago"),
        (["--price-multiplier", "0"], "'0' is not a number above 0"),
    ],
)
def test_wrong_words_are_2_with_one_sentence(reconcile, words, says):
    status, out, err = reconcile(ROWS, *words)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_statement_that_can_not_be_read_is_2_and_a_journal_that_is_not_there_is_1(reconcile, tmp_path):
    status, _, err = reconcile([{**ROWS[0], "FillPrice": "6000,00"}])
    assert (status, len(err.splitlines())) == (2, 1)
    status, _, err = reconcile(ROWS, "--journal", tmp_path / "absent.db")
    assert (status, len(err.splitlines())) == (1, 1)
