"""Repeats the recorded session of one life: the same inputs have to lead to the same orders and decisions."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mia_daemon.errors import JournalError, TapeDiffers, TapeEnds
from mia_daemon.execution.inputs import TapeEntry
from mia_daemon.execution.repeated import RepeatedBroker, TapePlayer
from mia_daemon.execution.tape_file import decoded, encoded
from mia_daemon.journal.writer import Journal
from mia_daemon.records import EventArray, Prediction, empty_events
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import DecisionPath
from mia_daemon.trading.session_repeat import SessionRepeat


class MemoryTape:
    """Keeps what a recording of a life would have, as the file would have it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.events: list[EventArray] = []
        self.predictions: list[Prediction] = []
        self._waiting: list[TapeEntry] = []

    def add(self, entry: TapeEntry) -> None:
        self._waiting.append(entry)

    def flush(self) -> None:
        for entry in self._waiting:
            self.data += encoded(entry)
        self._waiting.clear()

    def entries(self, rename: tuple[str, str]) -> Iterator[TapeEntry]:
        """What was recorded, a last input in which the life ended included."""
        self.flush()
        return decoded(bytes(self.data), rename)


class _Events:
    """The recorded events."""

    def __init__(self, batches: list[EventArray]) -> None:
        self._events = np.concatenate([empty_events(0), *batches])
        self._start = 0

    def take(self, count: int) -> EventArray:
        start, self._start = self._start, self._start + count
        return self._events[start : self._start]


class RecordedPredictions:
    """Gives the predictions that were made."""

    probability_ns = 0

    def __init__(self, predictions: list[Prediction]) -> None:
        self._predictions = iter(predictions)

    def predict(self, *_: Any) -> Prediction:
        for prediction in self._predictions:
            return prediction
        raise TapeEnds("the life ended before it predicted")


def repeated(life: Any, directory: Path) -> Iterator[str]:
    """Yield what differs when the session of `life` is repeated, in a journal in `directory`."""
    if life.account is None:
        return
    journal = Journal(directory / "repeated.db", durable=False)
    journal.path = Path("journal.db")
    try:
        run_id = life.begin(journal)
        player = TapePlayer(life.tape.entries((life.account.scope.run_id, run_id)))
        broker = RepeatedBroker(player, has_own_clock=True, replaces=True)
        try:
            account: TradingAccount = life.open_account(journal, broker, run_id, life.begun, player)
        except TapeEnds:
            return
        components: Any = life.components(account.executor, RecordedPredictions(life.tape.predictions))
        path = DecisionPath(components, account.scope.instrument, life.max_position, life.clock)
        repeat = SessionRepeat(broker, account, path, components.pipeline)
        try:
            repeat.run(_Events(life.tape.events))
        except TapeDiffers as difference:
            yield f"repeated from its recording: {difference}"
            return
        if life.clean and path.tally.digest.digest() != life.session.tally.digest.digest():
            yield f"repeated from its recording: {path.tally.decisions} decisions, of which some differ"
    finally:
        with suppress(JournalError):
            journal.close()
