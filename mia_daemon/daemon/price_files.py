"""Sierra Chart's files of prices, looked at before a start and before a replay. Nothing is written."""

import os
from pathlib import Path
from typing import NamedTuple

from mia_daemon.clock import iso_utc
from mia_daemon.config import Settings
from mia_daemon.errors import ConfigError, FileFormatError, UsageError
from mia_daemon.feed.file_fit import NEWEST, SAMPLE, PriceFile, contract_misfit, misfits, name_misfit, refuse
from mia_daemon.feed.recording import is_recording, recording_symbol
from mia_daemon.feed.replay_feed import refuse_directory
from mia_daemon.feed.scid_feed import newest_scid_ns
from mia_daemon.feed.sierra_files import Records, newest_records, read_scid
from mia_daemon.products.instruments import Instrument, instrument


class LiveFiles(NamedTuple):
    """What the files of `feed.source = "scid"` hold; and warnings about them."""

    text: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text + "".join(f"; warning: {text}" for text in self.warnings)


def check_live_files(settings: Settings, now_ns: int) -> LiveFiles:
    """Look at the files of the traded symbol and of the reference symbol.

    A file may be missing if its directory exists: Sierra Chart creates it when a chart is opened. A reference file that
    can't be read is a warning, as it holds up nothing; one that can't be the reference's is a wrong configuration.

    Raises:
        ConfigError: a file or directory is not where the configuration says.
        FileFormatError: a file can't be that of its contract, or the traded symbol's is no `.scid` of single trades.
    """
    depth = settings.feed.depth_directory
    if depth is not None and not depth.is_dir():
        raise ConfigError(f"{depth} is no directory: set feed.depth_directory to Sierra Chart's MarketDepthData folder")
    reference = settings.reference.scid_file
    if reference is not None and not reference.parent.is_dir():
        raise ConfigError(f"{reference.parent} is no directory: set reference.scid_path, or leave [reference] out")
    traded = _traded_file(settings, now_ns)
    if reference is None:
        return traded
    warnings = _live_reference_warnings(settings, reference, now_ns)
    named = (f"reference {reference}: {text}" for text in warnings)
    return LiveFiles(f"{traded.text}; reference {reference}", (*traded.warnings, *named))


def _traded_file(settings: Settings, now_ns: int) -> LiveFiles:
    symbol = settings.instrument.symbol
    path = settings.feed.scid_file(symbol)
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no directory: set feed.scid_path to a file in Sierra Chart's Data folder")
    if not path.exists():
        return LiveFiles(
            f"{path} is not there yet: it is read as soon as Sierra Chart makes it (open a chart of the symbol)"
        )
    if not os.access(path, os.R_OK):
        raise ConfigError(f"{path} can't be read by this user: check its permissions")
    newest_ns = newest_scid_ns(path)
    if newest_ns is None:
        return LiveFiles(f"{path}: no records yet")
    contract = instrument(symbol, settings.products)
    file = PriceFile(path, contract, settings.price_scale(symbol).multiplier)
    records = newest_records(path, NEWEST)
    warnings = [*_contract_warnings(settings, contract, now_ns, "instrument.symbol")]
    warnings += _file_warnings(settings, records, file, now_ns)
    return LiveFiles(f"{path}: newest of {iso_utc(newest_ns)}", tuple(warnings))


def _live_reference_warnings(settings: Settings, path: Path, now_ns: int) -> list[str]:
    symbol = settings.reference.symbol
    if settings.products.product_of(symbol) is None:
        return [_unknown_reference(symbol)]
    file = _reference_file(settings, path, symbol)
    warnings = _contract_warnings(settings, file.contract, now_ns, "reference.symbol")
    if not path.exists():
        return [*warnings, "it is not there yet: it is read as soon as Sierra Chart makes it (open a chart of it)"]
    try:
        records = newest_records(path, NEWEST)
    except FileFormatError as error:
        return [*warnings, f"trading goes on without the reference symbol: {error}"]
    return [*warnings, *_file_warnings(settings, records, file, now_ns)]


def check_replayed_file(settings: Settings, path: Path, traded: Instrument, now_ns: int) -> list[str]:
    """Warnings about a file of trades. Raises FileFormatError, UsageError where it can't be of `traded`."""
    if is_recording(path):
        recorded = instrument(recording_symbol(path), settings.products)
        if recorded.root != traded.root:
            raise UsageError(f"{path} is a recording of {recorded.symbol}: leave --symbol {traded.symbol} out")
        return []
    refuse_directory(path)
    file = PriceFile(path, traded, settings.price_scale(traded.symbol).multiplier)
    return _file_warnings(settings, _sample(path), file, now_ns)


def check_replayed_reference(settings: Settings, path: Path, now_ns: int) -> list[str]:
    """Warnings about a file of the reference symbol. Raises FileFormatError where it can't be its file."""
    symbol = reference_of_file(settings, path)
    if settings.products.product_of(symbol) is None:
        return [f"{path}: {_unknown_reference(symbol or path.stem)}"]
    return _file_warnings(settings, _sample(path), _reference_file(settings, path, symbol), now_ns)


def reference_of_file(settings: Settings, path: Path) -> str:
    """The symbol whose prices a reference file holds: the contract it is named after, else that of `[reference]`."""
    return path.stem if settings.products.product_of(path.stem) is not None else settings.reference.symbol


def _sample(path: Path) -> Records:
    records = read_scid(path)
    return records[:: max(len(records) // SAMPLE, 1)]


def _reference_file(settings: Settings, path: Path, symbol: str) -> PriceFile:
    contract = instrument(symbol, settings.products)
    return PriceFile(path, contract, settings.reference_price_scale(symbol).multiplier, "reference")


def _unknown_reference(symbol: str) -> str:
    return (
        f"{symbol} is a contract of no product known: its prices are neither rounded to a tick nor checked; "
        "describe the product in a table [product.ROOT] of the configuration (docs/products.md)"
    )


def _file_warnings(settings: Settings, records: Records, file: PriceFile, now_ns: int) -> list[str]:
    named = name_misfit(file.path, file.contract, settings.products)
    return refuse([*([] if named is None else [named]), *misfits(records, file, now_ns)])


def _contract_warnings(settings: Settings, contract: Instrument, now_ns: int, setting: str) -> list[str]:
    misfit = contract_misfit(contract, now_ns, settings.products, setting)
    return [] if misfit is None else [misfit.text]
