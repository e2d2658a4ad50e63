"""Files that a person writes: read whole, as UTF-8 text, and refused in one sentence where that can't be done."""

import tomllib
from pathlib import Path
from typing import Any, Final

from mia_daemon.errors import ConfigError

MAX_BYTES: Final = 1 << 22
"""More than any such file has; a device or a recording named by mistake has more."""

_MAX_DEPTH: Final = 16
"""Tables and lists within each other; a configuration has three."""


def read_text(path: Path, what: str, remedy: str) -> str:
    """The text of a file, without a byte order mark.

    Args:
        path: of the file.
        what: it is, as errors call it: "configuration".
        remedy: what to do where it can't be opened, the end of that sentence.

    Raises:
        ConfigError: it can't be read, is too long, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        said = getattr(error, "strerror", None) or error
        raise ConfigError(f"{what} {path} can't be read: {said}; {remedy}") from error
    return decode(data, path, what)


def decode(data: bytes, path: Path, what: str) -> str:
    """The text that was read from a file; arguments and errors as those of `read_text`."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{what} {path} has more than {MAX_BYTES >> 20} MiB: name the file that was meant")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def read_toml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The tables of a TOML file; arguments and errors as those of `read_text`, and ConfigError where it is no TOML."""
    return parse_toml(read_text(path, what, remedy), path, what)


def parse_toml(text: str, path: Path, what: str) -> dict[str, Any]:
    """The tables that a text is, which was read from `path`. Raises ConfigError where it is no TOML."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(_too_deep(path, what)) from None
    except ValueError as error:  # TOMLDecodeError is one; a number of thousands of digits is another
        raise ConfigError(f"{what} {path} is not valid TOML: {error}; correct that place") from error
    _check_depth(document, path, what)
    return document


def _check_depth(document: dict[str, Any], path: Path, what: str) -> None:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
    if level:
        raise ConfigError(_too_deep(path, what))


def _too_deep(path: Path, what: str) -> str:
    return f"{what} {path} has tables or lists more than {_MAX_DEPTH} deep within each other: no setting needs that"
