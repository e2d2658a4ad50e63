"""Ensures that a working stop covers the position, and cancels closing orders that would open one instead."""

from dataclasses import dataclass
from typing import Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import OrderRole, OrderType, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionPolicy:
    """What is done about a position without a working stop; times in nanoseconds of event time."""

    stop_ticks: int
    grace_ns: int = NS_PER_S  # how long a position may be without a working stop
    flatten: bool = False  # False: send a new stop
    attempts: int = 2  # new stops before the position is closed instead

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; times that wait for an answer are multiplied by `stretch` (event s per real s)."""
        return cls(
            stop_ticks=settings.decision.stop_ticks,
            grace_ns=round(NS_PER_S * stretch),
            flatten=settings.incidents.on_unprotected == "flatten",
        )


class Protection:
    """Compares the position with its working stops; sends a stop or closes the position when they do not cover it."""

    def __init__(
        self, state: ExecutionState, ports: Ports, order_manager: OrderManager, policy: ProtectionPolicy
    ) -> None:
        self._state = state
        self._flatten_state = state.flatten
        self._orders = state.orders
        self._market = state.market
        self._alert = ports.alert
        self._instrument = ports.scope.instrument
        self._order_manager = order_manager
        self._policy = policy
        self._unprotected_since = 0
        self._attempts = 0
        self._alerted = ""  # text of the step last alerted
        self._surplus_since = 0
        self._due_ns = NEVER_NS

    def work(self, held: HeldPosition) -> int:
        """Do what is missing now; returns the event time of the next call, NEVER_NS when nothing is pending."""
        self._due_ns = NEVER_NS
        missing = abs(held.quantity) - self._orders.protection(held.close_side) if held.quantity else 0
        if missing > 0:
            self._guard(held, missing)
        else:
            self._unprotected_since = self._attempts = 0
            self._alerted = ""
        self._cancel_surplus(held)
        return self._due_ns

    def _again_at(self, ts_ns: int) -> None:
        self._due_ns = min(self._due_ns, ts_ns)

    def _guard(self, held: HeldPosition, missing: int) -> None:
        now_ns = self._market.now_ns
        if self._flatten_state.reason:
            return  # it is being closed; a second stop could fill beside the exit
        if not self._unprotected_since:
            self._unprotected_since = now_ns
        if now_ns < self._unprotected_since + self._policy.grace_ns:
            self._again_at(self._unprotected_since + self._policy.grace_ns)
            return
        stops = [stop for stop in self._orders.with_role(OrderRole.STOP) if stop.order.side is held.close_side]
        awaited = any(stop.request.asked_ns or stop.state is OrderState.UNKNOWN for stop in stops)
        if awaited or self._orders.missing_fills():
            self._alert_once(held, missing, "the server's answer about it is awaited")  # nothing is sent before
            return
        self._protect(held, missing)

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

    def _protect(self, held: HeldPosition, missing: int) -> None:
        """Send a stop, or give up and close the position."""
        now_ns, touch, side = self._market.now_ns, self._market.touch, held.close_side
        level = held.average_price + side * self._policy.stop_ticks * self._instrument.tick_size
        level = self._instrument.round_to_tick(level)
        reached = not touch.known or (touch.far(side) - level) * side >= 0
        give_up = self._policy.flatten or self._attempts >= self._policy.attempts or reached
        self._alerted = ""
        self._alert_once(held, missing, "it is being closed" if give_up else f"a stop at {level} was sent")
        if give_up:
            self._close()
            return
        self._attempts += 1
        self._unprotected_since = now_ns
        self._again_at(now_ns + self._policy.grace_ns)
        stop = self._order_manager.factory.make(OrderRole.STOP, side, missing, OrderType.STOP, level, held.decision_id)
        if not self._order_manager.send_stop(stop):
            self._close()

    def _close(self) -> None:
        self._state.request_flatten("unprotected")
        self._again_at(self._market.now_ns)

    # Surplus orders.

    def _cancel_surplus(self, held: HeldPosition) -> None:
        """Cancel closing orders that would open a position.

        Those of a bracket are cancelled only after `grace_ns`, in which the server should have done so.
        """
        now_ns = self._market.now_ns
        surplus = self._surplus(held)
        if not surplus:
            self._surplus_since = 0
            return
        if not self._surplus_since:
            self._surplus_since = now_ns
        late = now_ns >= self._surplus_since + self._policy.grace_ns
        if not late:
            self._again_at(self._surplus_since + self._policy.grace_ns)
        for entry in surplus:
            if late or not entry.order.parent_id:
                self._order_manager.cancel(entry)

    def _surplus(self, held: HeldPosition) -> list[WorkingOrder]:
        """Closing orders with nothing left to close; none while fills are missing or an entry may still fill."""
        closing = [entry for entry in self._orders if entry.order.role is not OrderRole.ENTRY and entry.live]
        if not closing or self._orders.missing_fills():
            return []
        if any(entry.live for entry in self._orders.with_role(OrderRole.ENTRY)):
            return []
        if not held.quantity:
            return closing
        wrong = [entry for entry in closing if entry.order.side is not held.close_side]
        extra = self._orders.protection(held.close_side) - abs(held.quantity)
        for stop in reversed(closing):
            if stop.order.role is OrderRole.STOP and not stop.order.parent_id and 0 < stop.open_quantity <= extra:
                extra -= stop.open_quantity
                wrong.append(stop)
        return wrong
