"""Prices as the server's messages have them: the displayed ones divided by the symbol's DisplayPriceMultiplier."""

from dataclasses import dataclass, fields
from struct import pack, unpack

from mia_daemon.products.instruments import Instrument


@dataclass(frozen=True, slots=True)
class NativeInstrument(Instrument):
    """An instrument with the tick size of the prices in messages; `tick_value` and costs are those of a displayed tick.

    Attributes:
        multiplier: displayed prices per native price, as clients receive it: a float32.
        display_tick_size: the tick size that people see.
        rounding: what a client that divides by that float32 is off, as a share of the price.
    """

    multiplier: float
    display_tick_size: float
    rounding: float

    @property
    def point_value(self) -> float:
        """Account currency per displayed point and contract."""
        return self.tick_value / self.display_tick_size


def native_instrument(instrument: Instrument, multiplier: float) -> NativeInstrument:
    """The instrument as a server prices it whose definition says `multiplier`: at 0.01, a tick of 0.25 is 25."""
    values = {field.name: getattr(instrument, field.name) for field in fields(Instrument)}
    values["tick_size"] = instrument.tick_size / multiplier
    (received,) = unpack("<f", pack("<f", multiplier))
    return NativeInstrument(
        **values,
        multiplier=received,
        display_tick_size=instrument.tick_size,
        rounding=abs(received / multiplier - 1.0),
    )
