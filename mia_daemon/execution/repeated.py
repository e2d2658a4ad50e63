"""Broker and journal of an account whose recorded session is repeated: what they report comes from the tape."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from mia_daemon.brokers.base import BrokerEventSink, WaitingHandler
from mia_daemon.errors import JournalError, TapeDiffers, TapeEnds
from mia_daemon.execution.broker_requests import BrokerRequests
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.journal.writer import Journal
from mia_daemon.records import BrokerSnapshot, EventArray, JournaledOrder

T = TypeVar("T")


class TapePlayer:
    """The entries of a tape, one by one.

    Attributes:
        own_ns, wall_ns: the clocks of the last entry taken.
        taken: entries taken so far.
    """

    def __init__(self, entries: Iterable[TapeEntry]) -> None:
        self.own_ns = self.wall_ns = self.taken = 0
        self._entries: Iterator[TapeEntry] = iter(entries)
        self._next = next(self._entries, None)

    @property
    def next(self) -> TapeEntry | None:
        """The entry that `take` gives; None at the end."""
        return self._next

    def take(self) -> TapeEntry:
        """Raises TapeEnds."""
        entry = self._next
        if entry is None:
            raise TapeEnds(f"the recording ends after {self.taken:,} inputs")
        self.taken += 1
        self.own_ns, self.wall_ns = entry.own_ns, entry.wall_ns
        self._next = next(self._entries, None)
        return entry

    def numbered(self, kind: InputKind, number: int) -> tuple[Any, ...] | None:
        """Take the next entry if it is of this kind and number; its payload, else None."""
        entry = self._next
        if entry is None or entry.kind is not kind or entry.payload[0] != number:
            return None
        payload: tuple[Any, ...] = self.take().payload
        return payload


class RepeatedBroker(BrokerRequests):
    """Compares what is sent with what was sent, and reports what was reported, in the same call.

    Args:
        has_own_clock: as the recorded session's broker.

    Raises:
        TapeDiffers: in every request: something else was sent then, or nothing.
        TapeEnds: the recording ends before this request.
    """

    def __init__(self, player: TapePlayer, *, has_own_clock: bool, replaces: bool) -> None:
        self.player = player
        self.replaces = replaces
        self._has_own_clock = has_own_clock
        self._calls = 0
        self._sent = 0
        self._beside = 0
        self._reads = 0
        self._sink: BrokerEventSink = _no_sink

    @property
    def orders_sent(self) -> int:
        self._reads += 1
        if (noted := self.player.numbered(InputKind.ORDERS_BESIDE, self._reads)) is not None:
            self._beside = noted[1]
        return self._sent + self._beside

    @property
    def has_own_clock(self) -> bool:
        return self._has_own_clock

    def start(self, on_event: BrokerEventSink) -> None:
        self._sink = on_event

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        """Nothing to do: the tape has what follows."""

    # Requests.

    def _send(self, orders: int, method: str, *args: Any) -> None:
        self._sent += orders
        player = self.player
        if (entry := player.next) is not None and (entry.kind, entry.payload) != (InputKind.SENT, (method, args)):
            raise TapeDiffers(
                f"after {player.taken:,} inputs the recorded session {described(entry)}, "
                f"and this one {described(entry._replace(kind=InputKind.SENT, payload=(method, args)))}"
            )
        player.take()
        self._report()

    def _report(self) -> int:
        """Report what was reported in this call; returns its number."""
        self._calls += 1
        number = self._calls
        while (reported := self.player.numbered(InputKind.BROKER, number)) is not None:
            self.report(reported)
        return number

    def report(self, payload: tuple[Any, ...]) -> None:
        """Report one event, as in the payload of its entry."""
        _, self.replaces, event = payload
        self._sink(event)

    # Market events.

    def on_market(self, events: EventArray) -> int:
        number = self._report()
        taken = self.player.numbered(InputKind.TAKEN, number)
        return len(events) if taken is None else int(taken[1])

    # The connection.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:  # noqa: ARG002  # the tape has the answers
        raise TapeDiffers("a repeated session asks no server: the answers are on the tape")

    async def connect(self, on_waiting: WaitingHandler | None = None) -> None:
        """Always ready."""

    async def close(self) -> None:
        """Nothing to close."""


class RepeatedCalls:
    """Makes the calls on the journal of the replay; errors and unusual answers come from the tape."""

    def __init__(self, journal: Journal, player: TapePlayer) -> None:
        self._journal = journal
        self._player = player
        self._number = 0

    def _failure(self) -> JournalError | None:
        """Number a call; the error that it raised when it was recorded."""
        self._number += 1
        if self._player.numbered(InputKind.JOURNAL_LOST, self._number) is not None:
            self._journal.drop_buffered()
        failed = self._player.numbered(InputKind.JOURNAL_FAILED, self._number)
        if failed is None:
            return None
        _, text, lost = failed
        if lost:
            self._journal.drop_buffered()
        return JournalError(text)

    def write(self, call: Callable[[], object]) -> None:
        if (error := self._failure()) is not None:
            raise error
        call()

    def ask(self, call: Callable[[], T], usual: T, *, writes: bool = False) -> T:
        if (error := self._failure()) is not None:
            raise error
        answered = self._player.numbered(InputKind.JOURNAL_ANSWER, self._number)
        answer: T = usual if answered is None else answered[1]
        if writes and answer == usual:
            call()
        return answer

    def commit(self, transaction: AbstractContextManager[None]) -> None:
        error = self._failure()
        if error is not None:
            transaction.__exit__(JournalError, error, None)
            raise error
        transaction.__exit__(None, None, None)


def described(entry: TapeEntry) -> str:
    """What happened at an entry, for a sentence: "sent cancel('17-2E', '4711')"."""
    if entry.kind is InputKind.SENT:
        method, args = entry.payload
        return f"sent {method}({', '.join(map(str, args))})"
    return f"had {entry.kind.name.lower().replace('_', ' ')} {entry.payload if entry.payload is not None else ''}"


def _no_sink(_event: object) -> None:
    raise RuntimeError("a broker was used before start() named the sink of its events")
