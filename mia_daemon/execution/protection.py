"""Ensures that a working stop covers the position."""

from dataclasses import dataclass
from typing import Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.records import OrderRole, OrderType, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionPolicy:
    """What is done about a position without a working stop; times in nanoseconds of our clock."""

    stop_ticks: int
    grace_ns: int = NS_PER_S  # how long a position may be without a working stop
    surplus_ns: int = NS_PER_S  # how long the server may take to cancel the other order of a pair
    flatten: bool = False  # False: send a new stop
    attempts: int = 2  # new stops before the position is closed instead

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; times are multiplied by `stretch` (event s per real s), as our clock is."""
        second_ns = round(NS_PER_S * stretch)
        return cls(
            stop_ticks=settings.decision.stop_ticks,
            grace_ns=second_ns,
            surplus_ns=0 if settings.broker.brackets == "client" else second_ns,
            flatten=settings.incidents.on_unprotected == "flatten",
        )


class Protection:
    """Compares the position with its stops; sends a stop or closes the position when they do not cover it.

    A stop covers while it is acknowledged and not ended. Another is sent only once the first is disproved: refused,
    ended, absent, or still held back in a list asked for after the position was bare. No more is protected than the
    server is known to hold.
    """

    def __init__(
        self, state: ExecutionState, ports: Ports, order_manager: OrderManager, policy: ProtectionPolicy
    ) -> None:
        self._state = state
        self._flatten_state = state.flatten
        self._orders = state.orders
        self._market = state.market
        self._sync = state.sync
        self._alert = ports.alert
        self._instrument = ports.scope.instrument
        self._order_manager = order_manager
        self._policy = policy
        self._unprotected_since = 0
        self._attempts = 0
        self._alerted = ""  # text of the step last alerted
        self._due_ns = NEVER_NS

    def work(self, held: HeldPosition) -> int:
        """Do what is missing now; our time of the next call, NEVER_NS when nothing is pending."""
        self._due_ns = NEVER_NS
        missing = abs(held.quantity) - self._orders.protection(held.close_side) if held.quantity else 0
        if missing > 0:
            self._guard(held, missing)
        else:
            self._unprotected_since = 0
            self._alerted = ""
            if not held.quantity:
                self._attempts = 0
        return self._due_ns

    def _again_at(self, own_ns: int) -> None:
        self._due_ns = min(self._due_ns, own_ns)

    def _guard(self, held: HeldPosition, missing: int) -> None:
        own_ns, grace_ns = self._state.own_ns, self._policy.grace_ns
        flatten = self._flatten_state
        if not self._unprotected_since:
            self._unprotected_since = own_ns
        if flatten.reason and own_ns + grace_ns >= flatten.paused_until_ns:
            return  # it is being closed; a second stop could fill beside the exit
        asks_ns, acts_ns = self._unprotected_since + grace_ns // 2, self._unprotected_since + grace_ns
        if own_ns < asks_ns:
            self._again_at(asks_ns)
            return
        awaited = self._awaited(held)
        bare = min(missing, self._state.confirmed - self._orders.protection(held.close_side))
        if (awaited or bare <= 0) and self._asked_before(asks_ns):
            self._sync.request_reconcile("a position has no working stop", urgent=True)
        if own_ns < acts_ns:
            self._again_at(acts_ns)
        elif awaited:
            self._alert_once(held, missing, awaited)  # nothing is sent before
        elif bare <= 0:
            self._alert_once(held, missing, "the server reports another position, which is compared first")
        else:
            self._protect(held, bare)

    def _asked_before(self, own_ns: int) -> bool:
        """Whether the last snapshot was requested before then."""
        return self._sync.asked_ns < own_ns

    def _awaited(self, held: HeldPosition) -> str:
        """The evidence that is still to come about stops that may cover the position; "" when there is none."""
        if self._orders.missing_fills():
            return "a fill that the server reported is awaited"
        for stop in self._orders.with_role(OrderRole.STOP):
            if stop.order.side is not held.close_side or stop.at_server or not stop.live:
                continue
            if stop.state is not OrderState.HELD or stop.history.listed_ns < self._unprotected_since:
                return "the server's answer about it is awaited"
        return ""

    def _alert_once(self, held: HeldPosition, missing: int, what: str) -> None:
        """Raise one alert for each step taken about an unprotected position."""
        if self._alerted != what:
            self._alerted = what
            self._alert(
                "position_unprotected",
                Priority.CRITICAL,
                f"a position had no working stop for {missing} of its contracts: {what}",
                {"position": held.quantity, "missing": missing, "attempts": self._attempts},
            )

    def _protect(self, held: HeldPosition, bare: int) -> None:
        """Send a stop, or give up and close the position."""
        own_ns, touch, side = self._state.own_ns, self._market.touch, held.close_side
        level = held.average_price + side * self._policy.stop_ticks * self._instrument.tick_size
        level = self._instrument.round_to_tick(level)
        reached = touch.known and (touch.far(side) - level) * side >= 0
        give_up = (self._policy.flatten or self._attempts >= self._policy.attempts or reached) and (
            not self._flatten_state.reason
        )
        self._alerted = ""
        self._alert_once(held, bare, "it is being closed" if give_up else f"a stop at {level} was sent")
        if give_up:
            self._close()
            return
        self._attempts += 1
        self._unprotected_since = own_ns
        self._again_at(own_ns + self._policy.grace_ns)
        stop = self._order_manager.factory.make(OrderRole.STOP, side, bare, OrderType.STOP, level, held.decision_id)
        if not self._order_manager.send_protection(stop):
            self._close()

    def _close(self) -> None:
        self._state.request_flatten("unprotected")
        self._again_at(self._state.own_ns)
