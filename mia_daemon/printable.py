"""Text of others, made fit for a terminal and a log."""

from typing import Final

_MIN_DISTINCT: Final = 6


def printable(text: str) -> str:
    r"""`text` in one line without control characters: white space becomes a space, any other one its escape (`\x1b`).

    So no text moves a cursor, colours a screen, reverses the direction of reading or pretends to be a line of a log.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def is_distinct(secret: str) -> bool:
    """Whether no name of a symbol, an account or an order contains `secret` by chance: digits number orders."""
    return len(secret) >= _MIN_DISTINCT and not secret.isdigit()
