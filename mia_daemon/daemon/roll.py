"""Chooses the traded contract for `instrument.root`: once, at the start, considering open positions."""

from dataclasses import dataclass
from datetime import date

from mia_daemon.config import Mode, Settings, VarPaths
from mia_daemon.errors import UsageError
from mia_daemon.journal.view import JournalView
from mia_daemon.products.contracts import Contract, ContractDates, contract_dates, contract_on
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import equity_hours


@dataclass(frozen=True, slots=True)
class Choice:
    """The contract of a run.

    Attributes:
        settings: with the contract in place of the root.
        text: which contract it is and when it rolls, for people.
        warning: whether `text` reports a position in a contract that is no longer in force.
    """

    settings: Settings
    text: str
    warning: bool = False


def choose_contract(settings: Settings, mode: Mode, paths: VarPaths, now_ns: int) -> Choice:
    """The contract to trade: the one in force, or an older one while the journal has a position in it.

    `instrument.roll_with_position` rolls in spite of a position. An expired contract is never kept.

    Raises:
        UsageError: root and pattern make no known contract.
        JournalError: the journal can't be read.
    """
    settings = _with_reference(settings, now_ns)
    front = _front(settings, now_ns)
    if front is None:
        return Choice(settings, _dates(settings, settings.instrument.symbol, now_ns))
    held = {symbol: size for symbol, size in _held(settings, mode, paths).items() if symbol != front.symbol}
    text = f"{front.symbol}, until it rolls into {front.following} on {front.rolls}"
    for symbol, size in held.items():
        if has_expired(settings, symbol, now_ns):
            text = f"{text}; the journal still has {size:+d} {symbol}, which has expired: see how it was settled"
        elif settings.instrument.roll_with_position:
            text = f"{text}; {size:+d} {symbol} is left to you and to the stop the server holds (roll_with_position)"
        else:
            kept = f"{symbol}, kept while the journal has {size:+d} of it, though {front.symbol} is in force"
            return Choice(_with_symbol(settings, symbol), f"{kept}: restart when flat", warning=True)
    return Choice(_with_symbol(settings, front.symbol), text, warning=bool(held))


def contract_in_force(settings: Settings, now_ns: int) -> Settings:
    """Settings with the contract in force in place of a root, whatever position is open. Raises UsageError."""
    settings = _with_reference(settings, now_ns)
    front = _front(settings, now_ns)
    return settings if front is None else _with_symbol(settings, front.symbol)


def _front(settings: Settings, now_ns: int) -> Contract | None:
    chosen = settings.instrument
    if chosen.root is None:
        return None
    return _contract_on(settings, chosen.root, now_ns)


def _contract_on(settings: Settings, root: str, now_ns: int) -> Contract:
    """The contract of a root in force now, by the pattern and the roll of `[instrument]`."""
    chosen, products = settings.instrument, settings.products
    hours = products[root].hours if root in products else equity_hours()
    today = hours.trade_date_at(now_ns)
    return contract_on(today, chosen.symbol_pattern, root, chosen.roll_days_before_expiry, products)


def _with_reference(settings: Settings, now_ns: int) -> Settings:
    """Settings with the reference's contract in place of its root: it rolls by date, as it is not traded."""
    root = settings.reference.root
    if root is None:
        return settings
    front = _contract_on(settings, root, now_ns)
    named = settings.reference.model_copy(update={"symbol": front.symbol, "root": None})
    return settings.model_copy(update={"reference": named})


def _dates(settings: Settings, symbol: str, now_ns: int) -> str:
    try:
        dates, today = _dates_at(settings, symbol, now_ns)
    except UsageError:
        return symbol  # refused later, where it is looked up as an instrument
    if dates.expiry < today:
        return f"{symbol}, expired on {dates.expiry}: set instrument.symbol to a later contract, or instrument.root"
    notice = "" if dates.held_until == dates.expiry else f", is held until {dates.held_until} (first notice follows)"
    return f"{symbol}; its roll date is {dates.roll}{notice}, it expires on {dates.expiry}"


def _dates_at(settings: Settings, symbol: str, now_ns: int) -> tuple[ContractDates, date]:
    """The last days of a contract, and the trade date that it is."""
    traded = instrument(symbol, settings.products)
    today = traded.product.hours.trade_date_at(now_ns)
    return contract_dates(traded, today, settings.instrument.roll_days_before_expiry), today


def has_expired(settings: Settings, symbol: str, now_ns: int) -> bool:
    """Whether the last trade date of a contract is over. Raises UsageError where the symbol is no contract known."""
    dates, today = _dates_at(settings, symbol, now_ns)
    return dates.expiry < today


def _held(settings: Settings, mode: Mode, paths: VarPaths) -> dict[str, int]:
    """Open positions of the product in the journal, by contract symbol."""
    path = paths.journal(mode)
    if not path.is_file():
        return {}
    with JournalView(path) as view:
        positions = view.positions()
    chosen = settings.instrument
    return {
        symbol: size
        for (symbol, account), size in positions.items()
        if account == chosen.trade_account and _root(settings, symbol) == chosen.root
    }


def _root(settings: Settings, symbol: str) -> str:
    try:
        return instrument(symbol, settings.products).root
    except UsageError:
        return ""


def _with_symbol(settings: Settings, symbol: str) -> Settings:
    return settings.model_copy(update={"instrument": settings.instrument.model_copy(update={"symbol": symbol})})
