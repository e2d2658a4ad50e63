"""A product: everything about a future that does not depend on the contract month. The facts are in products.toml."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.products.exchange_days import DayRule
from mia_daemon.products.ticks import decimals_of

MONTH_CODES: Final = "FGHJKMNQUVXZ"
"""Of January to December."""


class ContractCode(NamedTuple):
    """A contract as its symbol names it."""

    root: str
    month: str  # one of MONTH_CODES
    year: str  # one or two digits

    @property
    def month_number(self) -> int:
        return MONTH_CODES.index(self.month) + 1

    def year_near(self, today: date) -> int:
        """The year of four digits: the one ending in these that is nearest to `today`."""
        span = 10 if len(self.year) == 1 else 100
        return today.year + (int(self.year) - today.year + span // 2) % span - span // 2


@dataclass(frozen=True, slots=True)
class Hours:
    """When a product trades.

    Attributes:
        calendar: of pandas_market_calendars; "": every weekday, from `session_open` to `session_close`.
        time_zone: of the times.
        session_open: of a trade date; not before `session_close`, it is the evening before's.
        closed_days: trade dates without a session that the calendar does not know.
    """

    calendar: str
    time_zone: str
    session_open: time
    session_close: time
    regular_open: time
    regular_close: time
    closed_days: tuple[date, ...] = ()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def opens_day_before(self) -> bool:
        """Whether a session opens on the evening before its trade date."""
        return self.session_open >= self.session_close

    def at_ns(self, day: date, at: time) -> int:
        """Local time as ns since 1970."""
        return int(datetime.combine(day, at, self.zone).timestamp()) * NS_PER_S

    def trade_date_at(self, now_ns: int) -> date:
        """The trade date of a moment; on a weekend, the day itself."""
        local = datetime.fromtimestamp(now_ns // NS_PER_S, self.zone)
        if self.opens_day_before:
            local = local.replace(tzinfo=None) + (timedelta(days=1) - _since_midnight(self.session_open))
        return local.date()


def known_time_zone(name: str) -> str:
    """`name`, where it is a time zone of this system. Raises ValueError."""
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone known here: write one as America/Chicago") from None


def _since_midnight(at: time) -> timedelta:
    return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second)


@dataclass(frozen=True, slots=True)
class Product:
    """One future, by the root of its symbols. The fields are explained in products.toml."""

    root: str
    currency: str
    tick_size: float
    tick_value: float
    lowest_price: float
    highest_price: float
    simulated_price: float
    commission_per_side: float
    exchange_fee_per_side: float
    months: str
    symbols: tuple[str, ...]
    hours: Hours
    expiry: DayRule
    last_trade_at: time
    roll: DayRule
    first_notice: DayRule | None = None
    name: str = ""
    price_format: str = "decimal"
    price_multiplier: float = 1.0
    companion: str = ""

    @property
    def cost_per_side(self) -> float:
        """Commission and exchange fee per contract and side, in `currency`."""
        return self.commission_per_side + self.exchange_fee_per_side

    @property
    def quotes_below_zero(self) -> bool:
        """Whether a negative price is a price."""
        return self.lowest_price < 0.0

    def price_text(self, price: float) -> str:
        """A price as people write it: `72.12`, `110'165`. What is no price (NaN) stays its own text."""
        parts = _PARTS[self.price_format]
        if price - price != 0.0 or parts == 0:
            return f"{price:.{decimals_of(self.tick_size)}f}"
        points, rest = divmod(round(abs(price) * parts), parts)
        of_32nd = parts // _32NDS
        whole, part = divmod(rest, of_32nd)
        digit = "" if of_32nd == 1 else str(part * 10 // of_32nd)  # a half is 5, a quarter 2, three quarters 7
        return f"{'-' if price < 0 else ''}{points}'{whole:02d}{digit}"

    def spelling(self, symbol: str) -> ContractCode | None:
        """The contract that one of `symbols` spells so; None where it is none of this product."""
        return next((code for known in self.symbols if (code := _read(known, self.root, symbol)) is not None), None)


_32NDS: Final = 32

_PARTS: Final = {"decimal": 0, "32nds": 32, "half_32nds": 64, "quarter_32nds": 128}
"""Steps of a point in a price's text; 0: decimals."""

PRICE_FORMATS: Final = tuple(_PARTS)

_PLACES: Final = {"{month}": f"(?P<month>[{MONTH_CODES}])", "{year}": "(?P<year>[0-9]{1,2})"}


def _read(pattern: str, root: str, symbol: str) -> ContractCode | None:
    text = re.escape(pattern.replace("{root}", root))
    for place, expression in _PLACES.items():
        text = text.replace(re.escape(place), expression)
    match = re.fullmatch(text, symbol)
    return None if match is None else ContractCode(root, match["month"], match["year"])


_HOURS: Final = ("calendar", "time_zone", "session_open", "session_close", "regular_open", "regular_close")
_TIMES: Final = ("session_open", "session_close", "regular_open", "regular_close", "last_trade_at")
_RULES: Final = ("expiry", "roll", "first_notice")
_REQUIRED: Final = tuple(
    field.name
    for field in dataclasses.fields(Product)
    if field.default is dataclasses.MISSING and field.name not in {"root", "hours"}
)


def make_product(root: str, table: Mapping[str, Any]) -> Product:
    """The product that a table of products.toml describes, `like` resolved.

    Raises:
        UsageError: a value is missing or makes no sense; the text names it.
    """
    if missing := [name for name in (*_REQUIRED, *_HOURS) if name not in table]:
        raise UsageError(
            f"product.{root} has no {', '.join(missing)}: state it, or name a product that it is like, as in "
            'like = "ES" (docs/products.md)'
        )
    values = {**table, **{name: time.fromisoformat(table[name]) for name in _TIMES}}
    days = tuple(day if isinstance(day, date) else date.fromisoformat(day) for day in table.get("closed_days", ()))
    hours = Hours(**{name: values.pop(name) for name in _HOURS}, closed_days=days)
    for name in _RULES:
        if values.get(name) is not None:
            values[name] = DayRule(**values[name])
    values.pop("closed_days", None)
    product = Product(**{**values, "root": root, "hours": hours, "symbols": tuple(table["symbols"])})
    _check(product)
    return product


def _check(product: Product) -> None:
    where = f"product.{product.root}"
    if not product.lowest_price < product.highest_price:
        raise UsageError(f"{where}: lowest_price {product.lowest_price:g} is not below highest_price: correct them")
    if not product.lowest_price <= product.simulated_price <= product.highest_price:
        raise UsageError(f"{where}: simulated_price {product.simulated_price:g} is not a price of it: correct it")
    if not set(product.months) <= set(MONTH_CODES) or not product.months:
        raise UsageError(f"{where}: months {product.months!r} has letters that are no month: use {MONTH_CODES}")
    for pattern in product.symbols:
        if "{month}" not in pattern or "{year}" not in pattern:
            raise UsageError(f"{where}: the spelling {pattern!r} needs {{month}} and {{year}}: correct symbols")
