"""User name and password of the server: from the environment or from systemd's credentials, never from a file."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mia_daemon.errors import ConfigError

SECRET_KEYS: Final = {"dtc.username": "MIA_DTC_USERNAME", "dtc.password": "MIA_DTC_PASSWORD"}
"""The settings that are secrets, and the variable or systemd credential that each comes from."""


def refuse_secrets(document: Mapping[str, Any], origin: str) -> None:
    """Raises ConfigError where a configuration that was read from a file holds a secret."""
    for key, variable in SECRET_KEYS.items():
        table, name = key.split(".")
        if isinstance(document.get(table), Mapping) and name in document[table]:
            raise ConfigError(
                f"configuration {origin} is refused: {key} is a secret and does not belong in a file; "
                f"set {variable} or a systemd credential of that name"
            )


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Each secret that is set, by its `table.key`. Raises ConfigError, which never shows any of it."""
    found = {}
    directory = environ.get("CREDENTIALS_DIRECTORY")
    for key, variable in SECRET_KEYS.items():
        if directory and (secret := _credential(Path(directory, variable))) is not None:
            found[key] = secret
        elif variable in environ:
            found[key] = environ[variable]
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in found.get(key, "")):
            raise ConfigError(
                f"{variable} has a control character, or bytes that are not UTF-8: set it to another value"
            )
    return found


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process that does not log on to the server."""
    secret = {"CREDENTIALS_DIRECTORY", *SECRET_KEYS.values()}
    return {name: value for name, value in environ.items() if name not in secret}


def _credential(file: Path) -> str | None:
    """What the file holds; None where there is none. Raises ConfigError, which never shows any of it."""
    try:
        return file.read_bytes().decode().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise ConfigError(f"the credential {file} is not UTF-8 text: write it again") from None
    except OSError as error:
        raise ConfigError(f"the credential {file} can't be read: {error.strerror}; check its permissions") from error
