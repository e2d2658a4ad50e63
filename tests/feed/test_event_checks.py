"""The boundary of the live feeds reports what is wrong, and not with every batch."""

from mia_daemon.feed.event_checks import REPORT_AGAIN_NS, EventChecks, EventLimits
from mia_daemon.records import EventKind, empty_events


def off_tick():
    events = empty_events(1)
    events["kind"], events["price"], events["size"] = EventKind.TRADE, 6000.1, 1
    return events


def test_prices_off_the_tick_are_reported_again_after_a_while():
    alerts = []
    checks = EventChecks(EventLimits(0.25), {0: "ES"}, alerts.append, "look there")
    for recv_ns in (1, 2, REPORT_AGAIN_NS, REPORT_AGAIN_NS + 1, REPORT_AGAIN_NS + 2):
        checks.check(off_tick(), recv_ns, recv_ns)
    assert [(alert.code, alert.ts_ns) for alert in alerts] == [
        ("prices_off_tick", 1),
        ("prices_off_tick", REPORT_AGAIN_NS + 1),
    ]
