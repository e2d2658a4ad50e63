"""Every error the daemon raises on purpose, as one tree.

The tree is the documentation: who is at fault (ours, the peer's) and what the caller may do next
(retry, stop, or ask). An error's text is one sentence that says what is wrong, where, and what to do.
"""


class MiaError(Exception):
    """Root of all errors raised on purpose; anything else that escapes is a bug."""


class UsageError(MiaError):
    """The operator asked for something that cannot be: bad option, bad configuration (exit status 2)."""


class ConfigError(UsageError):
    """A configuration file or value is refused."""


class StartError(MiaError):
    """The surroundings are not fit to start: a port in use, an unreadable directory (exit status 1)."""


class FileFormatError(StartError):
    """A market data file is truncated, foreign or damaged."""


class BundleError(StartError):
    """A model bundle is incomplete, altered or made for another feature catalogue."""


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


class MarketDataRefused(PeerError):
    """The server serves this session but will not serve this symbol's prices."""


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
