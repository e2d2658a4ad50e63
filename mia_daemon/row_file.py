"""CSV files whose rows are whole or absent, also after a kill: one `write` per row, a torn tail cut on opening."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from mia_daemon.errors import StartError


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
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
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
        keep = size
        while keep > len(header):
            start = max(keep - 65536, 0)
            chunk = os.pread(self._fd, keep - start, start)
            if (newline := chunk.rfind(b"\n")) >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < size:
            os.ftruncate(self._fd, keep)

    def append(self, row: Sequence[object]) -> None:
        """Write one row; its values in the order of `columns`."""
        if len(row) != len(self.columns):
            raise ValueError(f"{self.path.name} has {len(self.columns)} columns, the row has {len(row)}")
        os.write(self._fd, _line(row))

    def append_line(self, line: str) -> None:
        """Write one row that is formatted and quoted already, without its newline: for rows written by the thousand."""
        os.write(self._fd, f"{line}\n".encode())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(row: Sequence[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue().encode()
