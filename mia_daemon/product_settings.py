"""The table `[product.ROOT]` of the configuration: what it says of a product, on top of the one that ships."""

from datetime import date, time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints

from mia_daemon.products.exchange_days import DayRule
from mia_daemon.setting_types import Factor, Section, TimeZone

Root = Annotated[str, StringConstraints(pattern="^[A-Z0-9]{1,6}$")]
_PriceLevel = Annotated[float, Field(ge=-1e6, le=1e9)]
_PriceOf = Annotated[float, Field(gt=0, le=1e9)]
_TickSize = Annotated[float, Field(ge=1e-9, le=1e6)]
_Cost = Annotated[float, Field(ge=0, le=1e6)]
_Months = Annotated[str, StringConstraints(pattern="^F?G?H?J?K?M?N?Q?U?V?X?Z?$", min_length=1)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=60)]


def _time_of_day(text: str) -> str:
    time.fromisoformat(text)  # ValueError names what is wrong
    return text


_TimeOfDay = Annotated[str, StringConstraints(pattern="^[0-2][0-9]:[0-5][0-9]$"), AfterValidator(_time_of_day)]


def _day(value: Any) -> int | str:
    return DayRule(value).day  # ValueError names the days there are


class DayRuleSettings(Section):
    """A day of each contract month; see `DayRule`."""

    day: Annotated[int | str, PlainValidator(_day)]
    months_before: Annotated[int, Field(ge=0, le=24)] = 0
    business_days_before: Annotated[int, Field(ge=0, le=60)] | None = None
    days_before: Annotated[int, Field(ge=0, le=60)] = 0


class ProductSettings(Section):
    """Values of one product; what is left out is that of the product it is like, or of the one that ships."""

    like: Root | None = None
    name: _Name | None = None
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] | None = None
    tick_size: _TickSize | None = None
    tick_value: _PriceOf | None = None
    price_format: Literal["decimal", "32nds", "half_32nds", "quarter_32nds"] | None = None
    price_multiplier: Factor | None = None
    lowest_price: _PriceLevel | None = None
    highest_price: _PriceLevel | None = None
    simulated_price: _PriceOf | None = None
    commission_per_side: _Cost | None = None
    exchange_fee_per_side: _Cost | None = None
    companion: Root | Literal[""] | None = None
    months: _Months | None = None
    symbols: tuple[str, ...] | None = None
    calendar: str | None = None
    time_zone: TimeZone | None = None
    session_open: _TimeOfDay | None = None
    session_close: _TimeOfDay | None = None
    regular_open: _TimeOfDay | None = None
    regular_close: _TimeOfDay | None = None
    closed_days: tuple[date, ...] | None = None
    expiry: DayRuleSettings | None = None
    last_trade_at: _TimeOfDay | None = None
    first_notice: DayRuleSettings | None = None
    roll: DayRuleSettings | None = None

    def table(self) -> dict[str, Any]:
        """The values that are set, as a table of products.toml has them."""
        return self.model_dump(exclude_none=True)
