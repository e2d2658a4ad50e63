"""The check before risk: whether trade windows and the age of the deciding event allow a new position.

Where event time is real time, the age of an event shows that the feed is late. Elsewhere only the feed knows: it marks
what it reads while it catches up (EventFlag.CATCHING_UP).
"""

import math
from dataclasses import dataclass

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import EventFlag, FeatureWindow
from mia_daemon.risk.codes import RiskCode, Verdict
from mia_daemon.risk.trade_window_filter import TradeWindowFilter


@dataclass(frozen=True, slots=True)
class EntryGate:
    """Checks each decision that would open a position, before risk does.

    Attributes:
        window_filter: sessions, announcements, the end of the contract.
        max_age_ns: how old an event may be, on arrival, for a position to be opened on it; None where event time is not
            real time (simulator, replay).
        max_skew_ns: by how much event time may be ahead of the wall clock then.
    """

    window_filter: TradeWindowFilter
    max_age_ns: int | None = None
    max_skew_ns: float = math.inf

    def check(self, window: FeatureWindow) -> Verdict:
        """The verdict on a new position at the moment of this window."""
        return self._check_age(window) or self.window_filter.check(window.ts_ns)

    def _check_age(self, window: FeatureWindow) -> Verdict | None:
        """Deny on events that are too old or from the future: a feed that lags or catches up delivers events late."""
        if window.events["flags"][-1] & EventFlag.CATCHING_UP:
            return Verdict(RiskCode.STALE_PRICE, {"catching_up": True})
        if self.max_age_ns is None:
            return None
        age_ns = int(window.events["recv_ns"][-1]) - window.ts_ns
        if age_ns > self.max_age_ns:
            return Verdict(RiskCode.STALE_PRICE, {"age_s": age_ns / NS_PER_S})
        if -age_ns > self.max_skew_ns:
            return Verdict(RiskCode.CLOCK_SKEW, {"ahead_s": -age_ns / NS_PER_S})
        return None
