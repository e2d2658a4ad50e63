"""Whether a `.scid` file holds what it is taken for: the product's prices and hours, at times that have been.

A finding that can't be right refuses the file. One that can be legitimate is a warning: its text says how it can be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import FileFormatError, UsageError
from mia_daemon.feed.sierra_files import CLEAR_BOOK, DEPTH_RECORD, SCID_RECORD, Records, damaged, to_ns
from mia_daemon.products.contracts import contract_dates, contract_on
from mia_daemon.products.instruments import Instrument, instrument
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.products.product import Product
from mia_daemon.products.product_table import Products
from mia_daemon.products.ticks import beyond_tolerance, nearest_ticks
from mia_daemon.products.trading_calendar import CLOSE_NS, OPEN_NS, load_schedule

NEWEST: Final = 200_000
"""Records at the end of a file that are looked at before a start."""

SAMPLE: Final = 1_000_000
"""Records, evenly taken from a whole file, that are enough to judge it by."""

_FEW: Final = 0.01  # share of prices above which they are not exceptions
_DISTINCT: Final = 30  # prices from which a step that they all share is no chance
_AHEAD_NS: Final = 60 * NS_PER_S  # a clock may be this wrong without a finding here


@dataclass(frozen=True, slots=True)
class PriceFile:
    """A `.scid` or `.depth` file, and what it is taken for.

    Attributes:
        path: for the texts; nothing is read.
        contract: whose prices it is taken for.
        price_multiplier: of stored prices.
        section: of the configuration, whose `price_multiplier` corrects them: `feed`, or `reference`.
    """

    path: Path
    contract: Instrument
    price_multiplier: float = 1.0
    section: str = "feed"


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way in which a file is not what it is taken for.

    Attributes:
        text: what, and what to do.
        refused: it can't be right; else it is a warning.
    """

    text: str
    refused: bool


def name_misfit(path: Path, contract: Instrument, products: Products) -> Misfit | None:
    """Whether a file is named after a contract whose prices are not those of `contract`; a micro has its mini's."""
    named = products.product_of(path.stem)
    if named is None or _same_prices(named, contract.product):
        return None
    text = (
        f"{path} is named after a contract of {named.root}, and {contract.symbol} is one of {contract.root}: name the "
        "file of that contract, or the contract of that file"
    )
    return Misfit(text, refused=True)


def _same_prices(one: Product, other: Product) -> bool:
    """Whether both are of one market: as a micro and its mini."""
    names = ("tick_size", "lowest_price", "highest_price", "hours", "months", "expiry")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def misfits(records: Records, file: PriceFile, now_ns: int) -> list[Misfit]:
    """What is wrong with these records as those of what the file is taken for, worst first.

    Args:
        records: (n,) SCID_RECORD or DEPTH_RECORD; those that are damaged are left out.
        file: where they are from.
        now_ns: the present.
    """
    records = records[~damaged(records)]
    if records.dtype == DEPTH_RECORD:
        records = records[records["command"] != CLEAR_BOOK]
    if not len(records):
        return []
    times = to_ns(records["time"])
    stored = records["close" if records.dtype == SCID_RECORD else "price"]
    prices = PriceScale(file.price_multiplier).prices(stored)
    found = [*_level(prices, file), *_steps(prices, file), *_hours(times, file), *_times(times, file, now_ns)]
    return sorted(found, key=lambda misfit: not misfit.refused)


def refuse(found: list[Misfit]) -> list[str]:
    """The warnings among these. Raises FileFormatError with the first that refuses the file."""
    for misfit in found:
        if misfit.refused:
            raise FileFormatError(misfit.text)
    return [misfit.text for misfit in found]


def _level(prices: NDArray[np.float64], file: PriceFile) -> Iterator[Misfit]:
    path, product, median = file.path, file.contract.product, float(np.median(prices))
    low, high = product.lowest_price, product.highest_price
    text = f"{path} has prices around {median:.10g}, and {product.root} trades between {low:g} and {high:g}"
    if not low <= median <= high:
        factor = next((factor for factor in (0.01, 100.0, 0.001, 1000.0) if low <= median * factor <= high), None)
        scale = "" if factor is None else f"set {file.section}.price_multiplier to {factor:g} times what it is, or "
        remedy = f"{scale}name the file of another product; product.{product.root} has these bounds"
        yield Misfit(f"{text}: {remedy}", refused=True)
        return
    if zero := 0 if low <= 0.0 else int(np.count_nonzero(prices == 0.0)):
        text = f"{path} has {zero:,} records at a price of 0: delete it and let Sierra Chart download it again"
        yield Misfit(text, refused=zero > _FEW * len(prices))
    beyond = int(np.count_nonzero(((prices < low) | (prices > high)) & (prices != 0.0)))
    if beyond:
        text = (
            f"{path} has {beyond:,} records at prices beyond {low:g} to {high:g}: delete it and let Sierra Chart "
            f"download it again, unless {product.root} has traded there (product.{product.root} has these bounds)"
        )
        yield Misfit(text, refused=beyond > _FEW * len(prices))


def _steps(prices: NDArray[np.float64], file: PriceFile) -> Iterator[Misfit]:
    path, root, tick = file.path, file.contract.root, file.contract.tick_size
    nearest = nearest_ticks(prices, tick)
    off = beyond_tolerance(prices, nearest, tick)
    if count := int(np.count_nonzero(off)):
        text = (
            f"{path} has {count:,} of {len(prices):,} prices that are no multiple of {root}'s tick {tick:g} (as "
            f"{prices[off][0]:.10g}): compare symbol, {file.section}.price_multiplier and product.{root}.tick_size; a "
            "few are settlement or average prices"
        )
        yield Misfit(text, refused=count > _FEW * len(prices))
        return
    ticks = np.unique(np.rint(nearest / tick).astype(np.int64))
    step = int(np.gcd.reduce(np.diff(ticks))) if len(ticks) >= _DISTINCT else 1
    if step > 1:
        text = (
            f"{path} has prices in steps of {step * tick:.10g} only, and {root}'s tick is {tick:g}: name the "
            "file of that product, or let Sierra Chart store prices unrounded"
        )
        yield Misfit(text, refused=True)


def _hours(times: NDArray[np.int64], file: PriceFile) -> Iterator[Misfit]:
    path, root, hours = file.path, file.contract.root, file.contract.product.hours
    first, last = (datetime.fromtimestamp(int(end) // NS_PER_S, UTC).date() for end in (times.min(), times.max()))
    try:
        sessions = load_schedule(first - timedelta(days=4), last + timedelta(days=4), None, hours)
    except (UsageError, ValueError, OverflowError):  # beyond what a calendar can hold: another finding's matter
        return
    row = np.searchsorted(sessions[:, OPEN_NS], times, side="right") - 1
    closed = (row < 0) | (times >= sessions[row, CLOSE_NS])
    if count := int(np.count_nonzero(closed)):
        at = iso_utc(int(times[closed][0]))
        text = (
            f"{path} has {count:,} of {len(times):,} records while {root} is closed, the first at {at}: compare its "
            f"symbol and product.{root}.calendar; they are legitimate where the exchange opened all the same"
        )
        yield Misfit(text, refused=False)


def _times(times: NDArray[np.int64], file: PriceFile, now_ns: int) -> Iterator[Misfit]:
    path, contract, newest_ns = file.path, file.contract, int(times.max())
    newest_date = contract.product.hours.trade_date_at(newest_ns)
    if newest_ns > now_ns + _AHEAD_NS:
        text = (
            f"{path} has a record of {iso_utc(newest_ns)}, which is in the future: compare this machine's clock with "
            "Sierra Chart's; it is legitimate where a simulator with a time of its own writes it"
        )
        yield Misfit(text, refused=False)
    expiry = contract_dates(contract, newest_date).expiry
    if newest_date > expiry:
        text = (
            f"{path} has a record of {iso_utc(newest_ns)}, after {contract.symbol} expired on {expiry}: name the file "
            "of that contract (a year of two digits says which decade is meant)"
        )
        yield Misfit(text, refused=False)


def contract_misfit(contract: Instrument, now_ns: int, products: Products, setting: str) -> Misfit | None:
    """Whether a contract has expired, or is not the one in force: what it trades is thin, or nothing.

    Args:
        contract: the contract.
        now_ns: the present.
        products: `Settings.products`.
        setting: of the configuration that names it.
    """
    today = contract.product.hours.trade_date_at(now_ns)
    dates = contract_dates(contract, today)
    if dates.expiry < today:
        return Misfit(f"{contract.symbol} expired on {dates.expiry}: set {setting} to a later one", refused=False)
    front = contract_on(today, "{root}{month}{year}", contract.root, products=products)
    if dates.expiry <= contract_dates(instrument(front.symbol, products), today).expiry:
        return None
    text = (
        f"{contract.symbol} expires on {dates.expiry}, and {front.symbol} is in force until {front.rolls}: the later "
        "one trades little before that; legitimate where it is chosen on purpose"
    )
    return Misfit(text, refused=False)
