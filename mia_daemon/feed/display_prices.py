"""Prices of a DTC server as people see them: the server's own, times the symbol's DisplayPriceMultiplier."""

from typing import Final

import numpy as np

from mia_daemon.dtc.messages import UNSET_F32, SecurityDefinitionResponse
from mia_daemon.products.ticks import nearest_decimal
from mia_daemon.records import EventArray

_NAMES: Final = ("price", "bid", "ask")


class DisplayPrices:
    """Multiplies the prices of symbols whose definition asks for it; all others stay as they are, to the bit."""

    def __init__(self) -> None:
        self._multipliers: dict[int, float] = {}  # by the `symbol` column; only those that change anything

    def define(self, symbol: int, definition: SecurityDefinitionResponse) -> bool:
        """Take a symbol's definition; a multiplier that is unset or makes no sense counts as 1.

        Returns:
            Whether the multiplier is another than before.
        """
        multiplier = definition.DisplayPriceMultiplier
        before = self._multipliers.pop(symbol, 1.0)
        if 0.0 < multiplier < UNSET_F32 and multiplier != 1.0:
            self._multipliers[symbol] = nearest_decimal(multiplier)
        return self._multipliers.get(symbol, 1.0) != before

    def apply(self, events: EventArray) -> None:
        """Change prices in place."""
        for symbol, multiplier in self._multipliers.items():
            rows = events["symbol"] == symbol
            for name in _NAMES:
                # Rounding removes what the multiplication adds: 600025 x 0.01 has to be 6000.25 to the last bit.
                events[name][rows] = np.round(events[name][rows] * multiplier, 9)
