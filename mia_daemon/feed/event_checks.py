"""The boundary of the live feeds: what a server or a file says is checked here before anything else sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.event_prices import EventPrices
from mia_daemon.feed.event_times import EventTimes
from mia_daemon.records import Alert, AlertSink, EventArray, Priority, empty_events


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What an event may hold.

    Attributes:
        tick_size: of the traded symbol; None: prices are not checked. Prices of the reference symbol, whose product
            may be unknown, never are.
        slack_ns: by how much an event may be ahead of its receipt; None: times are not checked, as the server's time is
            known not to be ours.
        own_time: whether the server may turn out to have a time of its own (`feed.max_event_age_s = 0`).
    """

    tick_size: float | None = None
    slack_ns: int | None = None
    own_time: bool = False


REPORT_AGAIN_NS: Final = 60 * NS_PER_S
"""For so long after a report about prices off the tick there is no other: every batch may have such prices."""

NO_LIMITS: Final = EventLimits()


class EventChecks:
    """Checks one stream of events, in the order of receipt: times by `EventTimes`, prices by `EventPrices`.

    Args:
        names: of what the events are from, for people, by the `symbol` column.
        hint: what a person should look at when prices are off the tick.
    """

    def __init__(self, limits: EventLimits, names: Mapping[int, str], on_alert: AlertSink, hint: str) -> None:
        self._names = names
        self._on_alert = on_alert
        self._hint = hint
        self._tick_size = limits.tick_size
        self._recv_ns = 0
        self._off_tick_due_ns = 0  # of receipt, from when on prices off the tick are reported again
        self._prices = None if limits.tick_size is None else EventPrices(limits.tick_size, self._off_tick)
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
        name, ahead_s = self._names.get(symbol, str(symbol)), round(ahead_ns / NS_PER_S, 3)
        text = (
            f"an event of {name} is dated {ahead_s:g} s after its receipt; {what}. Compare the clocks of this machine "
            "and of the server, and Sierra Chart's time zone setting"
        )
        context = {"symbol": name, "ahead_s": ahead_s}
        self._on_alert(Alert(self._recv_ns, "event_from_future", Priority.CRITICAL, text, context))

    def _off_tick(self, price: float) -> None:
        if self._recv_ns < self._off_tick_due_ns:
            return
        self._off_tick_due_ns = self._recv_ns + REPORT_AGAIN_NS
        name = self._names.get(0, "0")
        text = (
            f"{name} has a price of {price!r}, which is no multiple of its tick {self._tick_size:g}: nothing is opened "
            f"while such prices come; {self._hint}"
        )
        context = {"symbol": name, "price": price, "tick_size": self._tick_size}
        self._on_alert(Alert(self._recv_ns, "prices_off_tick", Priority.CRITICAL, text, context))
