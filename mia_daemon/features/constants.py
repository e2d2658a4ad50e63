"""The numbers in the features that are fitted to a market: a model bundle brings them, else the defaults hold.

A feature with other constants is another feature, so a model has to run with those that it was trained with: they are a
file of its bundle, and the saved state of a pipeline belongs to the constants that made it.
"""

import hashlib
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVELS: Final = 10
"""Populated levels of the order book on each side."""

SPREADS: Final = 4
"""Rows of the table of micro-price adjustments: a spread of 1, 2, 3, and of 4 ticks or more."""

IMBALANCES: Final = 10
"""Its columns: equal parts of -1 … 1, the range of `l1_imb`."""

_Weight = Annotated[float, Field(ge=-1e3, le=1e3)]
_Row = Annotated[tuple[float, ...], Field(min_length=IMBALANCES, max_length=IMBALANCES)]


class FittedConstants(BaseModel):
    """What constants.json of a bundle holds; what it leaves out has its default.

    Attributes:
        large_trade: contracts from which a trade counts as large (`large_delta_*`): fitted, the 95 % quantile of sizes.
        level_weights: of the order flow imbalance at each level (`iofi_10_*`), best first; only their ratios matter:
            fitted, the first principal component of the ten (Cont, Cucuringu & Zhang 2023).
        micro_adjustment: how far the micro-price is from the mid, ticks (`micro_adj_ticks`), a row for each spread and
            a column for each part of the imbalance: fitted, Stoikov's G* (2018). None: spread / 2 · I |I|.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    large_trade: Annotated[float, Field(ge=1, le=1e6)] = 10.0
    level_weights: Annotated[tuple[_Weight, ...], Field(min_length=LEVELS, max_length=LEVELS)] = (1.0,) * LEVELS
    micro_adjustment: Annotated[tuple[_Row, ...], Field(min_length=SPREADS, max_length=SPREADS)] | None = None

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if sum(map(abs, self.level_weights)) < 1e-6:
            raise ValueError("level_weights must not all be 0")
        for spread, row in enumerate(self.micro_adjustment or (), 1):
            if max(map(abs, row)) > spread:
                raise ValueError(f"micro_adjustment: with a spread of {spread} no value may be beyond ±{spread} ticks")
        return self

    @property
    def sha256(self) -> str:
        """Of the values, wherever they come from: the defaults written down are the defaults."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


DEFAULTS: Final = FittedConstants()
