"""The daemon's log: JSON lines, each whole or absent, about 10 µs a line.

An event is a short lower-case name with key=value facts. Nothing here is global: whoever logs is handed a logger.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, MutableMapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from mia_daemon.appended_file import AppendedFile, FileNotice
from mia_daemon.clock import Clock, iso_utc
from mia_daemon.service_stderr import report_on_stderr

_SECRET_WORDS: Final = ("password", "secret", "token", "credential", "username", "api_key")
_REDACTED: Final = "[redacted]"
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

Logger = structlog.typing.FilteringBoundLogger


class LineFile(AppendedFile):
    """Appends lines to a file, one `write` each, so that a killed process leaves whole lines.

    Nothing in the file is ever cut: a last line that a power cut tore stays, and the next one begins behind it. A disk
    that refuses a line does not stop the daemon: the line is lost, counted in `lost`.
    """

    def __init__(self, path: Path, notify: FileNotice = report_on_stderr) -> None:
        self.lost = 0
        self._torn = False
        super().__init__(path, notify)

    def _prepare(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"

    def _on_torn(self, fd: int, written: int) -> None:  # noqa: ARG002  # the next line begins behind what was written
        self._torn = self._torn or written > 0

    def write(self, line: bytes) -> None:
        """Append `line`, which ends with its newline."""
        if self._write(b"\n" + line if self._torn else line):
            self._torn = False
        else:
            self.lost += 1


class _LineLogger:
    """What structlog hands the finished line to; its methods are named after the levels."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = write


def make_logger(write: Callable[[bytes], None], clock: Clock, level: str = "info") -> Logger:
    """A structlog logger whose lines go to `write`, stamped with `clock`'s time.

    Args:
        write: takes one finished line of UTF-8 JSON with its newline, usually `LineFile.write`.
        clock: wall clock, or the event clock in replay, so that a replay's log compares with the live one.
        level: "debug", "info", "warning" or "error"; what is below costs next to nothing.
    """

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> tuple[tuple[bytes], dict[str, Any]]:
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(logger, method, event)
        facts: dict[str, Any] = {"ts": iso_utc(clock.now_ns()), "level": method, "event": event.pop("event")}
        for key, value in event.items():
            if _secret_keys.get(key, True) and _is_secret(key):
                facts[key] = _REDACTED
            else:
                facts[key] = value if type(value) in _PLAIN else redact(value)
        return (json_line(facts),), {}

    wrapper = structlog.make_filtering_bound_logger(_LEVELS[level])
    logger: Logger = structlog.wrap_logger(
        _LineLogger(write), processors=[render], wrapper_class=wrapper, context_class=dict
    ).bind()
    return logger


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Types that hold no secret and no structure."""

_secret_keys: dict[str, bool] = {}


def _is_secret(key: str) -> bool:
    """Whether a value under this key must not be written; remembered, as the same keys come again and again."""
    known = _secret_keys.get(key)
    if known is None:
        known = _secret_keys[key] = any(word in key.lower() for word in _SECRET_WORDS)
    return known


def to_json(value: Any) -> Any:
    """What `json` can't write by itself: records become objects, numpy becomes plain, the rest becomes its text."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return redact({name: getattr(value, name) for name in fields})
    return redact(dict(value)) if isinstance(value, Mapping) else str(value)


def redact(value: Any) -> Any:
    """`value` with every secret below it replaced; what has none is returned as it is."""
    if isinstance(value, dict):
        return {str(key): _REDACTED if _is_secret(str(key)) else redact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner) for inner in value]
    return value


_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=to_json
).encode


def json_line(record: Mapping[str, Any]) -> bytes:
    """`record` as one line of UTF-8 JSON with its newline. NaN and infinity, which JSON lacks, become their names.

    What a terminal would obey, or a reader of lines take for an end, is escaped: JSON itself escapes only some of it.
    """
    try:
        text = _encode(record)
    except ValueError:
        text = _encode(_without_nan(record))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text.encode() + b"\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else _without_nan(to_json(value))


class StdlibHandler(logging.Handler):
    """Passes what libraries say through `logging` (asyncio's unhandled exceptions above all) on to the log."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"logger": record.name, "text": record.getMessage()}
        if record.exc_info:
            facts["exc_info"] = record.exc_info
        self._log.log(record.levelno, "library_said", **facts)
