"""What of a statement is ours, and how its symbols, accounts, prices and orders are those of the journal."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.errors import UsageError
from mia_daemon.journal.view import JournalView
from mia_daemon.products.instruments import same_contract
from mia_daemon.products.product import Product
from mia_daemon.products.product_table import Products
from mia_daemon.records import Fill
from mia_daemon.statement.activity_log import Statement, StatementFill
from mia_daemon.statement.matching import Stated

SIMULATED_PREFIX: Final = "[Sim]"
"""Stands before the symbol of orders that Sierra Chart simulates."""


@dataclass(frozen=True, slots=True)
class StatementScope:
    """What is compared.

    Attributes:
        server: the traded account and contract, with their other spellings.
        products: those in force.
        price_multiplier: of the statement's prices; None: the power of ten that makes them prices of the product.
    """

    server: ServerScope
    products: Products
    price_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class Scoped:
    """The executions of a statement that are compared, and what else it holds.

    Attributes:
        fills: of our account, by contract in our spelling, oldest first.
        left_out: executions of other accounts and of other contracts, by that name.
    """

    fills: dict[str, list[Stated]]
    left_out: Counter[str]


def scoped(statement: Statement, scope: StatementScope, view: JournalView) -> Scoped:
    """The statement's executions in the account and the contracts that we trade, or did according to the journal.

    Raises:
        UsageError: prices are on no scale that the product can have.
    """
    contracts = _journaled_contracts(view, scope.server)
    names = _order_names(view)
    found: dict[str, list[StatementFill]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for row in statement.fills:
        account = scope.server.account_of(row.fill.account)
        symbol = _symbol(row.fill.symbol, scope.server, contracts)
        if account != scope.server.account:
            left_out[f"account {account}"] += 1
        elif symbol not in contracts:
            left_out[f"symbol {symbol}"] += 1
        else:
            found[symbol].append(row)
    fills = {}
    for symbol, rows in found.items():
        multiplier = scope.price_multiplier or _multiplier(statement, symbol, rows, scope.products.product_of(symbol))
        fills[symbol] = [
            Stated(number, row, _as_journaled(row, symbol, scope.server.account, multiplier, names))
            for number, row in enumerate(rows)
        ]
    return Scoped(fills, left_out)


def _journaled_contracts(view: JournalView, server: ServerScope) -> frozenset[str]:
    rows = view.rows(
        "SELECT symbol FROM fills WHERE account = :a UNION SELECT symbol FROM intents WHERE account = :a",
        {"a": server.account},
    )
    return frozenset({server.instrument.symbol, *(row["symbol"] for row in rows)})


def _symbol(spelled: str, server: ServerScope, contracts: Iterable[str]) -> str:
    spelled = spelled.removeprefix(SIMULATED_PREFIX).strip()
    ours = server.symbol(spelled)
    if ours in contracts:
        return ours
    return next((contract for contract in sorted(contracts) if same_contract(contract, spelled)), ours)


def _order_names(view: JournalView) -> dict[str, str]:
    """Client order ids by every identifier under which the journal knows an order."""
    names = {}
    for table in ("updates", "fills", "intents"):
        sql = f"SELECT DISTINCT client_order_id AS name, server_order_id AS number FROM {table} WHERE name <> ''"  # noqa: S608  our names
        for row in view.rows(sql):
            names[row["number"]] = row["name"]
            names[row["name"]] = row["name"]
    names.pop("", None)
    return names


def _as_journaled(row: StatementFill, symbol: str, account: str, multiplier: float, names: Mapping[str, str]) -> Fill:
    name = next((names[order] for order in row.order_ids if order in names), "")
    return replace(
        row.fill,
        symbol=symbol,
        account=account,
        # Rounding removes what the multiplication adds: 600025 x 0.01 has to be 6000.25 to the last bit.
        price=row.fill.price if multiplier == 1.0 else round(row.fill.price * multiplier, 9),
        client_order_id=name,
        server_order_id="" if name else next(iter(row.order_ids), ""),
    )


def _multiplier(statement: Statement, symbol: str, rows: list[StatementFill], product: Product | None) -> float:
    if product is None:
        return 1.0
    price = statistics.median(row.fill.price for row in rows)
    for power in range(10):
        if product.lowest_price <= price * 10.0**-power <= product.highest_price:
            return float(f"1e-{power}")
    raise UsageError(
        f"statement {statement.path}: {price:g} is no price of {symbol} on any scale known; say by which number its "
        "prices are to be multiplied: --price-multiplier 0.01"
    )
