"""Market deadlines by our own clock while no market event comes, and the alert that prices have stopped.

How long an entry may work and a position may be held is measured in event time. When events stop, event time stands
still, so the same times are measured by our clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import RaiseAlert
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import OrderRole, Priority

MAX_HOLD: Final = "max_hold"
"""The reason why a position that was held for too long is closed, here and in a decision."""


@dataclass(frozen=True, slots=True)
class SilencePolicy:
    """Times in nanoseconds of our clock."""

    silent_ns: int  # after this without a market event they have stopped
    entry_ns: int  # how long an entry may work
    hold_ns: int  # how long a position may be held
    alert_ns: int = 0  # after this without a price, while the market is open, there is an alert; 0: never

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; market deadlines are in event time, and our clock is scaled to it."""
        return cls(
            silent_ns=round(5 * NS_PER_S * stretch),
            entry_ns=round(settings.broker.entry_timeout_s * NS_PER_S),
            hold_ns=round(settings.decision.max_hold_s * NS_PER_S),
            alert_ns=round(settings.feed.silent_after_s * NS_PER_S * stretch),
        )


class MarketSilence:
    """Cancels entries and closes the position when their time is over and no event says so.

    Args:
        alert: called with code, priority, text and context.
        is_open: whether prices are to be expected at an event time.
    """

    def __init__(
        self,
        state: ExecutionState,
        order_manager: OrderManager,
        policy: SilencePolicy,
        alert: RaiseAlert,
        is_open: Callable[[int], bool],
    ) -> None:
        self._state = state
        self._order_manager = order_manager
        self._policy = policy
        self._alert = alert
        self._is_open = is_open
        self._expected_ns: int | None = None  # since when prices are expected, event time
        self._silent = False  # and there was an alert

    def watch(self) -> None:
        """Raise an alert when prices have stopped while the market is open, and one when they come again.

        To be called about once a second.
        """
        state = self._state
        if not self._policy.alert_ns or state.market.catching_up:
            return
        if state.heard_ns:
            now_ns = state.time_ns
        elif state.wall_clock is not None:
            now_ns = state.wall_clock()
        else:
            return  # event time is not known yet
        if not self._is_open(now_ns):
            self._expected_ns, self._silent = None, False
            return
        if self._expected_ns is None:
            self._expected_ns = now_ns
        age_ns = now_ns - max(state.market.touch.ts_ns, self._expected_ns)
        if age_ns >= self._policy.alert_ns and not self._silent:
            self._silent = True
            position = state.ledger.position
            self._alert(
                "market_silent",
                Priority.CRITICAL if position else Priority.ERROR,
                f"no price for {age_ns / NS_PER_S:.0f} s while the market is open: look at Sierra Chart and its data "
                "feed; nothing is opened, a position stays under its stop",
                {"position": position, "silent_s": round(age_ns / NS_PER_S, 1)},
            )
        elif age_ns < self._policy.alert_ns and self._silent:
            self._silent = False
            self._alert("market_prices", Priority.WARNING, "prices come again", {})

    def work(self) -> int:
        """Do what is due now; our time of the next call, NEVER_NS when nothing is pending."""
        state, policy, own_ns = self._state, self._policy, self._state.own_ns
        silent_ns = state.heard_ns + policy.silent_ns
        due_ns = NEVER_NS
        for entry in state.orders.with_role(OrderRole.ENTRY):
            over_ns = max((entry.history.sent_at_ns or own_ns) + policy.entry_ns, silent_ns)
            if own_ns >= over_ns:
                self._order_manager.cancel(entry)
            else:
                due_ns = min(due_ns, over_ns)
        if state.ledger.position and not state.flatten.reason:
            over_ns = max((state.opened_at_ns or own_ns) + policy.hold_ns, silent_ns)
            if own_ns >= over_ns:
                state.request_flatten(MAX_HOLD)
            else:
                due_ns = min(due_ns, over_ns)
        return due_ns
