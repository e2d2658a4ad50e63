"""Closes a position when it is not wanted.

The target is moved to a price that fills at once. The server holds stop and target as an OCO pair and then cancels the
stop, so no second closing order is needed. Only where no target works is the stop cancelled and, once that is
confirmed, an exit sent. An exit that does not fill is moved to follow the touch. If the position is still open after
`escalate_ns`, every closing order is cancelled and, once that is confirmed, the server is asked to flatten.
"""

from dataclasses import dataclass
from typing import Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import OrderRole, OrderType, Priority, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitPolicy:
    """When and how a position is closed; times in nanoseconds of event time."""

    slippage_ticks: int
    chase_ns: int = NS_PER_S
    grace_ns: int = NS_PER_S  # how long to wait for a target that is accepted but not working yet
    escalate_ns: int = 10 * NS_PER_S

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; times that wait for an answer are multiplied by `stretch` (event s per real s)."""
        return cls(
            slippage_ticks=settings.decision.max_slippage_ticks,
            chase_ns=round(NS_PER_S * stretch),
            grace_ns=round(NS_PER_S * stretch),
            escalate_ns=round(10 * NS_PER_S * stretch),
        )


class Exits:
    """Closes the position while `FlattenState.reason` is set; clears it once flat."""

    def __init__(self, state: ExecutionState, ports: Ports, order_manager: OrderManager, policy: ExitPolicy) -> None:
        self._flatten_state = state.flatten
        self._orders = state.orders
        self._market = state.market
        self._alert = ports.alert
        self._tick_size = ports.scope.instrument.tick_size
        self._order_manager = order_manager
        self._policy = policy
        self._request = 0  # number of the flatten request being worked on
        self._next_exit_ns = 0
        self._flatten_id = ""  # client order id of the last server flatten
        self._moves: dict[str, tuple[int, int]] = {}  # by client order id: times moved, when to move it again
        self._due_ns = NEVER_NS

    def work(self, held: HeldPosition, *, sure: bool = True) -> int:
        """Do what is missing now; returns the event time of the next call, NEVER_NS when nothing is pending.

        Args:
            held: the position.
            sure: whether the server is known to hold this position. While it is not, no new exit is sent, since it
                could open a position. Orders already at the server are moved, and after `escalate_ns` the server is
                asked to flatten.
        """
        self._due_ns = NEVER_NS
        if self._flatten_state.reason:
            if self._request != self._flatten_state.requests:
                self._request = self._flatten_state.requests
                self._next_exit_ns = 0
                self._moves.clear()
            self._close(held, sure=sure)
        return self._due_ns

    def _again_at(self, ts_ns: int) -> None:
        self._due_ns = min(self._due_ns, ts_ns)

    def _close(self, held: HeldPosition, *, sure: bool) -> None:
        flatten, now_ns, policy = self._flatten_state, self._market.now_ns, self._policy
        flatten.since_ns = since_ns = flatten.since_ns or now_ns  # 0: requested before the first market event
        self._order_manager.cancel_entries()
        entering = any(entry.live for entry in self._orders.with_role(OrderRole.ENTRY))
        if not held.quantity:
            if not (entering or self._orders.missing_fills()):
                self._flatten_state.reason = ""
            return
        closers = [entry for entry in self._orders if entry.order.side is held.close_side and entry.live]
        if self._orders.missing_fills() or any(entry.state is OrderState.UNKNOWN for entry in closers):
            return  # one of them may have filled already: wait for evidence
        if now_ns >= since_ns + policy.escalate_ns:
            self._escalate(held, closers)
            return
        self._again_at(since_ns + policy.escalate_ns)
        covered = self._move_exits(closers)
        if covered >= abs(held.quantity) or entering or not sure:
            return
        settled_ns = since_ns + policy.grace_ns
        if now_ns < settled_ns and any(entry.state is OrderState.ACKED for entry in closers):
            self._again_at(settled_ns)  # a target that is about to work is preferred to a new exit
            return
        for entry in closers:
            self._order_manager.cancel(entry)
        if not closers:
            self._send_exit(held)

    def _move_exits(self, closers: list[WorkingOrder]) -> int:
        """Move targets and exits to a price that fills at once; returns the contracts they cover."""
        now_ns, covered = self._market.now_ns, 0
        for entry in closers:
            if entry.order.role not in {OrderRole.TARGET, OrderRole.EXIT}:
                continue
            if entry.state is not OrderState.ACKED and not entry.request.cancel_pending:
                covered += entry.open_quantity
            times, due_ns = self._moves.get(entry.client_order_id, (0, 0))
            if entry.order.role is OrderRole.EXIT and not times:
                times, due_ns = 1, entry.history.sent_ns + self._policy.chase_ns
            if (
                entry.request.replace_pending
                or entry.request.cancel_pending
                or not entry.at_server
                or not self._market.touch.known
            ):
                continue
            if now_ns >= due_ns:
                price = self._price(entry.order.side, times)
                self._order_manager.replace(entry, price, self._flatten_state.reason)
                times, due_ns = times + 1, now_ns + self._policy.chase_ns
            self._moves[entry.client_order_id] = times, due_ns
            self._again_at(due_ns)
        return covered

    def _price(self, side: Side, times: int) -> float:
        """A limit beyond the far touch by the slippage times (`times` + 1)."""
        through = self._policy.slippage_ticks * (times + 1) * self._tick_size
        return max(self._market.touch.far(side) + side * through, self._tick_size)

    def _send_exit(self, held: HeldPosition) -> None:
        now_ns = self._market.now_ns
        if now_ns < self._next_exit_ns:
            self._again_at(self._next_exit_ns)
            return
        self._next_exit_ns = now_ns + self._policy.chase_ns
        self._again_at(self._next_exit_ns)
        if not self._market.touch.known:
            self._flatten(held)
            return
        order = self._order_manager.factory.make(
            OrderRole.EXIT,
            held.close_side,
            abs(held.quantity),
            OrderType.LIMIT,
            self._price(held.close_side, 0),
            held.decision_id,
        )
        if not self._order_manager.send_exit(order, self._flatten_state.reason):
            self._flatten(held)

    def _escalate(self, held: HeldPosition, closers: list[WorkingOrder]) -> None:
        now_ns, due_ns = self._market.now_ns, self._next_exit_ns
        asked = self._orders.get(self._flatten_id)
        if asked is not None and asked.state is OrderState.REJECTED:  # it had no effect: do not wait longer
            due_ns = min(due_ns, asked.history.sent_ns + self._policy.chase_ns)
        if now_ns < due_ns:  # give the last exit or flatten its time
            self._again_at(due_ns)
            return
        if closers:
            for entry in closers:
                self._order_manager.cancel(entry)
            return
        self._alert(
            "exit_stuck",
            Priority.CRITICAL,
            "a position could not be closed by moving its exit: the server was asked to flatten it; check the account",
            {"position": held.quantity, "reason": self._flatten_state.reason},
        )
        self._next_exit_ns = now_ns + self._policy.escalate_ns
        self._again_at(self._next_exit_ns)
        self._flatten(held)

    def _flatten(self, held: HeldPosition) -> None:
        """Ask the server to close whatever position it then holds."""
        order = self._order_manager.factory.make(
            OrderRole.EXIT, held.close_side, abs(held.quantity), OrderType.MARKET, 0.0, held.decision_id
        )
        self._flatten_id = order.client_order_id
        self._order_manager.flatten(order, self._flatten_state.reason)
