"""A first configuration: the one that ships, with its comments, and an operator's own values in it."""

import json
import re
import tomllib
from collections.abc import Mapping

from mia_daemon.config import parse
from mia_daemon.errors import ConfigError


def first_config(template: str, values: Mapping[str, str | int], origin: str) -> str:
    """The template with these values, checked as a start checks it.

    Args:
        template: a TOML text in which each of the settings stands on a line of its own, commented out or not.
        values: by "table.key".
        origin: names the text in errors.

    Raises:
        ConfigError: the values make no valid configuration.
    """
    text = template
    for name, value in values.items():
        text = _with_value(text, name, value)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} would be no valid TOML: {error}; leave out control characters") from error
    parse(document, origin)
    return text


def _with_value(text: str, name: str, value: str | int) -> str:
    """The text with one setting changed; the comment behind it stays in its column where there is room."""
    table, key = name.split(".")
    begin = text.index(f"\n[{table}]") + 1
    found = re.compile(rf'^(?:# )?{key} = (?:"[^"\n]*"|[^\s#]+)(?P<gap> *)(?P<comment>#.*)?$', re.MULTILINE).search(
        text, begin
    )
    if found is None:
        raise ConfigError(f"the shipped configuration has no line for {name}: reinstall mia-daemon")
    setting = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    comment = found["comment"] or ""
    width = found.start("comment") - found.start() - 1 if comment else 0
    line = f"{setting:<{width}} {comment}".rstrip()
    return text[: found.start()] + line + text[found.end() :]
