"""CSV files whose rows are whole or absent, also after a kill: one `write` per row, a torn tail cut on opening."""

import csv
import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path

from mia_daemon.errors import StartError
from mia_daemon.private_file import open_file

_CHUNK = 65_536


class RowFile:
    """Appends rows to a CSV file, made with its header on first use.

    A row goes to the kernel in one `write` on a file opened for appending, so a killed process leaves whole rows.
    What a power cut may have torn is cut off when the file is opened again. Rows reach the kernel at once, with no
    sync: about 2 µs each.

    Raises:
        StartError: the file can't be made, or carries another header (it is left as it was).
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        header = _line(self.columns)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StartError(f"{path} can't be written: {error.strerror}; check the directory and its owner") from error
        try:
            self._mend_tail(header)
        except BaseException:
            os.close(self._fd)
            raise

    def _mend_tail(self, header: bytes) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, len(header), 0) not in (header, header[:size]):
            raise StartError(
                f"{self.path} has another header than {','.join(self.columns)}: move it away to start anew"
            )
        if size < len(header):
            os.ftruncate(self._fd, 0)
            os.write(self._fd, header)
            return
        self._cut_torn_tail()

    def _cut_torn_tail(self) -> None:
        """Cut what follows the last newline: a row that was never finished. The header is ours, and ends with one."""
        size = keep = os.fstat(self._fd).st_size
        while keep > 0:
            start = max(keep - _CHUNK, 0)
            newline = os.pread(self._fd, keep - start, start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if keep < size:
            os.ftruncate(self._fd, keep)

    def append(self, row: Sequence[object]) -> None:
        """Write one row; its values in the order of `columns`."""
        if len(row) != len(self.columns):
            raise ValueError(f"{self.path.name} has {len(self.columns)} columns, the row has {len(row)}")
        self._write(_line(row))

    def append_line(self, line: str) -> None:
        """Write one row that is formatted and quoted already, without its newline: for rows written by the thousand."""
        self._write(f"{line}\n".encode())

    def _write(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        if written < len(data):
            # The disk is full: what it took of the row goes again, so that the next row does not continue it.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(row: Sequence[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue().encode()
