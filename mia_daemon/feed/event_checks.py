"""The boundary of the live feeds: what a server or a file says is checked here before anything else sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.event_prices import EventPrices
from mia_daemon.feed.event_times import EventTimes
from mia_daemon.records import Alert, AlertSink, EventArray, Priority, empty_events


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What the time of an event may be.

    Attributes:
        slack_ns: by how much an event may be ahead of its receipt; None: times are not checked, as the server's time is
            known not to be ours.
        own_time: whether the server may turn out to have a time of its own (`feed.max_event_age_s = 0`).
    """

    slack_ns: int | None = None
    own_time: bool = False


class CheckedSymbol(NamedTuple):
    """A symbol whose events are checked.

    Attributes:
        name: for people: the symbol, or its file.
        tick_size: points; None: its prices are not checked, as where the product of a reference symbol is not known.
        hint: what a person should look at when prices are off the tick.
    """

    name: str
    tick_size: float | None = None
    hint: str = ""


REPORT_AGAIN_NS: Final = 60 * NS_PER_S
"""For so long after a report about prices off the tick there is no other: every batch may have such prices."""

_OFF_TICK_TRADED: Final = ("prices_off_tick", Priority.CRITICAL, "nothing is opened while such prices come")
_OFF_TICK_REFERENCE: Final = (
    "reference_prices_off_tick",
    Priority.ERROR,
    "trading goes on, with features that compare with a wrong price",
)

NO_LIMITS: Final = EventLimits()


class EventChecks:
    """Checks one stream of events, in the order of receipt: times by `EventTimes`, prices by `EventPrices`.

    Args:
        symbols: what the events are of, by the `symbol` column; 0 is the traded one.
    """

    def __init__(self, limits: EventLimits, symbols: Mapping[int, CheckedSymbol], on_alert: AlertSink) -> None:
        self._symbols = symbols
        self._on_alert = on_alert
        self._recv_ns = 0
        self._off_tick_due_ns = dict.fromkeys(symbols, 0)  # of receipt, from when on such prices are reported again
        tick_sizes = {n: symbol.tick_size for n, symbol in symbols.items() if symbol.tick_size is not None}
        self._prices = EventPrices(tick_sizes, self._off_tick) if tick_sizes else None
        slack_ns = limits.slack_ns
        self._times = None if slack_ns is None else EventTimes(slack_ns, self._from_future, own_time=limits.own_time)

    def check(self, events: EventArray, recv_ns: int, monotonic_ns: int, *, more: bool = False) -> EventArray:
        """The events to use; possibly others, or none, as in `EventTimes.check`. Prices are changed in place."""
        if not len(events):
            return events
        self._recv_ns = recv_ns
        if self._prices is not None:
            self._prices.check(events)
        return events if self._times is None else self._times.check(events, recv_ns, monotonic_ns, more=more)

    def latest_ns(self, recv_ns: int, monotonic_ns: int) -> int | None:
        """The latest possible event time now; None where times are not checked."""
        return None if self._times is None else self._times.latest_ns(recv_ns, monotonic_ns)

    def rest(self) -> EventArray:
        """What was held back until now: to be called when the stream ends."""
        return empty_events(0) if self._times is None else self._times.rest()

    def _from_future(self, symbol: int, ahead_ns: int, what: str) -> None:
        name = self._symbols[symbol].name if symbol in self._symbols else str(symbol)
        ahead_s = round(ahead_ns / NS_PER_S, 3)
        text = (
            f"an event of {name} is dated {ahead_s:g} s after its receipt; {what}. Compare the clocks of this machine "
            "and of the server, and Sierra Chart's time zone setting"
        )
        context = {"symbol": name, "ahead_s": ahead_s}
        self._on_alert(Alert(self._recv_ns, "event_from_future", Priority.CRITICAL, text, context))

    def _off_tick(self, symbol: int, price: float) -> None:
        if self._recv_ns < self._off_tick_due_ns[symbol]:
            return
        self._off_tick_due_ns[symbol] = self._recv_ns + REPORT_AGAIN_NS
        name, tick_size, hint = self._symbols[symbol]
        code, priority, outcome = _OFF_TICK_REFERENCE if symbol else _OFF_TICK_TRADED
        text = f"{name} has a price of {price!r}, which is no multiple of its tick {tick_size:g}: {outcome}; {hint}"
        context = {"symbol": name, "price": price, "tick_size": tick_size}
        self._on_alert(Alert(self._recv_ns, code, priority, text, context))
