"""The boundary of the live feeds reports what is wrong, and not with every batch."""

from mia_daemon.feed.event_checks import NO_LIMITS, REPORT_AGAIN_NS, CheckedSymbol, EventChecks
from mia_daemon.records import EventKind, Priority, empty_events


def off_tick(symbol=0):
    events = empty_events(1)
    events["symbol"] = symbol
    events["kind"], events["price"], events["size"] = EventKind.TRADE, 6000.1, 1
    return events


def test_prices_off_the_tick_are_reported_again_after_a_while():
    alerts = []
    checks = EventChecks(NO_LIMITS, {0: CheckedSymbol("ES", 0.25, "look there")}, alerts.append)
    for recv_ns in (1, 2, REPORT_AGAIN_NS, REPORT_AGAIN_NS + 1, REPORT_AGAIN_NS + 2):
        checks.check(off_tick(), recv_ns, recv_ns)
    assert [(alert.code, alert.ts_ns) for alert in alerts] == [
        ("prices_off_tick", 1),
        ("prices_off_tick", REPORT_AGAIN_NS + 1),
    ]


def test_prices_of_the_reference_off_its_tick_are_reported_apart_from_the_traded_ones():
    alerts = []
    symbols = {0: CheckedSymbol("ES", 0.25, "look here"), 1: CheckedSymbol("6J", 0.5, "look there")}
    checks = EventChecks(NO_LIMITS, symbols, alerts.append)
    for symbol in (1, 0, 1, 0):
        checks.check(off_tick(symbol), 1, 1)
    assert [(alert.code, alert.priority) for alert in alerts] == [
        ("reference_prices_off_tick", Priority.ERROR),
        ("prices_off_tick", Priority.CRITICAL),
    ]
    assert "6J has a price of 6000.1, which is no multiple of its tick 0.5: trading goes on" in alerts[0].text
    assert alerts[0].text.endswith("; look there")
    assert alerts[0].context == {"symbol": "6J", "price": 6000.1, "tick_size": 0.5}


def test_prices_of_a_symbol_without_a_tick_are_not_checked():
    checks = EventChecks(NO_LIMITS, {0: CheckedSymbol("ES", 0.25), 1: CheckedSymbol("XY")}, [].append)
    events = off_tick(1)
    assert checks.check(events, 1, 1)["price"].tolist() == [6000.1]
