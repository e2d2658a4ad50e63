"""The entrance of an account: one time for each input, and what goes on the tape."""

import pytest
from actor_parts import ActorParts

from mia_daemon.errors import JournalError, TapeDiffers, TapeEnds
from mia_daemon.execution.account_journal import AccountJournal, TapedCalls
from mia_daemon.execution.inputs import AccountInputs, InputKind, TapeEntry
from mia_daemon.execution.repeated import RepeatedBroker, RepeatedCalls, TapePlayer
from mia_daemon.execution.taped_broker import TapedBroker
from mia_daemon.records import BrokerTrouble, LinkReport, LinkState

UP = LinkReport(0, LinkState.UP, "logged on")
TROUBLE = BrokerTrouble("message_unread", "one could not be read")


class FakeTape:
    """Keeps the entries, and how many were there at each flush."""

    def __init__(self):
        self.entries = []
        self.flushed = []

    def add(self, entry):
        self.entries.append(entry)

    def flush(self):
        self.flushed.append(len(self.entries))

    @property
    def kinds(self):
        return [entry.kind.name for entry in self.entries]


class Entrance:
    """An account's entrance under a clock that goes on with each reading."""

    def __init__(self):
        self.parts = ActorParts()
        self.state = self.parts.state
        self.readings = iter(range(10**9, 2 * 10**9))
        self.state.own_clock = lambda: next(self.readings)
        self.state.wall_clock = lambda: next(self.readings) * 1000
        self.tape = FakeTape()
        self.inputs = AccountInputs(self.state, self.tape)


@pytest.fixture
def entrance():
    return Entrance()


def test_our_time_stands_still_within_an_input_and_goes_on_between(entrance):
    state = entrance.state
    with entrance.inputs(InputKind.TIMER):
        first = (state.own_ns, state.wall_ns)
        assert (state.own_ns, state.wall_ns) == first
    assert state.own_ns != state.own_ns
    assert [(entry.own_ns, entry.wall_ns) for entry in entrance.tape.entries] == [first]


def test_an_input_within_another_is_part_of_it_but_for_what_the_broker_reports(entrance):
    with entrance.inputs(InputKind.OPERATOR, ("stop", {})):
        with entrance.inputs(InputKind.OPERATOR, ("cancel_all", {})):
            pass
        with entrance.inputs.broker_event(UP):
            pass
    assert entrance.tape.kinds == ["OPERATOR", "BROKER"]
    assert len({entry.own_ns for entry in entrance.tape.entries}) == 1


def test_windows_and_signals_are_written_after_their_orders(entrance):
    for kind in (InputKind.WINDOW, InputKind.SIGNAL):
        with entrance.inputs(kind, 1):
            pass
    assert entrance.tape.flushed == []
    with entrance.inputs(InputKind.TIMER):
        pass
    assert entrance.tape.flushed == [3]


# Recorded, and played back.


class RefusingBroker:
    """Reports within the call that it can't send."""

    has_own_clock = True
    replaces = False
    orders_sent = 0

    def start(self, on_event):
        self._sink = on_event

    def cancel(self, *_):
        self._sink(TROUBLE)


def test_what_a_broker_reports_within_a_call_is_reported_within_the_same_call_again(entrance):
    heard = []
    inputs = entrance.inputs

    def sink(event):
        with inputs.broker_event(event):
            heard.append(event)

    broker = TapedBroker(RefusingBroker(), inputs)
    broker.start(sink)
    with inputs(InputKind.TIMER):
        broker.cancel("1E", "7")
        broker.cancel("2E", "8")
    assert entrance.tape.kinds == ["TIMER", "SENT", "BROKER", "SENT", "BROKER"]
    again = []
    player = TapePlayer(entrance.tape.entries)
    repeated = RepeatedBroker(player, has_own_clock=True, replaces=True)
    repeated.start(again.append)
    player.take()
    repeated.cancel("1E", "7")
    assert again == heard[:1]
    assert not repeated.replaces
    repeated.cancel("2E", "8")
    assert again == heard
    with pytest.raises(TapeEnds):
        repeated.cancel("3E", "9")


def test_another_request_than_the_recorded_one_is_named():
    sent = TapeEntry(InputKind.SENT, 1, 0, ("cancel", ("1E", "7")))
    broker = RepeatedBroker(TapePlayer([sent]), has_own_clock=True, replaces=True)
    with pytest.raises(TapeDiffers, match=r"session sent cancel\(1E, 7\), and this one sent cancel\(1E, 8\)"):
        broker.cancel("1E", "8")


class FailingJournal:
    """Fails at the second write, with everything buffered lost."""

    has_buffered = False

    def __init__(self):
        self.written = []
        self.dropped = self.losses = 0

    def record_trade(self, trade):
        if trade == "second" and not self.dropped:
            raise JournalError("the disk is full")
        self.written.append(trade)

    def has_run(self, run_id):
        return run_id == "known"

    def drop_buffered(self):
        self.dropped += 1
        self.written.clear()


def test_the_journals_errors_and_answers_come_from_the_tape(entrance):
    journal = AccountJournal(FailingJournal(), TapedCalls(FailingJournal(), entrance.inputs))
    journal.record_trade("first")
    with pytest.raises(JournalError):
        journal.record_trade("second")
    journal.record_trade("third")
    assert (journal.has_run("known"), journal.has_run("unknown")) == (True, False)
    assert entrance.tape.kinds == ["JOURNAL_FAILED", "JOURNAL_ANSWER"]

    other = FailingJournal()
    again = AccountJournal(other, RepeatedCalls(other, TapePlayer(entrance.tape.entries)))
    again.record_trade("first")
    with pytest.raises(JournalError, match="the disk is full"):
        again.record_trade("second")
    again.record_trade("third")
    assert other.written == ["third"]  # what was buffered is lost, as it was then
    assert (again.has_run("known"), again.has_run("unknown")) == (True, False)


def test_rows_that_an_error_of_anothers_call_took_are_lost_again(entrance):
    recorded = FailingJournal()
    journal = AccountJournal(recorded, TapedCalls(recorded, entrance.inputs))
    journal.record_trade("first")
    recorded.losses += 1  # an alert could not be written, and SQLite has rolled back
    journal.record_trade("third")
    assert entrance.tape.kinds == ["JOURNAL_LOST"]
    other = FailingJournal()
    again = AccountJournal(other, RepeatedCalls(other, TapePlayer(entrance.tape.entries)))
    again.record_trade("first")
    again.record_trade("third")
    assert other.written == ["third"]
