"""`.scid` and `.depth` files as Parquet and back, each value to the bit, the header to the byte.

A file becomes one table; a row is a record, in the file's order, and a column is a field under Sierra Chart's name for
it (docs/parquet.md). Only the time is told otherwise: microseconds since 1970, UTC, as all readers of Parquet know it.
The metadata `sierra.header` holds the file's header in hexadecimal; a table without it gets a new one.

Floats are written without a dictionary, which would make one of 0.0 and -0.0, and of all kinds of NaN.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from mia_daemon.errors import FileFormatError, StartError, UsageError
from mia_daemon.feed.sierra_files import DEPTH, SCID, Format, Records, RecordWriter, check_header, map_records, to_us

ROWS: Final = 1 << 20
"""Of a row group; also what is in memory at once."""

_HEADER: Final = b"sierra.header"
_EPOCH_US: Final = int(to_us(0))
_ABOUT: Final = {
    "time": "microseconds since 1970-01-01 00:00 UTC; trades of one millisecond count up",
    "open": "0, or a marker: -1.99900095e37 first, -1.99900197e37 last part of one bundled trade",
    "high": "ask at the trade",
    "low": "bid at the trade",
    "close": "price of the trade",
    "num_trades": "trades in the record",
    "total_volume": "contracts",
    "bid_volume": "contracts sold into the bid",
    "ask_volume": "contracts bought from the ask",
    "command": "1 clear; 2, 3 add bid, ask; 4, 5 modify bid, ask; 6, 7 delete bid, ask",
    "flags": "1: last of a batch",
    "num_orders": "orders at the price",
    "price": "of the level",
    "quantity": "contracts at the price",
    "reserved": "as it stands in the file",
}


def to_parquet(source: Path, target: Path, *, replace: bool = False) -> int:
    """Write the whole records of a `.scid` or `.depth` as Parquet; how many they are.

    Raises:
        FileFormatError: `source` is neither.
        UsageError: `target` exists and is not to be replaced.
        StartError: `target` can't be written, or pyarrow is not installed.
    """
    parquet = _pyarrow().parquet
    fmt, records, _ = map_records(source, SCID, DEPTH)
    with source.open("rb") as file:
        schema = _schema(fmt).with_metadata({_HEADER: file.read(fmt.header_size).hex()})
    of_float = [name for name in fmt.record.names or () if fmt.record[name].kind == "f"]
    encodings = {name: "BYTE_STREAM_SPLIT" if name in of_float else "PLAIN" for name in fmt.record.names or ()}
    encodings["time"] = "DELTA_BINARY_PACKED"

    def write(part: Path) -> None:
        options = {"compression": "zstd", "use_dictionary": False, "column_encoding": encodings}
        with parquet.ParquetWriter(part, schema, **options) as writer:
            for start in range(0, len(records), ROWS):
                writer.write_table(_table(records[start : start + ROWS], schema))

    _make(target, write, replace=replace)
    return len(records)


def from_parquet(source: Path, target: Path, *, replace: bool = False) -> int:
    """Write a table that `to_parquet` made, or one of the same columns, as the file it came from; how many records.

    Raises:
        FileFormatError: `source` is no Parquet file, or its columns are not those of a `.scid` or `.depth`.
        UsageError, StartError: as `to_parquet`.
    """
    fmt = format_of(source)
    with _open(source) as file:
        header = _header(file, fmt, source)

        def write(part: Path) -> None:
            part.write_bytes(header)
            writer = RecordWriter(part, fmt)
            try:
                for batch in file.iter_batches(ROWS):
                    writer.append(_records(batch, fmt, source))
            finally:
                writer.close()

        _make(target, write, replace=replace)
        return int(file.metadata.num_rows)


def format_of(path: Path) -> Format:
    """Which kind of file a table holds, by its columns. Raises FileFormatError."""
    with _open(path) as file:
        schema = file.schema_arrow
    for fmt in (SCID, DEPTH):
        expected = _schema(fmt)
        if schema.names == expected.names and schema.types == expected.types:
            return fmt
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(schema.names, schema.types, strict=True))
    raise FileFormatError(f"{path} has the columns {columns}: those of a .scid or .depth are in docs/parquet.md")


def _header(file: Any, fmt: Format, path: Path) -> bytes:
    stored: bytes = (file.schema_arrow.metadata or {}).get(_HEADER, b"")
    if not stored:
        return fmt.header()
    try:
        header = bytes.fromhex(stored.decode("ascii"))
    except ValueError as error:
        raise FileFormatError(f"{path}: its metadata {_HEADER.decode()} is no hexadecimal: remove it") from error
    check_header(header, fmt, path)
    return header


def _schema(fmt: Format) -> Any:
    pa = _pyarrow()
    fields = []
    for name in fmt.record.names or ():
        kind = pa.timestamp("us", "UTC") if name == "time" else pa.from_numpy_dtype(fmt.record[name])
        fields.append(pa.field(name, kind, nullable=False, metadata={"about": _ABOUT[name]}))
    return pa.schema(fields)


def _table(records: Records, schema: Any) -> Any:
    pa = _pyarrow()
    columns = []
    for field in schema:
        values = np.ascontiguousarray(records[field.name])
        columns.append(pa.array(values - _EPOCH_US).view(field.type) if field.name == "time" else pa.array(values))
    return pa.table(columns, schema=schema)


def _records(batch: Any, fmt: Format, source: Path) -> Records:
    pa = _pyarrow()
    records = np.empty(batch.num_rows, fmt.record)
    for name in fmt.record.names or ():
        column = batch.column(name)
        if column.null_count:
            raise FileFormatError(f"{source}: column {name} has {column.null_count} empty values: fill them in first")
        if name == "time":
            records[name] = column.view(pa.int64()).to_numpy(zero_copy_only=False) + _EPOCH_US
        else:
            records[name] = column.to_numpy(zero_copy_only=False)
    return records


def _open(path: Path) -> Any:
    pa = _pyarrow()
    try:
        return pa.parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise FileFormatError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise FileFormatError(f"{path} can't be read: {error}; check the name and its permissions") from error


def _make(target: Path, write: Callable[[Path], None], *, replace: bool) -> None:
    """The target is whole or not there at all."""
    if target.exists() and not replace:
        raise UsageError(f"{target} exists: name another with --out, or say --replace")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(target)
    except OSError as error:
        raise StartError(f"{target} can't be written: {error.strerror or error}; check the directory") from error
    finally:
        part.unlink(missing_ok=True)


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise StartError("Parquet needs pyarrow, which is not installed: pip install 'mia-daemon[parquet]'") from error
    return pa
