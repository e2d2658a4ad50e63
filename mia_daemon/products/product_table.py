"""The products in force: those that ship with the daemon, and what the configuration's `[product]` adds to them."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, Self

from mia_daemon.errors import UsageError
from mia_daemon.products.product import MONTH_CODES, ContractCode, Product, make_product

_SYMBOL: Final = re.compile(rf"(?P<root>[A-Z0-9]+?)(?P<month>[{MONTH_CODES}])(?P<year>[0-9]{{1,2}})(?:[-_.].*)?")

_Tables = Mapping[str, Mapping[str, Any]]


class Products(Mapping[str, Product]):
    """Products by root, in the order of their tables."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables
        self._products = {root: make_product(root, _resolved(root, tables)) for root in tables}

    def __getitem__(self, root: str) -> Product:
        return self._products[root]

    def __iter__(self) -> Iterator[str]:
        return iter(self._products)

    def __len__(self) -> int:
        return len(self._products)

    def with_tables(self, tables: _Tables) -> Self:
        """These with further products, or other values of some. Raises UsageError as `make_product` does."""
        if not tables:
            return self
        merged = {root: {**self._tables.get(root, {}), **tables.get(root, {})} for root in {**self._tables, **tables}}
        return type(self)(merged)

    def find(self, symbol: str) -> tuple[Product, ContractCode] | None:
        """The product and contract that a symbol names, in any spelling; None where it is none of these."""
        match = _SYMBOL.fullmatch(symbol)
        if match is not None and (product := self._products.get(match["root"])) is not None:
            return product, ContractCode(product.root, match["month"], match["year"])
        for product in self._products.values():
            if (code := product.spelling(symbol)) is not None:
                return product, code
        return None

    def product_of(self, symbol: str) -> Product | None:
        """The product that a symbol is a contract of; None where it is none of these."""
        found = self.find(symbol)
        return None if found is None else found[0]


def _resolved(root: str, tables: _Tables) -> dict[str, Any]:
    """A table with the values of the products it is like, nearest first."""
    values: dict[str, Any] = {}
    chain, name = [root], root
    while True:
        own = tables[name]
        values = {**own, **values}
        name = own.get("like", "")
        if not name:
            values.pop("like", None)
            return values
        if name not in tables or name in chain:
            raise UsageError(f"product.{chain[-1]}.like: {name!r} is no other product; known: {', '.join(tables)}")
        chain.append(name)


@cache
def shipped() -> Products:
    """The products that the daemon ships."""
    return Products(tomllib.loads(files("mia_daemon.products").joinpath("products.toml").read_text(encoding="utf-8")))
