"""What a `.scid` or `.depth` file holds, for people: how much, from when to when, what is odd about it."""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import UsageError
from mia_daemon.feed.file_fit import PriceFile, misfits
from mia_daemon.feed.sierra_files import (
    CLEAR_BOOK,
    DEPTH,
    END_OF_BATCH,
    FIRST_SUBTRADE_BITS,
    LAST_SUBTRADE_BITS,
    OLD_TIMES,
    SCID,
    Format,
    Records,
    map_records,
    times_in_days,
    to_ns,
)
from mia_daemon.products.instruments import Instrument, instrument
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.products.product_table import Products
from mia_daemon.products.ticks import float32_decimals
from mia_daemon.products.trading_calendar import CLOSE_NS, OPEN_NS, load_schedule

_LONGEST: Final = 5
_COMMANDS: Final = ("", "clears", "adds", "adds", "modifications", "modifications", "deletions", "deletions")


@dataclass(frozen=True, slots=True)
class Silence:
    """Two records with nothing between them while the exchange was open."""

    begins: str
    ends: str
    open_s: float

    def __str__(self) -> str:
        return f"{self.begins} to {self.ends}: {timedelta(seconds=round(self.open_s))}"


@dataclass(frozen=True, slots=True)
class FileReport:
    """The keys of `scid info --json`.

    Attributes:
        prices: the three before, as people write prices of the product.
        torn_bytes: of an unfinished record at the end, as while the file is being written.
        counts: by what the records are; for trades `single`, `first`, `inside` and `last` parts of bundled trades and
            `bars`, for depth by command and `batches`.
        odd: records that are not as they should be, by how; only those there are.
        misfits: ways in which it is not a file of the contract that it is named after, and what to do.
        silences: longer than asked for, counted in the hours in which the exchange is open, for contracts known here.
        longest: of them.
    """

    file: str
    kind: str
    symbol: str
    records: int
    torn_bytes: int
    first: str
    last: str
    low: float | None
    high: float | None
    newest_price: float | None
    prices: str
    volume: int
    bid_volume: int
    ask_volume: int
    counts: dict[str, int]
    odd: dict[str, int]
    misfits: tuple[str, ...]
    silence_s: float
    silences: int
    longest: tuple[Silence, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        torn = f", and {self.torn_bytes} bytes of one more" if self.torn_bytes else ""
        lines = [
            ("file", f"{self.file} ({self.kind})"),
            ("symbol", self.symbol),
            ("records", f"{self.records:,}{torn}"),
        ]
        if self.records:
            lines += [("from", self.first), ("to", self.last), ("prices", self.prices)]
            if self.kind == SCID.name:
                bid, ask = f"{self.bid_volume:,} at the bid", f"{self.ask_volume:,} at the ask"
                lines.append(("volume", f"{self.volume:,}: {bid}, {ask}"))
            lines += [(name, f"{count:,}") for name, count in self.counts.items()]
            lines += [(name, f"{count:,} (odd)") for name, count in self.odd.items()]
            lines += [("misfit", text) for text in self.misfits]
            lines.append(("silences", f"{self.silences:,} of more than {self.silence_s:g} s while open"))
            lines += [("", str(silence)) for silence in self.longest]
        return "\n".join(f"{name:<10}  {text}" for name, text in lines)


def shown_prices(prices: NDArray[Any], traded: Instrument | None) -> tuple[list[float], list[str]]:
    """Float32 prices of a file as numbers on the tick, and as people write them; for few of them."""
    if traded is None:
        numbers = float32_decimals(prices).tolist()
        return numbers, [f"{number:.10g}" for number in numbers]
    product = traded.product
    numbers = PriceScale.of(product).prices(prices).tolist()
    on_tick = [number == traded.round_to_tick(number) if math.isfinite(number) else False for number in numbers]
    texts = zip(numbers, on_tick, strict=True)
    return numbers, [product.price_text(number) if fits else f"{number:.10g}" for number, fits in texts]


def report_on(path: Path, silence_s: float, now_ns: int, products: Products | None = None) -> FileReport:
    """Look at a whole file; nothing is refused but what is neither format. Raises FileFormatError.

    Args:
        path: of the file; its name says which contract it holds.
        silence_s: silences longer than this are listed.
        now_ns: the present.
        products: `Settings.products`; by default those that ship with the daemon.
    """
    fmt, records, torn = map_records(path, SCID, DEPTH)
    trades = fmt is SCID
    price = records["close" if trades else "price"]
    times = to_ns(records["time"].astype(np.int64))
    shown = price if trades else price[records["command"] != CLEAR_BOOK]
    finite = shown[np.isfinite(shown)]
    symbol = symbol_of(path)
    traded = contract_of_file(symbol, products)
    low, high, newest, texts = _extremes(finite, traded)
    silences = _silences(times, traded, silence_s)
    return FileReport(
        file=str(path),
        kind=fmt.name,
        symbol=symbol,
        records=len(records),
        torn_bytes=torn,
        first=time_text(records["time"][0]) if len(records) else "",
        last=time_text(records["time"][-1]) if len(records) else "",
        low=low,
        high=high,
        newest_price=newest,
        prices=texts,
        volume=_sum(records, "total_volume") if trades else 0,
        bid_volume=_sum(records, "bid_volume") if trades else 0,
        ask_volume=_sum(records, "ask_volume") if trades else 0,
        counts=_trade_counts(records) if trades else _depth_counts(records),
        odd={name: count for name, count in _odd(fmt, records, times).items() if count},
        misfits=_misfits(path, records, traded, now_ns),
        silence_s=silence_s,
        silences=len(silences),
        longest=tuple(sorted(silences, key=lambda silence: -silence.open_s)[:_LONGEST]),
    )


def _extremes(prices: NDArray[Any], traded: Instrument | None) -> tuple[float | None, float | None, float | None, str]:
    """The lowest, the highest and the newest price, and all three for people."""
    if not len(prices):
        return None, None, None, "none"
    numbers, texts = shown_prices(np.array([prices.min(), prices.max(), prices[-1]]), traded)
    return numbers[0], numbers[1], numbers[2], f"{texts[0]} to {texts[1]}, newest {texts[2]}"


def contract_of_file(symbol: str, products: Products | None) -> Instrument | None:
    """The contract that a file's name begins with; None for a product that is not known."""
    try:
        return instrument(symbol, products)
    except UsageError:
        return None


def _misfits(path: Path, records: Records, traded: Instrument | None, now_ns: int) -> tuple[str, ...]:
    if times_in_days(records).any():
        return (f"its times are {OLD_TIMES}",)
    if traded is None:
        return ()
    found = misfits(records, PriceFile(path, traded, traded.product.price_multiplier), now_ns)
    return tuple(misfit.text.removeprefix(f"{path} ") for misfit in found)


def symbol_of(path: Path) -> str:
    """`ESZ26_FUT_CME` of `ESZ26_FUT_CME.scid` and of `ESZ26_FUT_CME.2026-11-23.depth`."""
    of_day = path.suffix == DEPTH.name and path.stem.rpartition(".")[0]
    return of_day or path.stem


def trade_kinds(records: Records) -> NDArray[np.str_]:
    """For each trade record: `single` or `inside` (told apart by the markers around it), `first`, `last`, or `bar`."""
    opening = records["open"].view("<u4")
    first, last = opening == FIRST_SUBTRADE_BITS, opening == LAST_SUBTRADE_BITS
    nested = np.cumsum(first.astype(np.int64) - last)
    inside = nested > np.minimum.accumulate(np.minimum(nested, 0))  # a last part without a first begins nothing
    bar = (opening & 0x7FFFFFFF != 0) & ~first & ~last
    return np.select([first, last, bar, inside], ["first", "last", "bar", "inside"], "single")


def _trade_counts(records: Records) -> dict[str, int]:
    kinds = trade_kinds(records)
    names = {"single": "single", "first": "first", "inside": "inside", "last": "last", "bar": "bars"}
    return {name: int((kinds == kind).sum()) for kind, name in names.items()}


def _depth_counts(records: Records) -> dict[str, int]:
    counts = np.bincount(records["command"], minlength=256)
    found: dict[str, int] = {}
    for command, name in enumerate(_COMMANDS):
        if name:
            found[name] = found.get(name, 0) + int(counts[command])
    return {**found, "batches": int((records["flags"] & END_OF_BATCH != 0).sum())}


def _odd(fmt: Format, records: Records, times: NDArray[np.int64]) -> dict[str, int]:
    odd = {"time goes back": int((np.diff(times) < 0).sum()) if len(times) else 0}
    if fmt is DEPTH:
        command = records["command"]
        return {**odd, "unknown command": int(((command < CLEAR_BOOK) | (command >= len(_COMMANDS))).sum())}
    bid, ask = records["low"], records["high"]
    return {
        **odd,
        "no price": int((~np.isfinite(records["close"])).sum()),
        "ask under bid": int(((ask < bid) & (ask != 0) & (trade_kinds(records) != "bar")).sum()),
        "no volume": int((records["total_volume"] == 0).sum()),
    }


def _sum(records: Records, name: str) -> int:
    return int(records[name].sum(dtype=np.int64))


def time_text(time_us: Any) -> str:
    """ISO 8601, or the number where it is no time of this world."""
    try:
        return iso_utc(int(to_ns(int(time_us))))
    except (ValueError, OverflowError, OSError):
        return str(int(time_us))


# ------------------------------------------------------------------------------------------------ silences


def _silences(times: NDArray[np.int64], traded: Instrument | None, longer_than_s: float) -> list[Silence]:
    before = np.flatnonzero(np.diff(times) > round(longer_than_s * NS_PER_S))
    begins, ends = times[before], times[before + 1]
    open_ns = _open_ns(begins, ends, traded)
    return [
        Silence(iso_utc(int(begin)), iso_utc(int(end)), int(spent) / NS_PER_S)
        for begin, end, spent in zip(begins, ends, open_ns, strict=True)
        if spent > longer_than_s * NS_PER_S
    ]


def _open_ns(begins: NDArray[np.int64], ends: NDArray[np.int64], traded: Instrument | None) -> NDArray[np.int64]:
    """How much of each stretch of time the exchange is open; all of it for a product whose hours are not known."""
    if traded is None:
        return ends - begins
    try:
        last = _date(ends.max()) + timedelta(days=1)
        schedule = load_schedule(_date(begins.min()), last, hours=traded.product.hours)
    except (UsageError, ValueError, OverflowError):
        return ends - begins
    opens, closes = schedule[:, OPEN_NS], schedule[:, CLOSE_NS]
    spent = np.concatenate(([0], np.cumsum(closes - opens)))

    def until(moment: NDArray[np.int64]) -> NDArray[np.int64]:
        row = np.searchsorted(opens, moment, side="right") - 1
        whole: NDArray[np.int64] = spent[row] + np.minimum(moment, closes[row]) - opens[row]
        return np.where(row >= 0, whole, 0)

    return until(ends) - until(begins)


def _date(ts_ns: Any) -> date:
    return datetime.fromtimestamp(int(ts_ns) // NS_PER_S, UTC).date()
