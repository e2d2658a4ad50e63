"""Chooses the traded contract for `instrument.root`: once, at the start, considering open positions."""

from dataclasses import dataclass

from mia_daemon.config import Mode, Settings, VarPaths
from mia_daemon.errors import UsageError
from mia_daemon.journal.view import JournalView
from mia_daemon.products.contracts import Contract, contract_on, trade_date_at
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import contract_dates


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
        return Choice(settings, _dates(settings.instrument.symbol, now_ns))
    held = {symbol: size for symbol, size in _held(settings, mode, paths).items() if symbol != front.symbol}
    text = f"{front.symbol}, until it rolls into {front.following} on {front.rolls}"
    today = trade_date_at(now_ns)
    for symbol, size in held.items():
        if contract_dates(symbol, today).expiry < today:
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
    return contract_on(trade_date_at(now_ns), chosen.symbol_pattern, chosen.root, chosen.roll_days_before_expiry)


def _with_reference(settings: Settings, now_ns: int) -> Settings:
    """Settings with the reference's contract in place of its root: it rolls by date, as it is not traded."""
    chosen, root = settings.instrument, settings.reference.root
    if root is None:
        return settings
    front = contract_on(trade_date_at(now_ns), chosen.symbol_pattern, root, chosen.roll_days_before_expiry)
    named = settings.reference.model_copy(update={"symbol": front.symbol, "root": None})
    return settings.model_copy(update={"reference": named})


def _dates(symbol: str, now_ns: int) -> str:
    today = trade_date_at(now_ns)
    dates = contract_dates(symbol, today)
    if dates.expiry < today:
        return f"{symbol}, expired on {dates.expiry}: set instrument.symbol to a later contract, or instrument.root"
    return f"{symbol}; CME's roll date is {dates.roll}, it expires on {dates.expiry}"


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
        if account == chosen.trade_account and _root(symbol) == chosen.root
    }


def _root(symbol: str) -> str:
    try:
        return instrument(symbol).root
    except UsageError:
        return ""


def _with_symbol(settings: Settings, symbol: str) -> Settings:
    return settings.model_copy(update={"instrument": settings.instrument.model_copy(update={"symbol": symbol})})
