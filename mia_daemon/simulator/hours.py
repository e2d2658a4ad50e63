"""Exchange time: it flows only while the session is open and steps over halts, weekends and holidays."""

from datetime import date, time, timedelta

from mia_daemon.errors import StartError
from mia_daemon.products.contracts import contract_dates
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.product import Hours
from mia_daemon.products.trading_calendar import FIRST_DATE, LAST_DATE, TradingCalendar

FIRST_TRADE = time(9)
"""Local time of the exchange at which a fresh simulation begins: regular hours, past the opening rush."""

WEEKS_BEFORE_EXPIRY = 6
"""How long before its contract's expiry a fresh simulation begins: in the front month, with no holiday near."""


def start_date(traded: Instrument, today: date) -> date:
    """The Tuesday six weeks before the expiry of a contract: the same on every day it is run.

    `today` only settles the decade of a year written with one digit.
    """
    expiry = contract_dates(traded, today).expiry
    return expiry - timedelta(weeks=WEEKS_BEFORE_EXPIRY, days=(expiry.weekday() - 1) % 7)


def first_day(wanted: date | None, traded: Instrument, today: date) -> date:
    """Of a fresh simulation: `simulator.start_date`, where it is set. Raises StartError where nothing trades then."""
    day = wanted or start_date(traded, today)
    last = min(contract_dates(traded, today).expiry, LAST_DATE)
    if not FIRST_DATE <= day < last:
        raise StartError(
            f"a simulation of {traded.symbol} can't begin on {day}, it would have to be between {FIRST_DATE} and {last}"
            ": set another simulator.start_date or instrument.symbol"
        )
    return day


def start_ns(day: date, hours: Hours) -> int:
    """09:00 of `day` at the exchange."""
    return hours.at_ns(day, FIRST_TRADE)


class TradingHours:
    """Adds trading time to a moment.

    Raises:
        StartError: a moment lies beyond the calendar.
    """

    def __init__(self, calendar: TradingCalendar) -> None:
        self._calendar = calendar
        self.open_ns = 0  # the session last asked about
        self.close_ns = 0

    def enter(self, ts_ns: int) -> int:
        """`ts_ns` when the session is open then, else the next opening."""
        if self.open_ns <= ts_ns < self.close_ns:
            return ts_ns
        close_ns = self._calendar.close_ns(ts_ns)
        if close_ns is None:
            opens = self._calendar.next_open_ns(ts_ns)
            if opens is None:
                raise StartError(
                    "the simulation ran past the end of the exchange calendar: start it with a new state directory"
                )
            ts_ns, close_ns = opens, self._calendar.close_ns(opens)
            assert close_ns is not None  # a session is open at its opening
        self.open_ns = int(self._calendar.rows[self._calendar.row_of(ts_ns), 0])
        self.close_ns = close_ns
        return ts_ns

    def add(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` of trading after `ts_ns`, which has to lie in a session."""
        ts_ns = self.enter(ts_ns)
        while ts_ns + duration_ns >= self.close_ns:
            duration_ns -= self.close_ns - ts_ns
            ts_ns = self.enter(self.close_ns)
        return ts_ns + duration_ns
