"""Closes a position when it is not wanted.

The target is moved to a price that fills at once. The server holds stop and target as an OCO pair and then cancels the
stop, so no second closing order is needed. Only where no target can be moved is the stop cancelled and, once that is
confirmed, an exit sent. An exit that does not fill is moved to follow the touch. If the position is still open after
`escalate_ns`, every closing order is cancelled and, once that is confirmed, the server is asked to flatten.

A refusal is evidence: after the first, the next order waits twice as long each time; after the second, for a comparison
with the server; after the third, new risk stops. Meanwhile the position is protected by a stop.
"""

from dataclasses import dataclass
from typing import Final, Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import OrderRole, OrderType, Priority, Side

MAX_REFUSALS: Final = 3
"""Refusals to close a position in a row, at which new risk stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitPolicy:
    """When and how a position is closed; times in nanoseconds of our clock."""

    slippage_ticks: int
    chase_ns: int = NS_PER_S
    grace_ns: int = NS_PER_S  # how long to wait for a target that the server still holds back
    escalate_ns: int = 10 * NS_PER_S
    longest_pause_ns: int = 300 * NS_PER_S

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """From the settings; times are multiplied by `stretch` (event s per real s), as our clock is."""
        return cls(
            slippage_ticks=settings.decision.max_slippage_ticks,
            chase_ns=round(NS_PER_S * stretch),
            grace_ns=round(NS_PER_S * stretch),
            escalate_ns=round(10 * NS_PER_S * stretch),
            longest_pause_ns=round(300 * NS_PER_S * stretch),
        )


class Exits:
    """Closes the position while `FlattenState.reason` is set; clears it once flat."""

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        order_manager: OrderManager,
        breakers: CircuitBreakers,
        policy: ExitPolicy,
    ) -> None:
        self._state = state
        self._flatten_state = state.flatten
        self._orders = state.orders
        self._market = state.market
        self._sync = state.sync
        self._alert = ports.alert
        self._tick_size = ports.scope.instrument.tick_size
        self._order_manager = order_manager
        self._breakers = breakers
        self._policy = policy
        self._request = 0  # number of the flatten request being worked on
        self._next_exit_ns = 0
        self._flattens = 0  # asked of the server for this request
        self._moves: dict[str, tuple[int, int]] = {}  # by client order id: times moved, when to move it again
        self._due_ns = NEVER_NS

    def work(self, held: HeldPosition, *, sure: bool = True) -> int:
        """Do what is missing now; our time of the next call, NEVER_NS when nothing is pending.

        Args:
            held: the position.
            sure: whether the server is known to hold this position. While it is not, no new exit is sent, since it
                could open a position. Orders already at the server are moved.
        """
        self._due_ns = NEVER_NS
        if self._flatten_state.reason:
            if self._request != self._flatten_state.requests:
                self._request = self._flatten_state.requests
                self._next_exit_ns = self._flattens = 0
                self._moves.clear()
            self._close(held, sure=sure)
        return self._due_ns

    def _again_at(self, own_ns: int) -> None:
        self._due_ns = min(self._due_ns, own_ns)

    def _close(self, held: HeldPosition, *, sure: bool) -> None:
        flatten, own_ns = self._flatten_state, self._state.own_ns
        flatten.since_ns = since_ns = flatten.since_ns or own_ns  # 0: requested before the first market event
        self._order_manager.cancel_entries()
        entering = any(entry.live for entry in self._orders.with_role(OrderRole.ENTRY))
        if not held.quantity:
            if not (entering or self._orders.missing_fills()):
                flatten.reason = ""
                flatten.refusals = flatten.paused_until_ns = 0
            return
        closers = [entry for entry in self._orders if entry.order.side is held.close_side and entry.live]
        if self._orders.missing_fills() or any(entry.state is OrderState.UNKNOWN for entry in closers):
            return  # one of them may have filled already: wait for evidence
        if self._paused():
            return
        if own_ns >= since_ns + self._policy.escalate_ns:
            self._escalate(held, closers, sure=sure)
            return
        self._again_at(since_ns + self._policy.escalate_ns)
        if sum(entry.open_quantity for entry in closers if self._covers(entry)) >= abs(held.quantity):
            self._move(closers)
        elif not entering and sure:
            self._replace_closers(held, closers)
        elif not sure:
            flatten.paused_until_ns = NEVER_NS  # nothing closes it before the server's position is known

    def _covers(self, entry: WorkingOrder) -> bool:
        """Whether it closes the position as it is, or once moved."""
        if entry.request.cancel_wanted:
            return False
        if entry.order.role is OrderRole.EXIT:
            return True
        return entry.order.role is OrderRole.TARGET and entry.at_server and self._order_manager.can_replace(entry)

    def _paused(self) -> bool:
        """Whether the server's refusals forbid to send anything now; what has to be done about them."""
        flatten, own_ns = self._flatten_state, self._state.own_ns
        refusals = flatten.refusals
        if not refusals:
            flatten.paused_until_ns = 0
            return False
        if refusals >= MAX_REFUSALS:
            self._breakers.contradict(
                "exit_refused",
                f"the server has refused {refusals} orders to close the position of {self._state.ledger.position:+d} "
                f"({flatten.reason}): look at the account in Sierra Chart",
                {"position": self._state.ledger.position, "refusals": refusals},
            )
        pause_ns = min(self._policy.chase_ns << min(refusals - 1, 16), self._policy.longest_pause_ns)
        flatten.paused_until_ns = flatten.refused_at_ns + pause_ns
        if refusals >= MAX_REFUSALS - 1 and self._sync.agreed_ns <= flatten.refused_at_ns:
            # the answer to the query that the refusal has caused is awaited
            flatten.paused_until_ns = max(flatten.paused_until_ns, own_ns + pause_ns)
            self._again_at(flatten.paused_until_ns)
            return True
        if own_ns < flatten.paused_until_ns:
            self._again_at(flatten.paused_until_ns)
            return True
        return False

    def _move(self, closers: list[WorkingOrder]) -> None:
        """Move targets and exits to a price that fills at once, and follow the touch with them."""
        own_ns = self._state.own_ns
        for entry in closers:
            if not self._covers(entry) or entry.order.type is OrderType.MARKET:
                continue
            times, due_ns = self._moves.get(entry.client_order_id, (0, 0))
            if entry.order.role is OrderRole.EXIT and not times:
                times, due_ns = 1, entry.history.sent_at_ns + self._policy.chase_ns
            if entry.request.replace_pending or not (entry.at_server and self._market.touch.known):
                continue
            if own_ns >= due_ns:
                price = self._price(entry.order.side, times)
                moved = self._order_manager.replace(entry, price, self._flatten_state.reason)
                if not moved and entry.order.role is OrderRole.EXIT:
                    self._order_manager.cancel(entry)  # a new one at the new price follows
                times, due_ns = times + 1, own_ns + self._policy.chase_ns
            self._moves[entry.client_order_id] = times, due_ns
            self._again_at(due_ns)

    def _replace_closers(self, held: HeldPosition, closers: list[WorkingOrder]) -> None:
        """Cancel stop and target, and once they have ended send an exit for what no exit closes yet."""
        exits = [entry for entry in closers if entry.order.role is OrderRole.EXIT]
        others = [entry for entry in closers if entry.order.role is not OrderRole.EXIT]
        if any(self._about_to_work(entry) for entry in others):
            return  # such a target is preferred to a new exit
        for entry in others:
            self._order_manager.cancel(entry)
        missing = abs(held.quantity) - sum(entry.open_quantity for entry in exits)
        if not others and missing > 0 and not any(entry.request.cancel_wanted for entry in exits):
            self._send_exit(held, min(missing, self._state.confirmed))

    def _about_to_work(self, entry: WorkingOrder) -> bool:
        """Whether a target may come to work within a moment: the position is new, or the target was just sent."""
        if entry.order.role is not OrderRole.TARGET or entry.request.cancel_wanted or entry.request.replace_refused:
            return False
        since_ns = max(self._state.opened_at_ns, entry.history.sent_at_ns)
        settled_ns = min(since_ns, self._flatten_state.since_ns) + self._policy.grace_ns
        if self._state.own_ns >= settled_ns or entry.state not in {OrderState.SENT, OrderState.ACKED, OrderState.HELD}:
            return False
        self._again_at(settled_ns)
        return True

    def _price(self, side: Side, times: int) -> float:
        """A limit beyond the far touch by the slippage times (`times` + 1)."""
        through = self._policy.slippage_ticks * (times + 1) * self._tick_size
        return max(self._market.touch.far(side) + side * through, self._tick_size)

    def _send_exit(self, held: HeldPosition, contracts: int) -> None:
        own_ns = self._state.own_ns
        if own_ns < self._next_exit_ns:
            self._again_at(self._next_exit_ns)
            return
        if contracts <= 0:  # the server holds none of it, by its reports
            self._again_at(own_ns + self._policy.chase_ns // 4)
            return
        self._next_exit_ns = own_ns + self._policy.chase_ns
        self._again_at(self._next_exit_ns)
        if not self._market.touch.known:
            self._flatten(held)
            return
        order = self._order_manager.factory.make(
            OrderRole.EXIT,
            held.close_side,
            contracts,
            OrderType.LIMIT,
            self._price(held.close_side, 0),
            held.decision_id,
        )
        if not self._order_manager.send_exit(order, self._flatten_state.reason):
            self._flatten(held)

    def _escalate(self, held: HeldPosition, closers: list[WorkingOrder], *, sure: bool) -> None:
        own_ns = self._state.own_ns
        if own_ns < self._next_exit_ns:  # give the last exit or flatten its time
            self._again_at(self._next_exit_ns)
            if not any(entry.order.role is OrderRole.EXIT for entry in closers):  # refused: a stop protects meanwhile
                self._flatten_state.paused_until_ns = self._next_exit_ns
            return
        theirs = self._sync.held
        if closers or (theirs is not None and not self._state.confirmed) or not (sure or self._sync.link_up):
            for entry in closers:
                self._order_manager.cancel(entry)
            self._sync.request_reconcile("a position could not be closed")
            self._again_at(own_ns + self._policy.chase_ns)
            return
        self._alert(
            "exit_stuck",
            Priority.CRITICAL,
            "a position could not be closed by moving its exit: the server was asked to flatten it; check the account",
            {"position": held.quantity, "reason": self._flatten_state.reason},
        )
        pause_ns = min(self._policy.escalate_ns << min(self._flattens, 16), self._policy.longest_pause_ns)
        self._flattens += 1
        self._next_exit_ns = own_ns + pause_ns
        self._again_at(self._next_exit_ns)
        self._flatten(held)

    def _flatten(self, held: HeldPosition) -> None:
        """Ask the server to close whatever position it then holds."""
        order = self._order_manager.factory.make(
            OrderRole.EXIT, held.close_side, abs(held.quantity), OrderType.MARKET, 0.0, held.decision_id
        )
        self._order_manager.flatten(order, self._flatten_state.reason)
