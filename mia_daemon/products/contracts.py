"""Which contract of a product is traded on a day: the quarterly one, until it rolls into the next.

A contract rolls a number of days before the third Friday of its month, at the open of that trade date's session (17:00
in Chicago the evening before). Four days make it the Monday that CME lists as the roll date of its equity index
futures, when most of the volume moves on.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import CHICAGO, CLOSE_NS, TradingCalendar, contract_dates, third_friday

QUARTERLY: Final = {3: "H", 6: "M", 9: "U", 12: "Z"}
_UNTIL_MIDNIGHT: Final = timedelta(hours=7)  # from 17:00, when the next trade date begins


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract in force."""

    symbol: str
    rolls: date  # the first trade date of the next one
    following: str  # the next one's symbol


def contract_symbol(pattern: str, root: str, year: int, month: int) -> str:
    """`ESZ26_FUT_CME` from `{root}{month}{year}_FUT_CME`; the year has two digits.

    Raises:
        UsageError: the pattern makes no symbol of a product known here, or the month is none of the four.
    """
    if month not in QUARTERLY:
        raise UsageError(f"equity index futures expire in March, June, September and December, not in month {month}")
    symbol = pattern.replace("{root}", root).replace("{month}", QUARTERLY[month]).replace("{year}", f"{year % 100:02d}")
    if instrument(symbol).root != root:
        raise UsageError(f"{symbol}, made of instrument.root {root} and symbol_pattern {pattern}, is another product")
    return symbol


def contract_on(day: date, pattern: str, root: str, roll_days_before_expiry: int) -> Contract:
    """The contract of `root` that is in force on trade date `day`. Raises UsageError as `contract_symbol` does."""
    ahead = [(day.year + (month > 12), (month - 1) % 12 + 1) for month in range(day.month, 25)]
    quarters = [(year, month) for year, month in ahead if month in QUARTERLY]
    rolls = [third_friday(year, month) - timedelta(days=roll_days_before_expiry) for year, month in quarters]
    front = next(place for place, roll in enumerate(rolls) if day < roll)
    symbols = [contract_symbol(pattern, root, *quarter) for quarter in quarters[front : front + 2]]
    return Contract(symbols[0], rolls[front], symbols[1])


def trade_date_at(now_ns: int) -> date:
    """The trade date of a moment; on a weekend, the day itself."""
    return (datetime.fromtimestamp(now_ns // NS_PER_S, UTC).astimezone(CHICAGO) + _UNTIL_MIDNIGHT).date()


EXPIRES_AT: Final = time(8, 30)  # Chicago: the final settlement is the opening of the stocks in the index


@dataclass(frozen=True, slots=True)
class LastTrading:
    """Until when a contract is traded, nanoseconds.

    Attributes:
        entries_ns: nothing is opened in it from then on: it rolls, or expires.
        positions_ns: nothing is held in it from then on.
    """

    entries_ns: int
    positions_ns: int


def last_trading(
    symbol: str, ts_ns: int, calendar: TradingCalendar, *, roll_days: int | None, roll_with_position: bool = False
) -> LastTrading:
    """When trading in a contract ends, seen from `ts_ns`, which says which decade its year belongs to.

    Args:
        symbol: of the contract.
        ts_ns: a moment at which it is traded.
        calendar: the exchange's trading days.
        roll_days: before the third Friday, to the first trade date of the next contract: this one ends with the session
            before. None: it is traded until it expires.
        roll_with_position: the roll ends entries only, and positions end with the contract itself.

    Raises:
        UsageError: the symbol names no contract month.
    """
    expiry = contract_dates(symbol, trade_date_at(ts_ns)).expiry
    expires_ns = int(datetime.combine(expiry, EXPIRES_AT, CHICAGO).timestamp()) * NS_PER_S
    if roll_days is None:
        return LastTrading(expires_ns, expires_ns)
    before = calendar.schedule(date.min, third_friday(expiry.year, expiry.month) - timedelta(days=roll_days + 1))
    rolls_ns = min(int(before[-1, CLOSE_NS]), expires_ns) if len(before) else expires_ns
    return LastTrading(rolls_ns, expires_ns if roll_with_position else rolls_ns)
