"""The products the daemon knows, by the root of their symbol: tick, tick value, fees."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from mia_daemon.errors import UsageError

OFF_TICK: Final = 0.005
"""Share of a tick by which a price may be off it: what a price in a float32 is off, and far less than a wrong scale."""


class ContractCode(NamedTuple):
    """A contract as its symbol names it."""

    root: str
    month: str  # FGHJKMNQUVXZ
    year: str  # one or two digits


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable symbol.

    Attributes:
        symbol: exactly as Sierra Chart spells it (`ESZ26_FUT_CME`, `MNQU21-CME`).
        tick_size: minimum price increment, points.
        tick_value: account currency per tick and contract.
        cost_per_side: commission and exchange fees per contract and side, account currency.
    """

    symbol: str
    root: str
    tick_size: float
    tick_value: float
    cost_per_side: float

    @property
    def point_value(self) -> float:
        return self.tick_value / self.tick_size

    def round_to_tick(self, price: float) -> float:
        """The nearest valid price."""
        return round(price / self.tick_size) * self.tick_size

    def is_on_tick(self, price: float) -> bool:
        """Whether a price is a valid one, but for `OFF_TICK` of a tick."""
        ticks = price / self.tick_size
        return abs(ticks - round(ticks)) <= OFF_TICK

    def notional(self, price: float, quantity: int) -> float:
        return abs(quantity) * price * self.point_value


_PRODUCTS: dict[str, tuple[float, float, float]] = {
    # root: tick size, tick value (USD), cost per side (USD: 2.00 per contract round trip for the minis, as the
    # specification assumes; micros at the customary fraction)
    "ES": (0.25, 12.50, 1.00),
    "NQ": (0.25, 5.00, 1.00),
    "MES": (0.25, 1.25, 0.35),
    "MNQ": (0.25, 0.50, 0.35),
}

_SYMBOL = re.compile(r"(?P<root>M?ES|M?NQ)[FGHJKMNQUVXZ][0-9]{1,2}(?:[-_.].*)?")

_CONTRACT = re.compile(r"(?P<root>[A-Z]{1,4}?)(?P<month>[FGHJKMNQUVXZ])(?P<year>[0-9]{1,2})")

_MAX_SYMBOL: Final = 63
"""Characters of a symbol in DTC, and in the name of a file."""


def check_symbol(symbol: str) -> str:
    """`symbol`, where it can be one. It becomes the name of a file, so it leads to no other directory.

    Raises:
        ValueError: it can't; the text says why.
    """
    if not symbol or symbol != symbol.strip() or not symbol.isprintable():
        raise ValueError("a symbol has no control characters, and no white space around it")
    if symbol.startswith(".") or ".." in symbol or "/" in symbol or "\\" in symbol:
        raise ValueError("a symbol is the name of a file too: it has no slash, no .. and no dot at its start")
    if len(symbol) > _MAX_SYMBOL:
        raise ValueError(f"a symbol has {_MAX_SYMBOL} characters at most")
    return symbol


def contract_of(symbol: str) -> ContractCode | None:
    """The contract that a symbol names, whatever stands around it: `ESZ26_FUT_CME`, `MESU24-CME`, `F.US.MESM25`."""
    for part in re.split(r"[^A-Z0-9]+", symbol.upper()):
        if (match := _CONTRACT.fullmatch(part)) is not None:
            return ContractCode(match["root"], match["month"], match["year"])
    return None


def same_contract(one: str, other: str) -> bool:
    """Whether two spellings name the same contract."""
    a, b = contract_of(one), contract_of(other)
    return a is not None and b is not None and a[:2] == b[:2] and a.year[-1] == b.year[-1]


_COMPANIONS = {"ES": "NQ", "NQ": "ES", "MES": "MNQ", "MNQ": "MES"}


def companion(symbol: str) -> str:
    """The contract of the other index, of the same size and month: NQ beside ES. Raises UsageError as `instrument`."""
    root = instrument(symbol).root
    return _COMPANIONS[root] + symbol.removeprefix(root)


def instrument(symbol: str) -> Instrument:
    """The instrument behind a Sierra Chart symbol.

    Raises:
        UsageError: the symbol's root is not one this daemon trades.
    """
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise UsageError(
            f"symbol {symbol!r} is not a contract of {', '.join(_PRODUCTS)}: "
            "spell it as Sierra Chart does, e.g. ESZ26_FUT_CME"
        )
    try:
        check_symbol(symbol)
    except ValueError as error:
        raise UsageError(f"symbol {symbol!r}: {error}") from None
    root = match["root"]
    return Instrument(symbol, root, *_PRODUCTS[root])
