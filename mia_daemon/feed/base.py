"""The interface of feeds: a feed puts batches of events on a queue, oldest first, and `END` after the last."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from mia_daemon.records import EventArray
from mia_daemon.stage import EndOfData


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events that arrived together, never empty, in arrival order.

    Attributes:
        events: owned by the batch; read-only.
        ingress_ns: monotonic clock when the bytes of the last of them arrived: tick-to-order starts here.
    """

    events: EventArray
    ingress_ns: int


BatchQueue = asyncio.Queue[EventBatch | EndOfData]


class Feed(Protocol):
    """A source of market events."""

    async def run(self, queue: BatchQueue) -> None:
        """Put batches on `queue`, then `END`, when the source has come to its end or `close` was called.

        Errors leave as MiaError: FileFormatError for a damaged file, MarketDataRefused when the server will not serve
        the symbol. Lost connections and rewritten files do not end a feed; they are marked by a GAP event.
        """
        ...

    def close(self) -> None:
        """Stop in order: what was received is still put on the queue, then `END`, and `run` returns."""
        ...
