"""The touch of the order book, written into the depth events of Sierra Chart's files, which do not carry it."""

from mia_daemon.features.kernels import book
from mia_daemon.records import EventArray


class BookTouch:
    """Follows the traded symbol's order book through its depth events.

    Where a batch ends, the book is consistent again: the touch and its sizes are written into that event. A book with
    one side or none, or a crossed one, has no touch.

    Args:
        tick_size: of the symbol, points.
    """

    def __init__(self, tick_size: float) -> None:
        self._book = book.make_state(tick_size)

    def write(self, events: EventArray) -> EventArray:
        """Write the touch into the next depth events, in place; returns them."""
        book.write_touch(events, self._book)
        return events
