"""Every error the daemon raises on purpose, as one tree.

The tree is the documentation: who is at fault (ours, the peer's) and what the caller may do next
(retry, stop, or ask). An error's text is one sentence that says what is wrong, where, and what to do.
"""

from enum import IntEnum
from typing import Self


class ExitStatus(IntEnum):
    """How a process of the daemon ends, and whether the service manager is to start it again.

    From 64 on the numbers are those of sysexits.h.
    """

    meaning: str
    restart: bool

    def __new__(cls, value: int, meaning: str, restart: bool) -> Self:  # noqa: FBT001  # by position, as in the table
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.restart = restart
        return member

    DONE = 0, "stopped on request, or done", False
    FAILED = 1, "the surroundings failed: a journal that can't be written, a directory in use, a task that ended", True
    USAGE = (
        2,
        "wrong options or configuration, a directory that can't be used or is full, live not armed, a kill file",
        False,
    )
    BLOCKED = 3, "the event loop was blocked for `ops.loop_abort_s`", True
    NO_INPUT = 66, "a model bundle or a market data file that can't be used", False
    SOFTWARE = 70, "a bug; its traceback is in the journal of the service manager", True
    NO_PERMISSION = 77, "the server refuses the logon, its certificate is refused, or trading is disabled there", False
    CONFIG = 78, "the server does not know the account or the symbol, or serves it otherwise than configured", False


class MiaError(Exception):
    """Root of all errors raised on purpose; anything else that escapes is a bug.

    Attributes:
        exit_status: of a daemon that ends because of it.
    """

    exit_status: ExitStatus = ExitStatus.FAILED


class UsageError(MiaError):
    """The operator asked for something that cannot be: bad option, bad configuration."""

    exit_status = ExitStatus.USAGE


class ConfigError(UsageError):
    """A configuration file or value is refused."""


class StartError(MiaError):
    """The surroundings are not fit to start: a port in use, an unreadable directory."""


class FileFormatError(StartError):
    """A market data file is truncated, foreign or damaged."""

    exit_status = ExitStatus.NO_INPUT


class BundleError(StartError):
    """A model bundle is incomplete, altered or made for another feature catalogue."""

    exit_status = ExitStatus.NO_INPUT


class ServerNotReady(StartError):
    """A server can't be reached, or does not answer as it will once it is up: waiting helps."""


class ServerDenied(StartError):
    """A server does not let us trade: the logon, its certificate or the account's rights have to be changed."""

    exit_status = ExitStatus.NO_PERMISSION


class ServerMismatch(StartError):
    """Server and configuration do not fit together: account, symbol, product or abilities differ."""

    exit_status = ExitStatus.CONFIG


class StateRefused(StartError):
    """A saved feature state is missing, damaged or of another program, market or calendar: features warm up anew."""


class FileAltered(MiaError):
    """A file for people can't be continued, since others changed it; the text says how. It is set aside."""


class JournalError(MiaError):
    """The journal can't be read or written: trading stops, cancels still go out."""


class PeerError(MiaError):
    """The other side of a connection is at fault."""


class ProtocolError(PeerError):
    """The peer broke the protocol; the connection is closed with this reason."""


class UnreadableFrame(ProtocolError):
    """One frame holds no message that can be read; those after it can be.

    Attributes:
        kind: what is wrong, the same for all frames with that flaw.
        type: of the message, where it can be told.
    """

    def __init__(self, text: str, *, kind: str, type_: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.type = type_


class ConnectionLost(PeerError):
    """The connection ended or fell silent; connecting again is in order."""


class HandlerFailed(ConnectionLost):
    """A message could not be handled because of a bug, its cause: the connection is dropped and made again."""


class LogonRefused(PeerError):
    """The server answered the logon with an error.

    Attributes:
        reconnect_allowed: False when the server asked not to be called again.
    """

    exit_status = ExitStatus.NO_PERMISSION

    def __init__(self, text: str, *, reconnect_allowed: bool) -> None:
        super().__init__(text)
        self.reconnect_allowed = reconnect_allowed


class SentElsewhere(PeerError):
    """The server answered the logon with another address to log on at.

    Attributes:
        address: as the server gave it: `host:port` or `host`.
    """

    def __init__(self, text: str, address: str) -> None:
        super().__init__(text)
        self.address = address


class CertificateRefused(PeerError):
    """The server does not prove to be the one it should be; nothing was sent to it."""

    exit_status = ExitStatus.NO_PERMISSION


class MarketDataRefused(PeerError):
    """The server serves this session but will not serve this symbol's prices."""

    exit_status = ExitStatus.CONFIG


class RequestRefused(PeerError):
    """The server answered a query with a reject."""


class RequestTimeout(PeerError):
    """A query had no complete answer: not in time, or a part could not be read; asking again is in order."""


class TapeDiffers(MiaError):
    """A repeated session does something else than the recorded one did."""


class TapeEnds(MiaError):
    """The recording of a session ends before what is being done."""


class StageDied(MiaError):
    """A task of the daemon ended with an error, which is the cause of this one."""


def exit_status_of(error: BaseException) -> ExitStatus:
    """The exit status of a daemon that ends because of this error."""
    return error.exit_status if isinstance(error, MiaError) else ExitStatus.SOFTWARE
