"""Which contract of a product is traded on a day: one of its months, until it rolls into the next."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

from mia_daemon.errors import UsageError
from mia_daemon.products.exchange_days import DayRule
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.product import MONTH_CODES, Product
from mia_daemon.products.product_table import Products, shipped
from mia_daemon.products.trading_calendar import CLOSE_NS, TradingCalendar

_MONTHS_AHEAD = 40
"""In which the next two contracts of any product lie: an expiry of a month before or after counts into it."""


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract in force."""

    symbol: str
    rolls: date  # the first trade date of the next one
    following: str  # the next one's symbol


@dataclass(frozen=True, slots=True)
class ContractDates:
    """The last days of a contract."""

    roll: date  # volume moves to the next contract: its first trade date
    expiry: date  # the last day of trading
    held_until: date  # the last day on which it is held: before first notice, or the expiry


def contract_symbol(pattern: str, root: str, year: int, month: int, products: Products | None = None) -> str:
    """`ESZ26_FUT_CME` from `{root}{month}{year}_FUT_CME`; the year has two digits.

    Raises:
        UsageError: the pattern makes no symbol of a product known here, or it has no contract of that month.
    """
    products = shipped() if products is None else products
    product = _product(root, products)
    letter = MONTH_CODES[month - 1]
    if letter not in product.months:
        raise UsageError(
            f"{root} is rolled through the months {product.months}, not {letter}: see product.{root}.months"
        )
    symbol = pattern.replace("{root}", root).replace("{month}", letter).replace("{year}", f"{year % 100:02d}")
    found = products.find(symbol)
    if found is None or found[0].root != root:
        raise UsageError(f"{symbol}, made of instrument.root {root} and symbol_pattern {pattern}, is another product")
    return symbol


def _product(root: str, products: Products) -> Product:
    try:
        return products[root]
    except KeyError:
        raise UsageError(
            f"instrument.root {root!r} is none of {', '.join(products)}: describe it in a table [product.{root}] of "
            "the configuration (docs/products.md)"
        ) from None


def roll_rule(product: Product, roll_days_before_expiry: int | None) -> DayRule:
    """The product's rule, with the configured calendar days in place of its own."""
    if roll_days_before_expiry is None:
        return product.roll
    return replace(product.roll, days_before=roll_days_before_expiry)


def contract_on(
    day: date, pattern: str, root: str, roll_days_before_expiry: int | None = None, products: Products | None = None
) -> Contract:
    """The contract of `root` that is in force on trade date `day`. Raises UsageError as `contract_symbol` does.

    Args:
        day: trade date.
        pattern: how symbols are spelled.
        root: of the product.
        roll_days_before_expiry: in place of the product's own; None leaves them.
        products: `Settings.products`; by default those that ship with the daemon.
    """
    products = shipped() if products is None else products
    product = _product(root, products)
    rule = roll_rule(product, roll_days_before_expiry)
    ahead = [
        (day.year + (month - 1) // 12, (month - 1) % 12 + 1) for month in range(day.month, day.month + _MONTHS_AHEAD)
    ]
    listed = [(year, month) for year, month in ahead if MONTH_CODES[month - 1] in product.months]
    rolls = [rule.on(year, month) for year, month in listed]
    front = next(place for place, roll in enumerate(rolls) if day < roll)
    symbols = [contract_symbol(pattern, root, *month, products) for month in listed[front : front + 2]]
    return Contract(symbols[0], rolls[front], symbols[1])


def contract_dates(traded: Instrument, today: date, roll_days_before_expiry: int | None = None) -> ContractDates:
    """Roll and expiry of a contract. A year of one digit is the year ending in it that is nearest to `today`."""
    product, code = traded.product, traded.contract
    year, month = code.year_near(today), code.month_number
    expiry = product.expiry.on(year, month)
    notice = None if product.first_notice is None else product.first_notice.on(year, month)
    held_until = expiry if notice is None else min(expiry, notice - timedelta(days=1))
    return ContractDates(roll_rule(product, roll_days_before_expiry).on(year, month), expiry, held_until)


@dataclass(frozen=True, slots=True)
class LastTrading:
    """Until when a contract is traded, nanoseconds.

    Attributes:
        entries_ns: nothing is opened in it from then on: it rolls, expires, or can be delivered.
        positions_ns: nothing is held in it from then on.
    """

    entries_ns: int
    positions_ns: int


def last_trading(
    traded: Instrument,
    ts_ns: int,
    calendar: TradingCalendar,
    *,
    rolls: bool,
    roll_days: int | None = None,
    roll_with_position: bool = False,
) -> LastTrading:
    """When trading in a contract ends, seen from `ts_ns`, which says which decade its year belongs to.

    Args:
        traded: the contract.
        ts_ns: a moment at which it is traded.
        calendar: the exchange's trading days.
        rolls: it ends with the session before the first trade date of the next contract; False: it is traded until it
            expires, or until the session before first notice.
        roll_days: `instrument.roll_days_before_expiry`.
        roll_with_position: the roll ends entries only, and positions end with the contract itself.
    """
    hours = traded.product.hours
    dates = contract_dates(traded, hours.trade_date_at(ts_ns), roll_days)
    ends_ns = hours.at_ns(dates.expiry, traded.product.last_trade_at)
    if dates.held_until < dates.expiry:
        ends_ns = min(_close_until(dates.held_until, calendar, ends_ns), ends_ns)
    if not rolls:
        return LastTrading(ends_ns, ends_ns)
    rolls_ns = min(_close_until(dates.roll - timedelta(days=1), calendar, ends_ns), ends_ns)
    return LastTrading(rolls_ns, ends_ns if roll_with_position else rolls_ns)


def _close_until(day: date, calendar: TradingCalendar, unknown_ns: int) -> int:
    """When the last session up to this trade date closes; `unknown_ns` where the calendar has none."""
    before = calendar.schedule(date.min, day)
    return int(before[-1, CLOSE_NS]) if len(before) else unknown_ns
