"""Market deadlines by our clock, once no market event comes any more."""

import pytest
from actor_parts import LOOSE, NOW, ActorParts
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon import config
from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.execution.market_silence import MAX_HOLD, MarketSilence, SilencePolicy
from mia_daemon.execution.order_states import OrderState
from mia_daemon.market import Touch
from mia_daemon.records import OrderRole, OrderStatus, Priority

SILENT, TIMEOUT, HOLD = 5_000, 15_000, 60_000
ALERT = 60 * NS_PER_S
OWN = 7 * NS_PER_S
"""Our clock at the beginning: it has nothing to do with event time."""


class Silent(ActorParts):
    """The last market event came at our time OWN; event time stands still from then on."""

    def __init__(self):
        super().__init__()
        self.own_ns = OWN
        self.state.own_clock = lambda: self.own_ns
        self.state.heard_ns = OWN
        self.raised = []
        self.open = True
        self.silence = MarketSilence(
            self.state,
            self.order_manager,
            SilencePolicy(silent_ns=SILENT, entry_ns=TIMEOUT, hold_ns=HOLD, alert_ns=ALERT),
            lambda code, priority, _text, context: self.raised.append((code, priority, context)),
            lambda _ts_ns: self.open,
        )

    def watch(self, after):
        """The alerts at our time `after`."""
        self.own_ns = OWN + after
        before = len(self.raised)
        self.silence.watch()
        return [code for code, *_ in self.raised[before:]]

    def price(self):
        """A price comes now."""
        self.state.market.touch = Touch(6000.0, 6000.25, ts_ns=self.state.time_ns)

    def opened(self, quantity=1):
        self.hold(quantity)
        self.state.opened_at_ns = self.own_ns

    def work(self, after):
        """What is sent at our time `after`; `due_ns` is counted from the first moment."""
        self.own_ns = OWN + after
        before = len(self.broker.sent)
        due_ns = self.silence.work()
        self.due_ns = due_ns - OWN if due_ns != NEVER_NS else NEVER_NS
        return self.broker.sent[before:]


@pytest.fixture
def parts():
    return Silent()


def test_without_an_entry_or_a_position_nothing_is_due(parts):
    parts.place(OrderRole.STOP)
    assert parts.work(10 * HOLD) == []
    assert parts.due_ns == NEVER_NS


@pytest.mark.parametrize("quantity", [1, -2])
def test_a_position_is_held_no_longer_than_its_time_though_no_event_comes(parts, quantity):
    parts.opened(quantity)
    parts.work(HOLD - 1)
    assert (parts.state.flatten.reason, parts.due_ns) == ("", HOLD)
    parts.work(HOLD)
    assert parts.state.flatten.reason == MAX_HOLD
    assert parts.due_ns == NEVER_NS


def test_an_entry_is_cancelled_in_time_though_no_event_comes(parts):
    entry = parts.place()
    assert parts.work(TIMEOUT - 1) == []
    assert parts.due_ns == TIMEOUT
    assert parts.work(TIMEOUT) == [("cancel", entry.client_order_id)]
    assert parts.work(TIMEOUT + 1) == []


def test_an_entry_whose_number_is_not_known_is_cancelled_as_soon_as_it_is(parts):
    entry = parts.place(state=OrderState.SENT)
    assert parts.work(TIMEOUT) == []
    parts.report(entry, OrderStatus.WORKING)
    parts.order_manager.work()
    assert parts.broker.sent == [("cancel", entry.client_order_id)]


@given(st.lists(st.integers(0, SILENT - 1), min_size=1, max_size=60))
def test_while_events_come_their_time_alone_counts(gaps):
    """A market that is only slow, or an event time that runs behind ours: `max_hold_s` is in event time."""
    parts = Silent()
    parts.opened()
    entry = parts.place()
    now = HOLD + TIMEOUT  # both times are over by our clock
    parts.state.heard_ns = OWN + now
    for gap in gaps:
        assert parts.work(now + gap) == []
        assert parts.due_ns >= now + SILENT
        now += gap
        parts.state.heard_ns = OWN + now
    assert parts.state.flatten.reason == ""
    assert parts.work(now + SILENT) == [("cancel", entry.client_order_id)]
    assert parts.state.flatten.reason == MAX_HOLD


def test_a_position_of_an_earlier_run_counts_from_the_start(parts):
    """Before the first market event."""
    parts.opened()
    parts.state.heard_ns = 0
    parts.work(HOLD - 1)
    assert parts.state.flatten.reason == ""
    parts.work(HOLD)
    assert parts.state.flatten.reason == MAX_HOLD


def test_while_the_position_is_being_closed_its_reason_stays(parts):
    parts.opened()
    parts.state.request_flatten("operator")
    parts.work(2 * HOLD)
    assert (parts.state.flatten.reason, parts.state.flatten.requests) == ("operator", 1)


def test_in_a_replay_our_time_is_event_time_and_so_no_market_is_silent():
    parts = Silent()
    parts.state.own_clock = None
    parts.hold(1)
    parts.state.opened_at_ns = parts.state.heard_ns = NOW
    parts.after(2 * HOLD)
    parts.state.heard_ns = parts.state.own_ns  # as with each event
    parts.silence.work()
    assert parts.state.flatten.reason == ""


def test_times_are_those_of_the_settings_and_the_silence_is_stretched_with_our_clock():
    settings = config.parse(
        {
            "risk": LOOSE.model_dump(),
            "broker": {"entry_timeout_s": 3.0},
            "decision": {"max_hold_s": 90.0},
        },
        "test",
        environ={},
    )
    assert SilencePolicy.of(settings, 4.0) == SilencePolicy(20 * NS_PER_S, 3 * NS_PER_S, 90 * NS_PER_S, 240 * NS_PER_S)


# The alert that prices have stopped.


def test_prices_that_stop_and_come_again_are_an_alert_each(parts):
    assert parts.watch(0) == []
    assert parts.watch(ALERT - 1) == []
    assert parts.watch(ALERT) == ["market_silent"]
    assert parts.watch(3 * ALERT) == []
    parts.price()
    assert parts.watch(3 * ALERT + NS_PER_S) == ["market_prices"]
    assert parts.watch(4 * ALERT + NS_PER_S) == ["market_silent"]


@pytest.mark.parametrize(("quantity", "priority"), [(0, Priority.ERROR), (2, Priority.CRITICAL)])
def test_silence_matters_more_while_a_position_is_held(parts, quantity, priority):
    if quantity:
        parts.hold(quantity)
    parts.watch(0)
    parts.watch(ALERT)
    assert parts.raised == [("market_silent", priority, {"position": quantity, "silent_s": 60.0})]


def test_a_closed_market_may_be_silent_and_its_prices_are_expected_from_the_open_on(parts):
    parts.watch(0)
    parts.open = False
    assert parts.watch(2 * ALERT) == []
    parts.open = True
    assert parts.watch(3 * ALERT) == []
    assert parts.watch(4 * ALERT - 1) == []
    assert parts.watch(4 * ALERT) == ["market_silent"]


def test_before_the_first_event_the_wall_clock_has_the_time_where_it_is_real(parts):
    parts.state.heard_ns = 0
    assert parts.watch(0) + parts.watch(2 * ALERT) == []
    parts.state.wall_clock = lambda: NOW + parts.own_ns
    assert parts.watch(2 * ALERT) == []
    assert parts.watch(3 * ALERT) == ["market_silent"]
