"""Market deadlines by our own clock while no market event comes.

How long an entry may work and a position may be held is measured in event time. When events stop, event time stands
still, so the same times are measured by our clock.
"""

from dataclasses import dataclass
from typing import Final, Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import OrderRole

MAX_HOLD: Final = "max_hold"
"""The reason why a position that was held for too long is closed, here and in a decision."""


@dataclass(frozen=True, slots=True)
class SilencePolicy:
    """Times in nanoseconds of our clock."""

    silent_ns: int  # after this without a market event they have stopped
    entry_ns: int  # how long an entry may work
    hold_ns: int  # how long a position may be held

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; market deadlines are in event time, and our clock is scaled to it."""
        return cls(
            silent_ns=round(5 * NS_PER_S * stretch),
            entry_ns=round(settings.broker.entry_timeout_s * NS_PER_S),
            hold_ns=round(settings.decision.max_hold_s * NS_PER_S),
        )


class MarketSilence:
    """Cancels entries and closes the position when their time is over and no event says so."""

    def __init__(self, state: ExecutionState, order_manager: OrderManager, policy: SilencePolicy) -> None:
        self._state = state
        self._order_manager = order_manager
        self._policy = policy

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
