"""A frame of the JSON encoding as a JSON value, also where it is only nearly JSON.

Programs in C print `nan`, `-nan(ind)` or `1.#QNAN` for what is no number, and put line breaks into texts as they are:
both are read. What would have to be guessed (a decimal comma, an object that is cut) makes the frame unreadable.
"""

import json
import re

from mia_daemon.dtc.layout import MESSAGES
from mia_daemon.errors import UnreadableFrame

_NEAR = 15
"""Characters of a frame to show on each side of the place where it stops being JSON."""

_NO_NUMBER = r"[-+]?(?:nan(?:\([^()\"]{0,20}\))?|inf(?:inity)?|\d\.#\w{1,8})"
_IS_NO_NUMBER = re.compile(rf"\s*{_NO_NUMBER}\s*", re.IGNORECASE)
_TEXT_OR_NO_NUMBER = re.compile(
    rf'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(?<![\w.#+-])({_NO_NUMBER})(?![\w.#(])', re.IGNORECASE | re.DOTALL
)
_TYPE = re.compile(r'"Type"\s*:\s*(\d{1,5})(?!\d)')

_loads = json.JSONDecoder(strict=False).decode  # which takes line breaks and tabs within texts


def load(raw: bytes) -> object:
    """The value that a frame holds, its NUL taken off.

    Raises:
        UnreadableFrame: it is no JSON.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    try:
        return _loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return _loads(_TEXT_OR_NO_NUMBER.sub(lambda found: "NaN" if found[1] else found[0], text))
    except (ValueError, RecursionError) as error:
        raise _unreadable(text, error) from None


def is_no_number(text: str) -> bool:
    """Whether a program in C prints this for what is no number, or infinite."""
    return _IS_NO_NUMBER.fullmatch(text) is not None


def _unreadable(text: str, error: Exception) -> UnreadableFrame:
    said = _TYPE.search(text)
    type_ = int(said[1]) if said else None
    cls = MESSAGES.get(type_) if type_ is not None else None
    name = cls.__name__ if cls is not None else "a message"
    why = str(error)
    if isinstance(error, json.JSONDecodeError) and cls is not None and "Password" not in text:
        why += f", near {text[max(error.pos - _NEAR, 0) : error.pos + _NEAR]!r}"
    return UnreadableFrame(f"{name} is no JSON: {why}", kind=f"{name} is no JSON", type_=type_)
