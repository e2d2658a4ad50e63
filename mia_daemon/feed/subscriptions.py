"""What a DTC feed requests of the server, and whose prices have to wait until their definition is known.

A definition says by what a symbol's prices are to be multiplied. Without it they may be 100 times too high.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mia_daemon.dtc.enums import RequestActionEnum
from mia_daemon.dtc.messages import (
    MarketDataRequest,
    MarketDepthRequest,
    Message,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
)

TRADED_ID: Final = 1  # SymbolIDs of our choice
REFERENCE_ID: Final = 2


class Subscriptions:
    """The requests for each symbol, and which symbols wait for their definition.

    Args:
        symbols: names as the server spells them, by SymbolID; the SymbolID is the RequestID of the definition too.
        depth_levels: of the traded symbol's order book, per side; 0 requests no depth.
    """

    def __init__(self, symbols: Mapping[int, str], depth_levels: int) -> None:
        self._symbols = symbols
        self._depth_levels = depth_levels
        self._known: set[int] = set()  # defined once: that multiplier holds on later connections too
        self._waiting: set[int] = set()

    @property
    def waiting(self) -> list[int]:
        """SymbolIDs whose prices must not be requested yet."""
        return sorted(self._waiting)

    def names(self, symbol_ids: Iterable[int]) -> str:
        """The symbols, for people."""
        return " and ".join(self._symbols[symbol_id] for symbol_id in symbol_ids)

    def start(self, *, defined: bool) -> list[int]:
        """Begin a subscription; returns the SymbolIDs whose prices may be requested at once.

        Args:
            defined: whether the server says that it has definitions; if not, nothing waits for one.
        """
        self._waiting = self._symbols.keys() - self._known if defined else set()
        return [symbol_id for symbol_id in self._symbols if symbol_id not in self._waiting]

    def definition_requests(self, symbol_ids: Iterable[int]) -> list[Message]:
        return [
            SecurityDefinitionForSymbolRequest(RequestID=symbol_id, Symbol=self._symbols[symbol_id])
            for symbol_id in symbol_ids
        ]

    def price_requests(self, symbol_ids: Iterable[int]) -> list[Message]:
        """Trades and quotes, and the depth of the traded symbol where it is among them."""
        action = RequestActionEnum.SUBSCRIBE
        wanted = {symbol_id: self._symbols[symbol_id] for symbol_id in symbol_ids}
        requests: list[Message] = [
            MarketDataRequest(RequestAction=action, SymbolID=symbol_id, Symbol=name)
            for symbol_id, name in wanted.items()
        ]
        if self._depth_levels and TRADED_ID in wanted:
            depth = MarketDepthRequest(
                RequestAction=action, SymbolID=TRADED_ID, Symbol=wanted[TRADED_ID], NumLevels=self._depth_levels
            )
            requests.append(depth)
        return requests

    def defined_by(self, definition: SecurityDefinitionResponse) -> list[int]:
        """SymbolIDs that the definition is of; a server may answer without the RequestID."""
        if definition.RequestID:
            return [definition.RequestID] if definition.RequestID in self._symbols else []
        return [symbol_id for symbol_id, name in self._symbols.items() if name == definition.Symbol]

    def refused_by(self, reject: SecurityDefinitionReject) -> list[int]:
        """Waiting SymbolIDs that the reject is of: without a RequestID, all that wait."""
        return [symbol_id for symbol_id in self.waiting if reject.RequestID in {0, symbol_id}]

    def end_wait(self, symbol_id: int, *, known: bool) -> bool:
        """Take note of an answer. True where the symbol's prices waited for it, and may be requested now.

        Args:
            symbol_id: of the symbol whose definition was answered or refused.
            known: whether the answer is the definition, so that later subscriptions need not wait.
        """
        if known:
            self._known.add(symbol_id)
        waited = symbol_id in self._waiting
        self._waiting.discard(symbol_id)
        return waited
