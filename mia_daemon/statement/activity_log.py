"""Reads an export of Sierra Chart's Trade Activity Log: tab-separated text with the names of its columns first.

Columns are found by their names, whatever their order, case and punctuation; those that are not needed are ignored.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from mia_daemon.errors import UsageError
from mia_daemon.records import Fill, FillSource, Side

MAX_BYTES: Final = 1 << 28
"""Years of orders; a recording that was named by mistake may be longer."""


@dataclass(frozen=True, slots=True)
class StatementFill:
    """One execution as the statement has it.

    Attributes:
        line: of the file, from 1.
        fill: symbol, account and price as written; `account` is "" where the file has none, `client_order_id` and
            `server_order_id` are not filled in.
        order_ids: every identifier of its order, the one most likely to be ours first.
        position: signed contracts after it, as the statement says; None where it does not.
    """

    line: int
    fill: Fill
    order_ids: tuple[str, ...]
    position: int | None


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's balance at a time."""

    ts_ns: int
    account: str
    amount: float


@dataclass(frozen=True, slots=True)
class Statement:
    """What an export says.

    Attributes:
        fills: oldest first.
        balances: oldest first.
        times_ns: of its first and its last row, of whatever kind; None where it has no rows.
    """

    path: Path
    fills: tuple[StatementFill, ...]
    balances: tuple[Balance, ...]
    times_ns: tuple[int, int] | None


def read_statement(path: Path, time_zone: str) -> Statement:
    """Read an export.

    Args:
        path: of the file; UTF-8 or UTF-16, with or without a byte order mark, lines ended by LF or CRLF.
        time_zone: of its times.

    Raises:
        UsageError: it can't be read, a column is missing, or a value is not what its column holds.
    """
    # Universal newlines: a note may hold characters at which str.splitlines would cut the line.
    lines = csv.reader(io.StringIO(_text(path), newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = _Columns.of(path, next(lines, []))
    zone = ZoneInfo(time_zone)
    fills: list[StatementFill] = []
    balances: list[Balance] = []
    times: list[int] = []
    for number, cells in enumerate(lines, 2):
        if not any(cell.strip() for cell in cells):
            continue
        row = _Row(path, number, columns.values(cells), zone)
        times.append(row.ts_ns)
        if row.is_fill:
            fills.append(row.fill())
        elif row.is_balance and row.text("accountbalance"):
            balances.append(Balance(row.ts_ns, row.text("tradeaccount"), row.number("accountbalance")))
    if times and times[0] > times[-1]:  # newest first: rows of one time are to be in the order of the market, too
        fills.reverse()
        balances.reverse()
    return Statement(
        path,
        tuple(sorted(fills, key=lambda one: one.fill.ts_ns)),
        tuple(sorted(balances, key=lambda one: one.ts_ns)),
        (min(times), max(times)) if times else None,
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"statement {path} can't be read: {error.strerror}; name the exported file") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"statement {path} has more than {MAX_BYTES >> 20} MiB: name the exported file")
    # A note may be in any encoding, and is not needed; what is needed is ASCII.
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")


# Columns.

_ALIASES: Final = {
    "buysell": ("side",),
    "quantity": ("qty", "fillquantity", "filledquantity"),
    "tradeaccount": ("account",),
    "serviceorderid": ("serverorderid",),
    "fillexecutionserviceid": ("executionid", "fillexecutionid"),
}
"""Other names of a column, by the usual one; all of them without case and punctuation."""

_NEEDED: Final = {
    "datetime": "DateTime",
    "symbol": "Symbol",
    "buysell": "BuySell",
    "quantity": "Quantity",
    "fillprice": "FillPrice",
}


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where each column of the file is, by its plain name."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, header: Sequence[str]) -> "_Columns":
        names = [_plain(name) for name in header]
        for usual, others in _ALIASES.items():
            if usual not in names and (found := next((other for other in others if other in names), None)):
                names[names.index(found)] = usual
        if "datetime" not in names and "transdatetime" in names:
            names[names.index("transdatetime")] = "datetime"
        missing = [shown for name, shown in _NEEDED.items() if name not in names]
        if missing:
            raise UsageError(
                f"statement {path} has no column {', '.join(missing)} in its first line: export it from Sierra Chart's "
                "Trade Activity Log as tab-separated text, with the names of the columns (docs/statement.md)"
            )
        return cls(tuple(names))

    def values(self, cells: Sequence[str]) -> dict[str, str]:
        """Of a row; cells that are missing at its end are empty."""
        return {name: cell.strip() for name, cell in zip(self.names, cells, strict=False)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# Rows.

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_SIDES: Final = {"buy": Side.BUY, "bot": Side.BUY, "b": Side.BUY, "sell": Side.SELL, "sld": Side.SELL, "s": Side.SELL}
_ORDER_IDS: Final = ("clientorderid", "serviceorderid", "internalorderid", "exchangeorderid")


@dataclass(frozen=True, slots=True)
class _Row:
    """The cells of one line."""

    path: Path
    line: int
    cells: Mapping[str, str]
    zone: ZoneInfo

    @property
    def is_fill(self) -> bool:
        """An execution. Rows of orders have their average price in the same column."""
        if "activitytype" in self.cells:
            return "fill" in self.cells["activitytype"].lower()
        return bool(self.text("fillprice"))

    @property
    def is_balance(self) -> bool:
        return "balance" in self.text("activitytype").lower()

    @property
    def ts_ns(self) -> int:
        text = " ".join(self.text("datetime").split())  # Sierra Chart puts two blanks between date and time
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._refused("DateTime", text, "a time as 2026-12-01 14:30:05.123456") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=self.zone)
        return round(moment.timestamp() * 1_000_000) * 1000

    def text(self, name: str) -> str:
        return self.cells.get(name, "")

    def number(self, name: str) -> float:
        text = self.text(name)
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            shown = _NEEDED.get(name, name)
            raise self._refused(shown, text, "a number as 6000.25, with a decimal point and no thousands separator")
        return value

    def whole(self, name: str) -> int:
        value = self.number(name)
        if value != int(value):
            raise self._refused(_NEEDED.get(name, name), self.text(name), "a whole number")
        return int(value)

    def fill(self) -> StatementFill:
        side = _SIDES.get(self.text("buysell").lower())
        if side is None:
            raise self._refused("BuySell", self.text("buysell"), "Buy or Sell")
        quantity = self.whole("quantity")
        if quantity < 1:
            raise self._refused("Quantity", self.text("quantity"), "at least 1 in a fill")
        fill = Fill(
            ts_ns=self.ts_ns,
            execution_id=self.text("fillexecutionserviceid"),
            client_order_id="",
            server_order_id="",
            symbol=self.text("symbol"),
            account=self.text("tradeaccount"),
            side=side,
            quantity=quantity,
            price=self.number("fillprice"),
            source=FillSource.EXTERNAL,
        )
        position = self.whole("positionquantity") if self.text("positionquantity") else None
        return StatementFill(self.line, fill, tuple(self._order_ids()), position)

    def _order_ids(self) -> Iterator[str]:
        for name in _ORDER_IDS:
            if self.text(name) not in {"", "0"}:
                yield self.text(name)

    def _refused(self, column: str, text: str, wanted: str) -> UsageError:
        return UsageError(
            f"statement {self.path}, line {self.line}: {column} is {text!r}, and not {wanted}: export it again without "
            "localised numbers and dates, and without a spreadsheet in between"
        )
