"""Messages a second and a day: what is reserved for cancels and exits is never taken by entries."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.throttle import BRACKET_MESSAGES, Throttle

NOW = 1_790_000_000 * NS_PER_S
WAIVED = RiskSettings(
    **dict.fromkeys(RiskSettings.model_fields) | {"cancel_reserve_share": 0.25, "market_pause_s": 0.0}
)


def throttle(sent_today=0, **limits):
    return Throttle(WAIVED.model_copy(update=limits), sent_today)


def enter(one, ts_ns):
    """Send a bracket if that is allowed; the code."""
    denied = one.check(ts_ns)
    if denied is None:
        one.order(ts_ns, BRACKET_MESSAGES)
        return RiskCode.OK
    return denied.code


def test_waived_limits_let_everything_pass():
    one = throttle(sent_today=10**9)
    assert {enter(one, NOW) for _ in range(1000)} == {RiskCode.OK}
    assert one.score(NOW) == 0.0


def test_a_bracket_is_three_messages_and_fits_exactly_or_not_at_all():
    one = throttle(max_messages_per_second=12)  # 9 are for entries
    assert [enter(one, NOW) for _ in range(4)] == [RiskCode.OK] * 3 + [RiskCode.MESSAGE_RATE]
    denied = one.check(NOW + NS_PER_S - 1)
    assert (denied.code, denied.context) == (RiskCode.MESSAGE_RATE, {"last_second": 9, "unreserved": 9})
    assert one.check(NOW + NS_PER_S) is None


def test_cancels_use_up_what_entries_may_send():
    one = throttle(max_messages_per_second=12)
    for _ in range(7):
        one.message(NOW)
    assert enter(one, NOW) is RiskCode.MESSAGE_RATE


def test_the_day_counts_from_its_start_and_over_restarts():
    one = throttle(max_messages_per_day=100, sent_today=72)
    assert [enter(one, NOW + n * NS_PER_S) for n in range(2)] == [RiskCode.OK, RiskCode.MESSAGE_RATE]
    one.start_day()
    assert one.sent_today == 0
    assert enter(one, NOW + 3 * NS_PER_S) is RiskCode.OK


def test_a_minute_that_is_full_says_how_full():
    one = throttle(max_orders_per_minute=2)
    for _ in range(2):
        one.order(NOW)
    assert str(one.check(NOW)) == "order_rate orders=2 limit=2"
    assert one.sent_today == 2
    day = throttle(sent_today=73, max_messages_per_day=100)
    assert str(day.check(NOW)) == "message_rate today=73 unreserved=75"


def test_exits_beyond_the_budget_are_scored_as_all_of_it():
    one = throttle(max_orders_per_minute=2)
    for _ in range(3):
        one.order(NOW)
    assert one.score(NOW) == 1.0


@pytest.mark.parametrize(("reserve", "allowed"), [(0.0, 4), (0.5, 2), (1.0, 0)])
def test_the_reserve_is_as_configured(reserve, allowed):
    one = throttle(max_messages_per_second=12, cancel_reserve_share=reserve)
    assert [enter(one, NOW) for _ in range(6)].count(RiskCode.OK) == allowed


@dataclasses.dataclass
class Sent:
    ts_ns: int
    count: int
    entry: bool


@given(
    st.lists(st.tuples(st.integers(0, 700), st.sampled_from(["enter", "cancel", "exit"]), st.integers(1, 8))),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.25, 0.9]),
)
@settings(max_examples=200)
def test_entries_never_take_what_is_reserved_however_bursts_fall(steps, limit, reserve):
    """Whenever an entry leaves, the second before it, itself included, is within the unreserved share."""
    one = throttle(max_messages_per_second=limit, cancel_reserve_share=reserve)
    now, sent = NOW, []
    for wait_ms, what, times in steps:
        now += wait_ms * NS_PER_MS
        for _ in range(times):
            if what != "enter":  # never asked about, and always counted
                (one.order if what == "exit" else one.message)(now)
                sent.append(Sent(now, 1, entry=False))
            elif enter(one, now) is RiskCode.OK:
                sent.append(Sent(now, BRACKET_MESSAGES, entry=True))
    for position, last in enumerate(sent):
        if last.entry:
            second = [one.count for one in sent[: position + 1] if one.ts_ns > last.ts_ns - NS_PER_S]
            assert sum(second) <= limit * (1 - reserve) + 1e-6
