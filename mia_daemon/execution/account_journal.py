"""The journal as the actors of one account use it: each call is numbered, so that a tape can state which failed.

The answers that depend on earlier runs, and the errors, are part of a recorded session: played back they come from the
tape, whatever the journal of the replay contains.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol, TypeVar

from mia_daemon.errors import JournalError
from mia_daemon.execution.inputs import AccountInputs, InputKind
from mia_daemon.journal.writer import Journal, RequestKind
from mia_daemon.records import Decision, Fill, Order, OrderReport, PositionReport, Trade
from mia_daemon.risk.codes import Latch, RiskCode, Verdict

T = TypeVar("T")


class JournalCalls(Protocol):
    """Makes the numbered calls."""

    def write(self, call: Callable[[], object]) -> None:
        """Make a call that only writes. Raises JournalError."""

    def ask(self, call: Callable[[], T], usual: T, *, writes: bool = False) -> T:
        """Make a call that answers, and may write; `usual` is the answer that has no entry on the tape.

        Raises JournalError.
        """

    def commit(self, transaction: AbstractContextManager[None]) -> None:
        """End a transaction that had no error. Raises JournalError: nothing of it is in the journal."""


class TapedCalls:
    """Makes the calls on the journal, and notes errors and unusual answers."""

    def __init__(self, journal: Journal, inputs: AccountInputs) -> None:
        self._journal = journal
        self._inputs = inputs
        self._number = 0
        self._losses = 0

    def write(self, call: Callable[[], object]) -> None:
        self._number += 1
        number = self._number
        if self._journal.losses != self._losses:
            self._losses = self._journal.losses
            self._inputs.note(InputKind.JOURNAL_LOST, (number,))
        try:
            call()
        except JournalError as error:
            lost, self._losses = not self._journal.has_buffered, self._journal.losses
            self._inputs.note(InputKind.JOURNAL_FAILED, (number, str(error), lost))
            raise

    def ask(self, call: Callable[[], T], usual: T, *, writes: bool = False) -> T:  # noqa: ARG002  # either is made
        answers: list[T] = []
        self.write(lambda: answers.append(call()))
        (answer,) = answers
        if answer != usual:
            self._inputs.note(InputKind.JOURNAL_ANSWER, (self._number, answer))
        return answer

    def commit(self, transaction: AbstractContextManager[None]) -> None:
        self.write(partial(transaction.__exit__, None, None, None))


class AccountJournal:
    """What the actors may ask of the journal; every method raises JournalError. See `Journal` for each."""

    def __init__(self, journal: Journal, calls: JournalCalls) -> None:
        self._journal = journal
        self._calls = calls

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything recorded within is committed together at the end; on an error nothing of it is."""
        transaction = self._journal.transaction()
        self._calls.write(transaction.__enter__)
        try:
            yield
        except BaseException:
            transaction.__exit__(*sys.exc_info())
            raise
        self._calls.commit(transaction)

    def commit(self) -> None:
        """Commit what is buffered."""
        self._calls.write(self._journal.commit)

    # Questions.

    def has_fill(self, client_order_id: str, execution_id: str) -> bool:
        """Whether this execution of this order is in the journal, of whichever run."""
        return self._calls.ask(partial(self._journal.has_fill, client_order_id, execution_id), usual=False)

    def executions_of(self, server_order_id: str) -> tuple[Fill, ...]:
        """All fills in the journal under this server order id, of whichever order and run, oldest first."""
        return self._calls.ask(partial(self._journal.executions_of, server_order_id), usual=())

    def has_run(self, run_id: str) -> bool:
        """Whether a run of this name is in the journal."""
        return self._calls.ask(partial(self._journal.has_run, run_id), usual=False)

    def has_intent(self, client_order_id: str) -> bool:
        """Whether this order is in the journal, of whichever run."""
        return self._calls.ask(partial(self._journal.has_intent, client_order_id), usual=False)

    # Records.

    def record_intent(self, orders: Sequence[Order], ts_ns: int) -> None:
        """Orders about to be sent; committed on return."""
        self._calls.write(partial(self._journal.record_intent, orders, ts_ns))

    def record_request(
        self,
        client_order_id: str,
        kind: RequestKind,
        ts_ns: int,
        price: float | None = None,
        quantity: int | None = None,
        reason: str = "",
    ) -> None:
        """A cancel or a replace that is about to be sent."""
        self._calls.write(partial(self._journal.record_request, client_order_id, kind, ts_ns, price, quantity, reason))

    def record_fill(self, fill: Fill) -> bool:
        """An execution; False when its order has one of this id already."""
        return self._calls.ask(partial(self._journal.record_fill, fill), usual=True, writes=True)

    def record_trade(self, trade: Trade) -> None:
        """A closed round trip."""
        self._calls.write(partial(self._journal.record_trade, trade))

    def record_decision(self, decision: Decision, verdict: Verdict | None = None) -> None:
        """One decision, and the last verdict of risk on the entry it wants."""
        self._calls.write(partial(self._journal.record_decision, decision, verdict))

    def record_update(self, update: OrderReport) -> None:
        """What the server reported of an order."""
        self._calls.write(partial(self._journal.record_update, update))

    def record_position(self, report: PositionReport) -> None:
        """The position as the server reported it."""
        self._calls.write(partial(self._journal.record_position, report))

    def record_firing(self, ts_ns: int, waited_ns: int, what: str, client_order_id: str = "") -> None:
        """A deadline on the daemon's own clock that was reached."""
        self._calls.write(partial(self._journal.record_firing, ts_ns, waited_ns, what, client_order_id))

    def record_equity(
        self, ts_ns: int, equity: float, peak: float, position: int, unrealized: float, realized_today: float
    ) -> None:
        """A point of the equity curve."""
        self._calls.write(
            partial(self._journal.record_equity, ts_ns, equity, peak, position, unrealized, realized_today)
        )

    def set_latch(self, latch: Latch) -> None:
        """A breaker tripped."""
        self._calls.write(partial(self._journal.set_latch, latch))

    def keep_latch(self, latch: Latch) -> None:
        """Keep a latch beside the journal."""
        self._journal.keep_latch(latch)

    def clear_latch(self, code: RiskCode, ts_ns: int, by: str) -> None:
        """An operator resumed."""
        self._calls.write(partial(self._journal.clear_latch, code, ts_ns, by))
