"""The record of a probe: every message in both directions, one a line, with secrets and other accounts left out.

A line is what `mia-daemon dtc decode` writes, with two more keys in front: `AtMs`, milliseconds since the probe began,
and `From`, `client` or `server`. It is on file before the message is sent. `mia-daemon dtc encode` reads such lines.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from mia_daemon import private_file
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import Codec
from mia_daemon.dtc.layout import Message
from mia_daemon.dtc.transcript import REDACTED, to_line
from mia_daemon.errors import StartError

OTHER_ACCOUNT: Final = "(another account)"

_PERSONAL: Final = frozenset({"Username", "Password"})
"""Fields that hold a name or a password, in whatever message."""


class TranscriptFile:
    """Writes the transcript of one probe.

    Args:
        path: must not exist yet.
        secrets: texts that must not be written, such as the password.
        account: the account that is probed; messages about others are left out.
        order_prefix: begins the ClientOrderID of every order of the probe: a message that names one is about this
            account, however the server spells it.

    Attributes:
        left_out: messages about other accounts, not written.

    Raises:
        StartError: the file can't be made.
    """

    def __init__(self, path: Path, secrets: Iterable[str], account: str, order_prefix: str) -> None:
        self.left_out = 0
        self._order_prefix = order_prefix
        self._own_orders: set[str] = set()  # ServerOrderIDs
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._account = account
        self._other_accounts: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = private_file.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise StartError(f"{path} can't be written: {error.strerror}; name another directory with --out") from error

    def add(self, message: Message, sender: Literal["client", "server"], at_ms: int, codec: Codec) -> None:
        """Write one message; it is on file when this returns. Raises OSError."""
        account = getattr(message, "TradeAccount", "")
        if sender == "server" and account and not self._is_own(message, account):
            self._other_accounts.add(account)
            if not isinstance(message, dtc.TradeAccountResponse):
                self.left_out += 1
                return
            message = replace(message, TradeAccount=OTHER_ACCOUNT)
        line = json.loads(to_line(self._redacted(message), codec))
        text = json.dumps({"AtMs": at_ms, "From": sender, **line}, ensure_ascii=False, allow_nan=False)
        os.write(self._file, f"{text}\n".encode())

    def _is_own(self, message: Any, account: str) -> bool:
        if account.casefold() == self._account.casefold():
            return True
        server_id = getattr(message, "ServerOrderID", "")
        if getattr(message, "ClientOrderID", "").startswith(self._order_prefix):
            self._own_orders.add(server_id)
        return bool(server_id) and server_id in self._own_orders

    def _redacted(self, message: Any) -> Message:
        changes = {}
        for field in fields(message):
            value = getattr(message, field.name)
            if isinstance(value, str) and value and (clean := self._clean(field.name, value)) != value:
                changes[field.name] = clean
        redacted: Message = replace(message, **changes) if changes else message
        return redacted

    def _clean(self, name: str, value: str) -> str:
        if name in _PERSONAL:
            return REDACTED
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        for account in sorted(self._other_accounts, key=len, reverse=True):
            value = value.replace(account, OTHER_ACCOUNT)
        return value

    def close(self) -> None:
        """Raises OSError where it is not all on the disk."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
