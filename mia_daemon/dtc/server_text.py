"""What a server writes as text, made safe where it enters: everything after this may log, journal and show it.

A server may repeat what it was sent. In text for people (`Note96` and the like) username and password are replaced,
whole, in another case, escaped, or cut off at the end of the field. Names (`Char32` and the like: symbols, accounts,
order numbers) are compared with ours and sent back, so in them only the password is replaced, and only one that no
name contains by chance. No text has control characters or more than a bounded length.
"""

import json
import re
from dataclasses import replace
from functools import cache
from typing import Final, TypeVar

from mia_daemon.dtc.layout import MESSAGES, Message, Text
from mia_daemon.dtc.market_data import Skipped
from mia_daemon.dtc.messages import LogonRequest
from mia_daemon.printable import is_distinct, printable

REDACTED: Final = "***"
MAX_NOTE: Final = 512
"""Characters of a text for people; the longest field of fixed length has 256."""
MAX_NAME: Final = 128
"""Characters of a name; the longest field of fixed length has 64."""

_MIN_CUT: Final = 4
"""Characters that are left of a secret that was cut off, so that they count as a part of it."""

M = TypeVar("M", bound=Message)


class ServerText:
    """Cleans the messages of one server.

    Args:
        logon: as it is sent, with the secrets.
    """

    def __init__(self, logon: LogonRequest) -> None:
        secrets = sorted(filter(None, {logon.Username, logon.Password}), key=len, reverse=True)
        forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._forms = [form.lower() for form in forms]
        self._in_notes = _any_of(forms)
        self._in_names = _any_of([logon.Password] if is_distinct(logon.Password) else [])

    def clean(self, message: M) -> M:
        """The message with its texts safe; the same object where they are."""
        changed = {}
        for name, is_note in _texts(message.TYPE):
            text = getattr(message, name)
            if text and (cleaned := self.note(text) if is_note else self._name(text)) != text:
                changed[name] = cleaned
        return replace(message, **changed) if changed else message  # type: ignore[type-var]  # every one is a dataclass

    def clean_skipped(self, skipped: Skipped) -> Skipped:
        """The report of a frame that can't be read, with nothing of a frame that has a secret in it."""
        frame = skipped.frame.lower()
        if any(form.encode(encoding, "replace") in frame for form in self._forms for encoding in ("utf-8", "latin-1")):
            return replace(skipped, text=f"{skipped.kind}; it holds the credentials and is not shown", frame=b"")
        return replace(skipped, text=self.note(skipped.text), frame=b"")

    def note(self, text: str) -> str:
        """A text for people."""
        if self._in_notes is not None:
            text = self._without_end(self._in_notes.sub(REDACTED, text))
        return _bounded(printable(text), MAX_NOTE)

    def _name(self, text: str) -> str:
        if self._in_names is not None:
            text = self._in_names.sub(REDACTED, text)
        return _bounded(printable(text), MAX_NAME)

    def _without_end(self, text: str) -> str:
        """Without the beginning of a secret that the field's length cut off."""
        lowered = text.lower()
        for form in self._forms:
            for length in range(len(form) - 1, _MIN_CUT - 1, -1):
                if lowered.endswith(form[:length]):
                    return text[:-length] + REDACTED
        return text


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as it is quoted."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}


def _any_of(secrets: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, secrets)), re.IGNORECASE) if secrets else None


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


@cache
def _texts(type_: int) -> tuple[tuple[str, bool], ...]:
    """The text fields of a message, and whether each is for people."""
    cls = MESSAGES[type_]
    wires = {field.name: field.wire for field in (*cls.VLS_LAYOUT.fields, *cls.LAYOUT.fields)}
    return tuple((name, wire.cut) for name, wire in wires.items() if isinstance(wire, Text))
