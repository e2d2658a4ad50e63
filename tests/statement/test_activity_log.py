"""An export is read whatever the order and spelling of its columns; what can't be meant is refused in one sentence."""

import pytest
from fake_activity_log import COLUMNS, balance_row, fill_row, order_row, text_of, write

from mia_daemon.errors import UsageError
from mia_daemon.records import Fill, Side
from mia_daemon.statement.activity_log import read_statement

T0 = 1_796_135_405_123_456_000  # 2026-12-01 14:30:05.123456 UTC
FILL = Fill(T0, "4711.1", "r1-1E", "88", "ESZ26_FUT_CME", "Sim1", Side.SELL, 2, 6000.25)
ROWS = [order_row(T0 - 1000), fill_row(FILL, -2), balance_row(T0, 100_012.5)]


def only_fill(path, time_zone="UTC"):
    (row,) = read_statement(path, time_zone).fills
    return row


def refused(path, time_zone="UTC"):
    with pytest.raises(UsageError) as caught:
        read_statement(path, time_zone)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


def test_an_export_as_sierra_chart_writes_it(tmp_path):
    path = write(tmp_path / "log.txt", ROWS)
    statement = read_statement(path, "UTC")
    (row,) = statement.fills
    assert row.line == 3
    assert (row.fill.ts_ns, row.fill.symbol, row.fill.account) == (T0, "ESZ26_FUT_CME", "Sim1")
    assert (row.fill.side, row.fill.quantity, row.fill.price) == (Side.SELL, 2, 6000.25)
    assert (row.fill.execution_id, row.order_ids, row.position) == ("4711.1", ("r1-1E", "88"), -2)
    assert [(one.account, one.amount) for one in statement.balances] == [("Sim1", 100_012.5)]
    assert statement.times_ns == (T0 - 1000, T0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, encoding, newline):
    if encoding == "utf-16-le":
        (tmp_path / "log.txt").write_bytes(b"\xff\xfe" + text_of(ROWS, newline=newline).encode(encoding))
    else:
        write(tmp_path / "log.txt", ROWS, newline=newline, encoding=encoding)
    assert only_fill(tmp_path / "log.txt").fill.price == 6000.25


def test_columns_are_found_by_name_in_any_order_and_spelling(tmp_path):
    spelled = {"BuySell": "Buy/Sell", "FillPrice": "fill price", "DateTime": "Date-Time", "Quantity": "QTY"}
    columns = [*reversed(COLUMNS), "NewInNextVersion"]
    text = text_of(ROWS, columns)
    header, _, rest = text.partition("\r\n")
    names = [spelled.get(name, name) for name in header.split("\t")]
    (tmp_path / "log.txt").write_text("\t".join(names) + "\r\n" + rest, newline="")
    assert only_fill(tmp_path / "log.txt").fill == only_fill(write(tmp_path / "other.txt", ROWS)).fill


def test_only_five_columns_are_needed(tmp_path):
    path = write(tmp_path / "log.txt", ROWS[1:2], ("DateTime", "Symbol", "Quantity", "BuySell", "FillPrice"))
    row = only_fill(path)
    assert (row.fill.account, row.fill.execution_id, row.order_ids, row.position) == ("", "", (), None)


@pytest.mark.parametrize("gone", ["DateTime", "Symbol", "Quantity", "BuySell", "FillPrice"])
def test_a_column_that_is_needed_and_missing_is_named(tmp_path, gone):
    columns = [name for name in COLUMNS if name not in {gone, "TransDateTime", "FilledQuantity"}]
    said = refused(write(tmp_path / "log.txt", ROWS, columns))
    assert gone in said
    assert "docs/statement.md" in said


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text(text_of(ROWS).replace("\t", ";"))
    assert "tab-separated" in refused(tmp_path / "log.csv")
    assert "can't be read" in refused(tmp_path / "absent")


@pytest.mark.parametrize(
    ("column", "text", "says"),
    [
        ("FillPrice", "6000,25", "decimal point"),
        ("FillPrice", "6,000.25", "thousands"),
        ("FillPrice", "110'165", "decimal point"),
        ("FillPrice", "nan", "decimal point"),
        ("FillPrice", "", "decimal point"),
        ("Quantity", "1,5", "decimal point"),
        ("Quantity", "1.5", "whole number"),
        ("Quantity", "0", "at least 1"),
        ("Quantity", "-2", "at least 1"),
        ("BuySell", "Achat", "Buy or Sell"),
        ("DateTime", "12/01/2026 14:30", "a time as 2026-12-01"),
        ("DateTime", "", "a time as 2026-12-01"),
    ],
)
def test_what_is_localised_or_no_value_of_its_column_is_refused_with_its_line(tmp_path, column, text, says):
    said = refused(write(tmp_path / "log.txt", [ROWS[0], {**ROWS[1], column: text}]))
    assert "line 3" in said
    assert column in said
    assert repr(text) in said
    assert says in said


def test_times_are_of_the_named_zone(tmp_path):
    path = write(tmp_path / "log.txt", ROWS)
    assert only_fill(path, "America/Chicago").fill.ts_ns - T0 == 6 * 3600 * 10**9
    assert only_fill(path, "Europe/Zurich").fill.ts_ns - T0 == -3600 * 10**9


def test_newest_first_is_turned_round_also_within_one_time(tmp_path):
    early = [fill_row(Fill(T0, f"x{n}", "", "", "ESZ26", "", Side.BUY, 1, 6000.0), n) for n in (1, 2)]
    late = fill_row(Fill(T0 + 10**9, "x3", "", "", "ESZ26", "", Side.BUY, 1, 6000.0), 3)
    up, down = [*early, late], [late, *reversed(early)]
    for number, rows in enumerate((up, down)):
        statement = read_statement(write(tmp_path / f"{number}.txt", rows), "UTC")
        assert [row.fill.execution_id for row in statement.fills] == ["x1", "x2", "x3"]


def test_a_note_with_quotes_or_strange_characters_stays_in_its_cell(tmp_path):
    noted = [{**row, "Note": 'He said "stop\x0b\x85\u2028'} for row in ROWS]
    assert only_fill(write(tmp_path / "log.txt", noted)).line == 3
    (tmp_path / "other.txt").write_bytes(text_of(noted).encode().replace("\u2028".encode(), b"\xe9"))
    assert only_fill(tmp_path / "other.txt").line == 3


def test_empty_lines_and_missing_last_cells_are_nothing(tmp_path):
    text = text_of([ROWS[1]], ("DateTime", "Symbol", "Quantity", "BuySell", "FillPrice", "Note"))
    (tmp_path / "log.txt").write_text(text.rstrip("\t\r\n") + "\r\n\r\n\t\t\r\n", newline="")
    assert only_fill(tmp_path / "log.txt").fill.quantity == 2
