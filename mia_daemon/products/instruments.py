"""One tradable symbol: which contract of which product it names, and what prices and money are counted in."""

import math
import re
from dataclasses import dataclass
from typing import Final

from mia_daemon.errors import UsageError
from mia_daemon.products.product import MONTH_CODES, ContractCode, Product
from mia_daemon.products.product_table import Products, shipped
from mia_daemon.products.ticks import nearest_tick

OFF_TICK: Final = 0.005
"""Share of a tick by which a price may be off it: what a price in a float32 is off, and far less than a wrong scale."""

MAX_PRICE_RATIO: Final = 1.5
"""A price this far from the market is a wrong scale, not a price."""

MAX_RANGE_SHARE: Final = 0.05
"""Of a product's plausible prices, where they go below zero: so far from the market is a price all the same."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable symbol.

    Attributes:
        symbol: exactly as Sierra Chart spells it (`ESZ26_FUT_CME`, `MNQU21-CME`).
        tick_size: minimum price increment, points.
        tick_value: account currency per tick and contract.
        cost_per_side: commission and exchange fees per contract and side, account currency.
        product: what it is a contract of.
        contract: which one.
    """

    symbol: str
    root: str
    tick_size: float
    tick_value: float
    cost_per_side: float
    product: Product
    contract: ContractCode

    @property
    def point_value(self) -> float:
        return self.tick_value / self.tick_size

    def round_to_tick(self, price: float) -> float:
        """The nearest valid price."""
        return nearest_tick(price, self.tick_size)

    def is_on_tick(self, price: float) -> bool:
        """Whether a price is a valid one, but for `OFF_TICK` of a tick."""
        ticks = price / self.tick_size
        return abs(ticks - round(ticks)) <= OFF_TICK

    def is_price(self, price: float) -> bool:
        """Whether a number can be a price of it. 0 is none: in orders and messages it stands for an unknown price."""
        return math.isfinite(price) and (price > 0.0 or (price < 0.0 and self.product.quotes_below_zero))

    def is_same_scale(self, price: float, known: float) -> bool:
        """Whether a price can be one of the market in which `known` is one, and no multiple of it by mistake."""
        if known <= 0.0 or known / MAX_PRICE_RATIO < price < known * MAX_PRICE_RATIO:
            return True
        if not self.product.quotes_below_zero:
            return False
        # Near zero a ratio says nothing.
        return abs(price - known) < MAX_RANGE_SHARE * (self.product.highest_price - self.product.lowest_price)

    def notional(self, price: float, quantity: int) -> float:
        """Value of so many contracts, account currency; never negative, whatever the price."""
        return abs(quantity) * abs(price) * self.point_value


_CONTRACT = re.compile(rf"(?P<root>[A-Z0-9]{{1,4}}?)(?P<month>[{MONTH_CODES}])(?P<year>[0-9]{{1,2}})")

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
    """The contract that a symbol names, whatever stands around it: `ESZ26_FUT_CME`, `MESU24-CME`, `F.US.EPM25`."""
    if (found := shipped().find(symbol)) is not None:
        return found[1]
    for part in re.split(r"[^A-Z0-9]+", symbol.upper()):
        if (match := _CONTRACT.fullmatch(part)) is not None:
            return ContractCode(match["root"], match["month"], match["year"])
    return None


def same_contract(one: str, other: str) -> bool:
    """Whether two spellings name the same contract."""
    a, b = contract_of(one), contract_of(other)
    return a is not None and b is not None and a[:2] == b[:2] and a.year[-1] == b.year[-1]


def companion(traded: Instrument) -> str:
    """The contract of the product's natural reference, of the same month: NQ beside ES; "" where it has none."""
    product = traded.product
    if not product.companion:
        return ""
    if traded.symbol.startswith(traded.root):
        return product.companion + traded.symbol.removeprefix(traded.root)
    return f"{product.companion}{traded.contract.month}{traded.contract.year}"


def instrument(symbol: str, products: Products | None = None) -> Instrument:
    """The instrument behind a Sierra Chart symbol.

    Args:
        symbol: in any spelling that a product has.
        products: `Settings.products`; by default those that ship with the daemon.

    Raises:
        UsageError: it is a contract of none of them.
    """
    products = shipped() if products is None else products
    found = products.find(symbol)
    if found is None:
        raise UsageError(
            f"symbol {symbol!r} is not a contract of {', '.join(products)}: spell it as Sierra Chart does, e.g. "
            "ESZ26_FUT_CME, or describe its product in a table [product.ROOT] of the configuration (docs/products.md)"
        )
    try:
        check_symbol(symbol)
    except ValueError as error:
        raise UsageError(f"symbol {symbol!r}: {error}") from None
    product, contract = found
    return Instrument(
        symbol, product.root, product.tick_size, product.tick_value, product.cost_per_side, product, contract
    )
