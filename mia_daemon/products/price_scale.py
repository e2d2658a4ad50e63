"""How the prices stored in Sierra Chart's files become prices of the market: each symbol has its own scale."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mia_daemon.products.product import Product
from mia_daemon.products.ticks import on_ticks


@dataclass(frozen=True, slots=True)
class PriceScale:
    """The scale of one symbol's stored prices.

    Attributes:
        multiplier: of stored prices; some data services store them in hundredths.
        tick_size: on which prices are put, where float32 has moved them off it, points; None leaves them as they are.
    """

    multiplier: float = 1.0
    tick_size: float | None = None

    @classmethod
    def of(cls, product: Product | None, multiplier: float | None = None) -> Self:
        """The scale of a symbol's prices.

        Args:
            product: of the symbol; None where it is not known: then there is no tick, and the multiplier is 1.
            multiplier: in place of the product's.
        """
        if product is None:
            return cls(multiplier or 1.0)
        return cls(multiplier or product.price_multiplier, product.tick_size)

    def prices(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Stored float32 prices as prices of the market: the one place where they become float64."""
        wide = stored.astype(np.float64)
        if self.multiplier != 1.0:
            # Rounding removes what the multiplication adds: 600025 x 0.01 has to be 6000.25 to the last bit.
            wide = np.round(wide * self.multiplier, 9)
        return wide if self.tick_size is None else on_ticks(wide, self.tick_size)


AS_STORED: Final = PriceScale()
"""Prices stay as they are in the file."""
