"""Repeats a recorded session: gives an account the inputs of its tape, in the order in which they were processed."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from mia_daemon.errors import JournalError, PeerError, TapeDiffers, TapeEnds, UsageError
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.execution.reconcile_policy import SnapshotQuery
from mia_daemon.execution.repeated import RepeatedBroker, described
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.records import EventArray, Signal
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import DecisionPath


class RecordedEvents(Protocol):
    """The market events of a recorded session."""

    def take(self, count: int) -> EventArray:
        """The next `count` events; fewer at the end of the recording."""


class SessionRepeat:
    """One repetition of a session.

    Args:
        broker: the account's, with the player of the session's tape.
        on_events: called with each window's events before they are processed.
        on_checkpoint: called about once a second of the recorded session.

    Attributes:
        failures: errors that ended the processing of an input, as they did in the recorded session.
    """

    def __init__(
        self,
        broker: RepeatedBroker,
        account: TradingAccount,
        path: DecisionPath,
        pipeline: FeaturePipeline,
        *,
        on_events: Callable[[EventArray], None] = lambda _events: None,
        on_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self.failures: list[str] = []
        self._player = broker.player
        self._account = account
        self._executor = account.executor
        self._path = path
        self._pipeline = pipeline
        self._on_events = on_events
        self._on_checkpoint = on_checkpoint
        self._signal: Signal | None = None
        self._query: SnapshotQuery | None = None
        self._apply: Final[dict[InputKind, Callable[[Any], object]]] = {
            InputKind.SIGNAL: self._decide,
            InputKind.BROKER: broker.report,
            InputKind.TIMER: lambda _none: self._executor.on_timer(),
            InputKind.CHECKPOINT: self._checkpoint,
            InputKind.BEGIN_RECONCILE: self._begin_reconcile,
            InputKind.SNAPSHOT: lambda snapshot: self._executor.on_snapshot(self._asked(), snapshot),
            InputKind.SNAPSHOT_FAILED: self._snapshot_failed,
            InputKind.OPERATOR: self._act,
        }

    def run(self, events: RecordedEvents) -> None:
        """Give the account every input.

        Raises:
            TapeDiffers: the account does something else than it did; the text says where.
        """
        player = self._player
        try:
            while player.next is not None:
                entry = player.take()
                if entry.kind is InputKind.WINDOW:
                    window = events.take(entry.payload)
                    if len(window) < entry.payload:
                        return  # killed before they were recorded
                    self._give(entry._replace(payload=window), self._window)
                else:
                    self._give(entry, self._apply.get(entry.kind) or partial(self._unexpected, entry))
        except TapeEnds:
            return  # killed while it was processed

    def _give(self, entry: TapeEntry, apply: Callable[[Any], object]) -> None:
        try:
            apply(entry.payload)
        except (TapeDiffers, TapeEnds):
            raise
        except Exception as error:  # noqa: BLE001  # the recorded session had it too, and went on or ended
            self.failures.append(f"{entry.kind.name}: {type(error).__name__}: {error}")

    def _unexpected(self, entry: TapeEntry, _payload: Any) -> None:
        raise TapeDiffers(
            f"after {self._player.taken - 1:,} inputs the recorded session {described(entry)}, and this one did not"
        )

    def _window(self, events: EventArray) -> None:
        self._on_events(events)
        windows = list(self._pipeline.windows(events, 0))
        if len(windows) != 1:
            raise TapeDiffers(f"{len(events)} events make {len(windows)} windows now, and made one")
        self._signal = self._path.infer(windows[0])

    def _decide(self, delays: Any) -> None:
        signal, self._signal = self._signal, None
        if signal is None:
            raise TapeDiffers(f"after {self._player.taken:,} inputs a decision was made for which none is due now")
        self._path.execute(signal, delays)

    def _checkpoint(self, _payload: Any) -> None:
        self._executor.checkpoint()
        self._on_checkpoint()

    def _begin_reconcile(self, _payload: Any) -> None:
        self._query = self._executor.begin_reconcile() or self._query

    def _asked(self) -> SnapshotQuery:
        if self._query is None:
            raise TapeDiffers("a snapshot was answered that nobody asked for")
        return self._query

    def _snapshot_failed(self, text: str | None) -> None:
        self._executor.reconcile_failed(self._asked(), None if text is None else PeerError(text))

    def _act(self, payload: tuple[str, dict[str, Any]]) -> None:
        name, arguments = payload
        if arguments.get("code") is not None:
            arguments = {**arguments, "code": RiskCode(arguments["code"])}
        try:
            getattr(self._account.operator, name)(**arguments)
        except (JournalError, UsageError) as error:
            self.failures.append(f"{name}: {error}")
