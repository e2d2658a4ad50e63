"""CSV files whose rows are whole or absent, also after a kill: one `write` per row, a torn tail cut on opening."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mia_daemon.appended_file import AppendedFile, FileNotice
from mia_daemon.errors import FileAltered
from mia_daemon.service_stderr import report_on_stderr

_CHUNK: Final = 65_536
_EXAMINED: Final = 4096
"""Bytes at the end of a file whose rows have to be as this program writes them."""


class RowFile(AppendedFile):
    """Appends rows to a CSV file, made with its header on first use.

    A row goes to the kernel in one `write` on a file opened for appending, so a killed process leaves whole rows.
    What a power cut may have torn is cut off when the file is opened again. Rows reach the kernel at once, with no
    sync: about 2 µs each.

    A file with another header or with rows in another form (saved by a spreadsheet or by pandas) is set aside, and a
    new one is begun. Values contain no line breaks.
    """

    def __init__(self, path: Path, columns: Sequence[str], notify: FileNotice = report_on_stderr) -> None:
        self.columns = tuple(columns)
        self._header = _line(self.columns)
        super().__init__(path, notify)

    def _begins_well(self, fd: int) -> bool:
        return os.pread(fd, len(self._header), 0) == self._header

    def _prepare(self, fd: int) -> None:
        header = self._header
        size = os.fstat(fd).st_size
        if size and os.pread(fd, len(header), 0) not in (header, header[:size]):
            raise FileAltered("has another header than this program writes, as after saving it from a spreadsheet")
        if size < len(header):
            if size:  # an empty file may be one that somebody is saving just now
                os.ftruncate(fd, 0)
            os.write(fd, header)
            return
        keep = _whole_size(fd, size)
        self._examine(fd, len(header), keep)
        if keep < size:
            os.ftruncate(fd, keep)

    def _examine(self, fd: int, header: int, end: int) -> None:
        """Refuse a file whose last rows are not in our form: other quoting, line ends or number of columns."""
        start = max(header, end - _EXAMINED)
        tail = os.pread(fd, end - start, start)
        if start > header:
            tail = tail[tail.find(b"\n") + 1 :]  # from the first whole row on
        try:
            text = tail.decode()
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileAltered(f"has rows that can't be read ({error})") from None
        ours = all(len(row) == len(self.columns) for row in rows) and b"".join(map(_line, rows)) == tail
        if not ours:
            raise FileAltered(
                "has rows in another form than this program writes, as after saving it from a spreadsheet"
            )

    def _on_torn(self, fd: int, written: int) -> None:
        """Take what the full disk took of the row away, so that the next row does not continue it."""
        os.ftruncate(fd, os.fstat(fd).st_size - written)

    @property
    def size(self) -> int:
        """Bytes in the file; 0 while it can't be opened."""
        return self._left[2] if self._left is not None else 0

    def append(self, row: Sequence[object]) -> bool:
        """Write one row, its values in the order of `columns`; False when the disk did not take it."""
        if len(row) != len(self.columns):
            raise ValueError(f"{self.path.name} has {len(self.columns)} columns, the row has {len(row)}")
        return self._write(_line(row))

    def append_line(self, line: str) -> bool:
        """Write one row that is formatted and quoted already, without its newline: for rows written by the thousand."""
        return self._write(f"{line}\n".encode())


def _whole_size(fd: int, size: int) -> int:
    """Up to the last newline: what follows is a row that was never finished. The header is ours, and ends with one."""
    keep = size
    while keep > 0:
        start = max(keep - _CHUNK, 0)
        newline = os.pread(fd, keep - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        keep = start
    return 0


def _line(row: Sequence[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue().encode()
