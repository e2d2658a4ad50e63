"""The types of the settings' values: each number has bounds, in one place.

What is beyond an upper bound can't be meant as it stands. It would switch off what it sets: a limit that is never
reached, a timeout that never ends. Where a limit may be switched off, the word "waived" does it.
"""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
)

from mia_daemon.printable import printable
from mia_daemon.products.instruments import check_symbol
from mia_daemon.products.product import known_time_zone


class Section(BaseModel):
    """A table of the configuration file."""

    # What was found stays out of the text of a ValidationError: it may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="after")
    @classmethod
    def _no_control_characters(cls, value: Any) -> Any:
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str | Path) and not str(text).isprintable():
                raise ValueError(f"{printable(str(text))!r} has a character that is not printable: remove it")
        return value


WAIVED: Final = "waived"
"""Stands in the file where a limit is not wanted: leaving it out is refused."""

WAIVABLE: Final = (
    BeforeValidator(lambda value: None if value == WAIVED else value),
    PlainSerializer(lambda value: WAIVED if value is None else value),
)
"""What makes a limit one that may be waived."""

_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S
_YEAR_S: Final = 366 * _DAY_S

# Times: `…S` in seconds, `…Ms` in milliseconds; those of `Span` and `Delay` may be 0.
TimeoutS = Annotated[float, Field(gt=0, le=600.0)]  # for an answer
StallS = Annotated[float, Field(ge=1.0, le=600.0)]  # of what is looked at once a second
AbortS = Annotated[float, Field(ge=3.0, le=600.0)]  # the same, where one late look must not be enough
IntervalS = Annotated[float, Field(gt=0, le=_DAY_S)]  # between two of the same kind
SpanS = Annotated[float, Field(ge=0, le=_DAY_S)]  # around something that happens on most days
LongS = Annotated[float, Field(gt=0, le=_YEAR_S)]
LongSpanS = Annotated[float, Field(ge=0, le=_YEAR_S)]
SkewS = Annotated[float, Field(ge=-_YEAR_S, le=_YEAR_S)]
LimitMs = Annotated[float, Field(gt=0, le=_HOUR_S * 1000)]
DelayMs = Annotated[float, Field(ge=0, le=_HOUR_S * 1000)]

# Amounts.
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1e6)]
Multiplier = Annotated[float, Field(ge=1e-6, le=1e6)]
Price = Annotated[float, Field(gt=0, le=1e6)]
Money = Annotated[float, Field(gt=0, le=1e12)]  # account currency
Loss = Annotated[float, Field(gt=0, le=1e9)]  # account currency
Contracts = Annotated[int, Field(ge=1, le=10_000)]
Ticks = Annotated[int, Field(ge=1, le=100_000)]
TicksOrZero = Annotated[int, Field(ge=0, le=100_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000)]
PerDay = Annotated[int, Field(ge=1, le=100_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Port = Annotated[int, Field(ge=0, le=65535)]

# Limits that may be waived: None stands for "waived".
ContractsLimit = Annotated[Contracts | None, *WAIVABLE]
TicksLimit = Annotated[Ticks | None, *WAIVABLE]
CountLimit = Annotated[Count | None, *WAIVABLE]
PerDayLimit = Annotated[PerDay | None, *WAIVABLE]
MoneyLimit = Annotated[Money | None, *WAIVABLE]
LossLimit = Annotated[Loss | None, *WAIVABLE]
ShareLimit = Annotated[Share | None, *WAIVABLE]
IntervalLimit = Annotated[IntervalS | None, *WAIVABLE]
LongLimit = Annotated[LongS | None, *WAIVABLE]
LimitMsLimit = Annotated[LimitMs | None, *WAIVABLE]

# What is kept, and for how long: None stands for "waived", which keeps it for ever.
DaysLimit = Annotated[Annotated[int, Field(ge=1, le=36_600)] | None, *WAIVABLE]
GigabytesLimit = Annotated[Annotated[float, Field(ge=0.01, le=1e6)] | None, *WAIVABLE]  # of 10^9 bytes

# Text.
Symbol = Annotated[str, AfterValidator(check_symbol)]
SymbolOrNone = Annotated[str, AfterValidator(lambda symbol: check_symbol(symbol) if symbol else symbol)]
TimeZone = Annotated[str, AfterValidator(known_time_zone)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


_ACCOUNT_BYTES: Final = 31


def check_account(account: str) -> str:
    """`account`, where it can be the name of one. Raises ValueError."""
    if not account or account != account.strip() or not account.isprintable():
        raise ValueError("an account has a name without control characters, and without white space around it")
    if len(account.encode()) > _ACCOUNT_BYTES:
        raise ValueError(f"the name of an account has at most {_ACCOUNT_BYTES} bytes, as its field in DTC messages")
    return account


Account = Annotated[str, AfterValidator(check_account)]
