"""When a new position may be opened at all: the trade windows, and how old the deciding event is."""

import math
from dataclasses import dataclass

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import FeatureWindow
from mia_daemon.risk.codes import RiskCode, Verdict
from mia_daemon.risk.trade_window_filter import TradeWindowFilter


@dataclass(frozen=True, slots=True)
class EntryGate:
    """Asked before risk is, of each decision that would open a position.

    Attributes:
        window_filter: sessions, announcements, the end of the contract.
        max_age_ns: how old an event may be when it arrives for a position to be opened on it; None where the feed has a
            time of its own (simulator, replay).
        max_skew_ns: by how much it may lie in our future then.
    """

    window_filter: TradeWindowFilter
    max_age_ns: int | None = None
    max_skew_ns: float = math.inf

    def check(self, window: FeatureWindow) -> Verdict:
        """The verdict on a new position at the moment of this window."""
        return self._check_age(window) or self.window_filter.check(window.ts_ns)

    def _check_age(self, window: FeatureWindow) -> Verdict | None:
        """No position is opened on the past: a feed that catches up, or lags, delivers events long after their time."""
        if self.max_age_ns is None:
            return None
        age_ns = int(window.events["recv_ns"][-1]) - window.ts_ns
        if age_ns > self.max_age_ns:
            return Verdict(RiskCode.STALE_PRICE, {"age_s": age_ns / NS_PER_S})
        if -age_ns > self.max_skew_ns:
            return Verdict(RiskCode.CLOCK_SKEW, {"ahead_s": -age_ns / NS_PER_S})
        return None
