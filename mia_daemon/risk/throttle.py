"""Limits on what is sent: orders per minute, messages per second and per day."""

import math
from collections import deque
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.risk.codes import RiskCode, Verdict, deny

MINUTE_NS: Final = 60 * NS_PER_S
PENALTY_ABOVE: Final = 0.8
"""Overtrading score above which the penalty is active."""

BRACKET_MESSAGES: Final = 3


class Throttle:
    """Counts what is sent, by event time, and checks whether new risk may add to it.

    Entries may use only the unreserved share of the message limits. Orders that reduce the position, and cancels, are
    counted and never refused: the reserve keeps the exchange's own limits from refusing them.

    Args:
        sent_today: messages of earlier runs on this trading day.
    """

    def __init__(self, limits: RiskSettings, sent_today: int = 0) -> None:
        self._per_minute = limits.max_orders_per_minute or math.inf
        unreserved = 1.0 - limits.cancel_reserve_share
        self._per_second = _share(limits.max_messages_per_second, unreserved)
        self._per_day = _share(limits.max_messages_per_day, unreserved)
        self._orders: deque[int] = deque()
        self._messages: deque[int] = deque()
        self.sent_today = sent_today

    def start_day(self) -> None:
        self.sent_today = 0

    def order(self, ts_ns: int, messages: int = 1) -> None:
        """Count an order, a bracket or a replace, and its messages."""
        self._orders.append(ts_ns)
        self.message(ts_ns, messages)

    def message(self, ts_ns: int, messages: int = 1) -> None:
        """Count messages that are not orders: cancels."""
        self.sent_today += messages
        _forget(self._messages, ts_ns - NS_PER_S)
        self._messages.extend((ts_ns,) * messages)

    def check(self, ts_ns: int) -> Verdict | None:
        """The denial of a bracket now; None when it may be sent."""
        _forget(self._orders, ts_ns - MINUTE_NS)
        if len(self._orders) >= self._per_minute:
            return deny(RiskCode.ORDER_RATE, orders=len(self._orders), limit=self._per_minute)
        _forget(self._messages, ts_ns - NS_PER_S)
        if len(self._messages) + BRACKET_MESSAGES > self._per_second:
            return deny(RiskCode.MESSAGE_RATE, last_second=len(self._messages), unreserved=self._per_second)
        if self.sent_today + BRACKET_MESSAGES > self._per_day:
            return deny(RiskCode.MESSAGE_RATE, today=self.sent_today, unreserved=self._per_day)
        return None

    def score(self, ts_ns: int) -> float:
        """Share of max_orders_per_minute used in the minute before `ts_ns`: 0 … 1."""
        _forget(self._orders, ts_ns - MINUTE_NS)
        return min(len(self._orders) / self._per_minute, 1.0)


def _share(limit: int | None, unreserved: float) -> float:
    return math.inf if limit is None else math.floor(limit * unreserved + 1e-9)


def _forget(times: deque[int], until_ns: int) -> None:
    while times and times[0] <= until_ns:
        times.popleft()
