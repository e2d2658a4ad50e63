"""What has traded in the open session: the values of messages 104, 113, 114, 115, 119, 120 and 124."""

from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.simulator.tape import MarketEvent, SessionEvent, SessionValue, TradeEvent, ValueKind

_DAY_S: Final = 86_400
_OPEN_INTEREST: Final = 2_000_000  # contracts, about
_VARIES: Final = 100_000


def session_date(ts_ns: int) -> int:
    """Seconds at midnight UTC of the trade date: a session opens at 17:00 Chicago on the evening before it."""
    return (ts_ns // NS_PER_S + 2 * 3600) // _DAY_S * _DAY_S  # 17:00 Chicago is 22:00 or 23:00 UTC


class SessionStatistics:
    """Of the trading session; prices in ticks, None before its first trade.

    Args:
        simulated: the market is; of a recorded one nobody knows the open interest.

    Attributes:
        last: the last trade, be it of this session or of the one before.
        settlement: the last trade of the session before, which stands for its settlement; None in the first session.
    """

    def __init__(self, *, simulated: bool = True) -> None:
        self.open: int | None = None
        self.high = 0
        self.low = 0
        self.volume = 0
        self.trades = 0
        self.last: TradeEvent | None = None
        self.settlement: TradeEvent | None = None
        self._simulated = simulated
        self._volume_ns = 0  # when the volume last changed; 0: not since it was last reported

    def open_interest(self, ts_ns: int) -> int | None:
        """Contracts, the same all session; None where it is not known."""
        day = session_date(ts_ns) // _DAY_S
        return _OPEN_INTEREST + day * 7_919 % _VARIES if self._simulated else None

    def follow(self, events: list[MarketEvent]) -> list[MarketEvent]:
        """The market's events with the changes of these values among them, but for the volume."""
        out: list[MarketEvent] = []
        for event in events:
            out.append(event)
            if type(event) is TradeEvent:
                self._trade(event, out)
                self._volume_ns = event.ts_ns
            elif type(event) is SessionEvent:
                self._new_session(event, out)
                self._volume_ns = event.ts_ns
        return out

    def take_volume(self) -> SessionValue | None:
        """The volume, where it has changed since the last call: every trade changes it."""
        ts_ns, self._volume_ns = self._volume_ns, 0
        return SessionValue(ts_ns, ValueKind.VOLUME, self.volume) if ts_ns else None

    def _trade(self, trade: TradeEvent, out: list[MarketEvent]) -> None:
        price, first = trade.price, self.open is None
        if first:
            self.open = price
            out.append(SessionValue(trade.ts_ns, ValueKind.OPEN, price))
        if first or price > self.high:
            self.high = price
            out.append(SessionValue(trade.ts_ns, ValueKind.HIGH, price))
        if first or price < self.low:
            self.low = price
            out.append(SessionValue(trade.ts_ns, ValueKind.LOW, price))
        self.volume += trade.quantity
        self.trades += 1
        self.last = trade

    def _new_session(self, event: SessionEvent, out: list[MarketEvent]) -> None:
        self.open = None
        self.high = self.low = self.volume = self.trades = 0
        self.settlement = self.last
        if self.last is not None:
            out.append(SessionValue(self.last.ts_ns, ValueKind.SETTLEMENT, self.last.price))
        if (contracts := self.open_interest(event.ts_ns)) is not None:
            out.append(SessionValue(event.ts_ns, ValueKind.OPEN_INTEREST, contracts))
