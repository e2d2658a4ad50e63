"""The one account and symbol that are traded, as we name them and as the order server spells them."""

from dataclasses import dataclass
from typing import Self

from mia_daemon.config import Settings
from mia_daemon.products.instruments import Instrument, contract_of


@dataclass(frozen=True, slots=True)
class ServerScope:
    """What is traded, and how the server spells it.

    Attributes:
        instrument: ours.
        account: ours.
        trade_symbol: the symbol in orders and queries.
        symbols, accounts: every spelling in what the server says that means ours.
    """

    instrument: Instrument
    account: str
    trade_symbol: str
    symbols: frozenset[str]
    accounts: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, instrument: Instrument) -> Self:
        """From the settings; in spellings {root}, {month} and {year} stand for those of the contract."""
        traded, broker = settings.instrument, settings.broker
        trade_symbol = _spelled(traded.trade_symbol or instrument.symbol, instrument.symbol)
        spellings = {_spelled(text, instrument.symbol) for text in broker.symbol_spellings}
        return cls(
            instrument=instrument,
            account=traded.trade_account,
            trade_symbol=trade_symbol,
            symbols=frozenset({instrument.symbol, trade_symbol, *spellings}),
            accounts=frozenset({traded.trade_account, *broker.account_spellings}),
        )

    def symbol(self, told: str) -> str:
        """Our symbol where `told` means it or is blank; else as told."""
        return self.instrument.symbol if not told or told in self.symbols else told

    def account_of(self, told: str) -> str:
        """Our account where `told` means it or is blank; else as told."""
        return self.account if not told or told in self.accounts else told


def _spelled(text: str, symbol: str) -> str:
    contract = contract_of(symbol)
    if contract is None:
        return text
    return text.replace("{root}", contract.root).replace("{month}", contract.month).replace("{year}", contract.year)
