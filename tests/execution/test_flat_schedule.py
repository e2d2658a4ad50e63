"""Positions end with their time: at the very event, in a silent market, and also when the moment was leapt over."""

import pytest

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.flat_schedule import NO_WINDOWS, FlatSchedule
from mia_daemon.execution.state import FlattenState
from mia_daemon.records import EventKind, OrderRole, empty_events
from mia_daemon.risk.codes import ALLOWED
from mia_daemon.risk.trade_window_filter import FlatRule

SECOND = 1000  # ms
MS = 1_000_000


class Spans:
    """Windows without positions: (start, end, reason), in nanoseconds."""

    def __init__(self, *spans):
        self.spans = spans
        self.asked = []

    def flat_rule(self, ts_ns):
        self.asked.append(ts_ns)
        for start, end, reason in self.spans:
            if start <= ts_ns < end:
                return FlatRule(reason, end)
        return FlatRule("", min((start for start, _, _ in self.spans if start > ts_ns), default=NEVER_NS))


def test_it_is_asked_only_when_something_may_change():
    spans = Spans((100, 200, "session_end"))
    flatten = FlattenState()
    times = FlatSchedule(flatten, spans)
    assert (times.advance(50), flatten.window, times.due_ns) == ("", "", 100)
    assert (times.advance(99), flatten.window) == ("", "")
    assert (times.advance(100), flatten.window, times.due_ns) == ("session_end", "session_end", 200)
    assert (times.advance(200), flatten.window, times.due_ns) == ("", "", NEVER_NS)
    assert times.advance(10**9) == ""
    assert spans.asked == [50, 100, 200]


def test_a_window_leapt_over_asks_all_the_same():
    flatten = FlattenState()
    times = FlatSchedule(flatten, Spans((100, 200, "session_end"), (300, 400, "macro_event")))
    times.advance(50)
    assert (times.advance(250), flatten.window) == ("session_end", "")
    assert (times.advance(500), flatten.window) == ("macro_event", "")


def test_a_window_that_holds_at_the_first_event_counts_from_there():
    flatten = FlattenState()
    times = FlatSchedule(flatten, Spans((100, 200, "session_end")))
    assert (times.advance(150), flatten.window) == ("session_end", "session_end")


def test_without_windows_a_position_may_be_held_for_ever():
    flatten = FlattenState()
    times = FlatSchedule(flatten, NO_WINDOWS)
    assert (times.advance(10**18), times.due_ns) == ("", NEVER_NS)


@pytest.fixture
def until(make_rig):
    """`await until(ms, …)`: a rig at 100.00 whose time without positions begins so long after its first event."""

    async def make(begins, ends=10**9, reason="session_end", **more):
        spans = Spans()
        rig = make_rig(windows=spans, **more)
        spans.spans = ((rig.ts_ns + begins * MS, rig.ts_ns + ends * MS, reason),)
        rig.play((1, 100.0))
        assert await rig.reconcile()
        return rig

    return make


def enter(rig, target=1):
    verdict = rig.decide("buy", target)
    rig.play((10, 100.0), (10, 100.0))
    return verdict


async def test_a_position_is_closed_from_the_very_event_on(until):
    rig = await until(5 * SECOND)
    enter(rig)
    rig.play((4978, 100.0))
    assert (rig.executor.settled, rig.executor._context(ALLOWED).must_exit) == (True, "")
    rig.play((1, 100.0))
    assert (rig.executor.settled, rig.executor._context(ALLOWED).must_exit) == (False, "session_end")
    rig.play((10, 100.0), (10, 100.0))
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert [trade.exit_reason for trade in rig.notices.trades] == ["session_end"]
    assert rig.executor._context(ALLOWED).must_exit == "session_end"  # and nothing is decided otherwise


@pytest.mark.parametrize("cut", [1, 2, 5])
async def test_how_events_are_cut_changes_nothing(until, cut):
    rig = await until(5 * SECOND)
    enter(rig)
    rows = [(700, 100.0 + 0.25 * n) for n in range(12)]
    for start in range(0, len(rows), cut):
        rig.play(*rows[start : start + cut])
    (trade,) = rig.notices.trades
    assert (trade.exit_price, trade.exit_reason) == (101.75, "session_end")


async def test_a_silent_market_leaves_no_position_over_the_close(until):
    """The feed's timer tells the time when nothing trades."""
    rig = await until(5 * SECOND)
    enter(rig)

    def silence(ms):
        rig.ts_ns += ms * MS
        timer = empty_events(1)
        timer["kind"], timer["ts_ns"] = EventKind.TIMER, rig.ts_ns
        rig.executor.on_market(timer)

    silence(4000)
    assert rig.executor.settled
    for _ in range(4):
        silence(1000)
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert rig.notices.trades[0].exit_reason == "session_end"


async def test_a_close_that_no_event_told_of_is_made_up_for(until):
    rig = await until(5 * SECOND, ends=3_600_000)
    enter(rig)
    rig.play((7_200_000, 101.0), (10, 101.0), (10, 101.0))
    assert (rig.position, rig.executor._context(ALLOWED).must_exit) == (0, "")
    assert rig.notices.trades[0].exit_reason == "session_end"
    assert enter(rig).allowed  # the new session may begin


async def test_an_entry_on_its_way_is_called_back_and_what_it_fills_is_closed(until):
    late = {"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 15}}
    rig = await until(5 * SECOND, settings=late)
    rig.play((4990, 100.0))
    assert rig.decide("buy", 1).allowed
    rig.play(*[(20, 100.0)] * 200)
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert [trade.exit_reason for trade in rig.notices.trades] == ["session_end"]


async def test_a_fill_that_turns_up_within_the_window_is_closed_too(until):
    rig = await until(5 * SECOND, reason="macro_event")
    rig.play((6000, 100.0))
    rig.broker._exchange.position, rig.broker._exchange.average_price = 2, 99.0
    await rig.reconcile()
    await rig.reconcile()
    assert rig.position == 2
    rig.play(*[(500, 100.0)] * 8)
    assert (rig.position, rig.orders.with_role(OrderRole.STOP)) == (0, [])
    assert rig.notices.trades[-1].exit_reason == "macro_event"


async def test_a_contract_that_ends_is_left_and_told_of_once(until):
    rig = await until(5 * SECOND, ends=10**11, reason="contract_end")
    enter(rig)
    rig.play(*[(1000, 100.0)] * 10)
    assert rig.position == 0
    assert rig.alert_codes.count("contract_end") == 1
