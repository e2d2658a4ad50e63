"""The inputs of an account: everything that reaches the control loop from outside, in order, each at one time.

Market windows, signals, broker events, ticks of our clock, snapshots and operators' actions come in through
`AccountInputs`. Our time is read once for each, so that everything an input leads to sees the same time. Where a
session is recorded, each input is added to a tape, with what the account asked and got while it was processed: the
requests sent to the broker, the journal's errors and its answers. Played back, the tape gives the same session.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol, Self

from mia_daemon.execution.state import ExecutionState


class InputKind(IntEnum):
    """What an entry of a tape is; the comment states its payload."""

    WINDOW = 1  # a feature window's events: how many
    SIGNAL = 2  # the prediction on the last window: Delays
    BROKER = 3  # (number of the broker call it came in; 0: in none, `replaces` of the broker, event)
    TIMER = 4  # something fell due in our time: None
    CHECKPOINT = 5  # the journal's buffer was committed: None
    BEGIN_RECONCILE = 6  # None
    SNAPSHOT = 7  # BrokerSnapshot
    SNAPSHOT_FAILED = 8  # text of the error; None: abandoned
    OPERATOR = 9  # (name of the action, keyword arguments)
    OPENED = 10  # orders of earlier runs were restored: None
    # What happened while an input was processed.
    SENT = 16  # (method of the broker, its arguments)
    TAKEN = 17  # (number of the broker call, events processed): `on_market` stopped before the last
    JOURNAL_FAILED = 18  # (number of the journal call, text, whether buffered rows were lost)
    JOURNAL_ANSWER = 19  # (number of the journal call, answer), where it is not the usual one
    JOURNAL_LOST = 21  # (number of the next journal call,): buffered rows were lost by an error of another's call
    ORDERS_BESIDE = 20  # (number of the reading, orders that the broker counts beyond those it was given)


class TapeEntry(NamedTuple):
    """One entry of a tape.

    Attributes:
        own_ns: our time of the input.
        wall_ns: wall clock then; 0 where event time is not real time.
    """

    kind: InputKind
    own_ns: int
    wall_ns: int
    payload: Any


class InputTape(Protocol):
    """Takes the entries of a tape."""

    def add(self, entry: TapeEntry) -> None:
        """Append one; nothing is written yet."""

    def flush(self) -> None:
        """Called when an input has been processed and its orders are sent."""


class NoTape:
    """Takes nothing: the session is not recorded."""

    def add(self, entry: TapeEntry) -> None: ...

    def flush(self) -> None: ...


NO_TAPE: Final = NoTape()

_LATER: Final = frozenset({InputKind.WINDOW, InputKind.SIGNAL})
"""Written after the batch: an order may follow."""


class AccountInputs:
    """The entrance of one account. `with inputs(kind, payload):` encloses the processing of an input.

    An input within another (an operator's action that takes a second one) is part of the outer one; only what the
    broker reports meanwhile has an entry of its own.
    """

    __slots__ = ("_depth", "_kind", "_state", "_tape", "broker_call", "replaces")

    def __init__(self, state: ExecutionState, tape: InputTape = NO_TAPE) -> None:
        self.broker_call = 0  # number of the broker call under way; 0: none
        self.replaces = True  # the broker's, as of its last call or event
        self._state = state
        self._tape = tape
        self._depth = 0
        self._kind = InputKind.TIMER

    def __call__(self, kind: InputKind, payload: Any = None) -> "AccountInputs":
        if not self._depth:
            self._state.begin_input()
            self._kind = kind
        elif kind is not InputKind.BROKER:
            return self
        self.note(kind, payload)
        return self

    def broker_event(self, event: Any) -> "AccountInputs":
        """Encloses the processing of a broker's event."""
        return self(InputKind.BROKER, (self.broker_call, self.replaces, event))

    def note(self, kind: InputKind, payload: Any) -> None:
        """Add what happened while the present input is processed."""
        state = self._state
        self._tape.add(TapeEntry(kind, state.own_ns, state.wall_ns, payload))

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._state.end_input()
            if self._kind not in _LATER:
                self._tape.flush()
