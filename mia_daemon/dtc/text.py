"""Text on the wire: UTF-8, ended by a NUL; read as Latin-1 where it is not UTF-8."""

from mia_daemon.dtc.layout import Text


def decode_text(raw: bytes) -> str:
    """The text up to its NUL."""
    text = raw.partition(b"\0")[0]
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def encode_text(text: object, kind: Text | None = None) -> bytes:
    """`text` without its NUL, fit for a field of `kind`; None: for one of any length.

    Raises:
        ValueError: it does not fit, or is no text; the message says why.
    """
    if not isinstance(text, str):
        raise ValueError(f"text is expected, not {type(text).__name__}")  # noqa: TRY004  # one kind of misfit
    raw = text.encode()
    if b"\0" in raw:
        raise ValueError("it holds a NUL, which ends a text")
    if kind is None or len(raw) < kind.length:
        return raw
    if not kind.cut:
        raise ValueError(f"it has {len(raw)} bytes and {kind.length - 1} are allowed")
    return raw[: kind.length - 1].decode(errors="ignore").encode()
