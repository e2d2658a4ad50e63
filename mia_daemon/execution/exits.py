"""Keeps a position protected while it is wanted, and brings it to flat when it is not.

Level-triggered: `work` looks at position, working orders and touch as they are now and does what is missing, so that a
lost, late or repeated message changes when something is done, and never what. Nothing here waits; `work` says when it
wants to be called again.

How a position is closed. Its target is moved to a price that fills at once: the server, which holds stop and target as
a pair, then cancels the stop, and no second order of ours can race them. Only where no target works is the stop
cancelled and, once that is confirmed, an exit sent. An exit that does not fill is moved after the market; one that
still is not done after `escalate_ns` gives way to the server's own flatten, after every other order is confirmed gone.
"""

from dataclasses import dataclass
from typing import Self

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.order_manager import OrderManager, Warn
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_orders import WorkingOrder
from mia_daemon.market import Touch
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import OrderRole, OrderType, Priority, Side

NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperPolicy:
    """When and how the keeper acts; times in nanoseconds of event time."""

    stop_ticks: int
    slippage_ticks: int
    chase_ns: int = NS_PER_S
    grace_ns: int = NS_PER_S  # how long a position may be without a working stop
    escalate_ns: int = 10 * NS_PER_S
    flatten_unprotected: bool = False  # False: send a new stop
    protection_attempts: int = 2  # new stops before the position is closed instead

    @classmethod
    def of(cls, settings: Settings, stretch: float) -> Self:
        """As configured; what waits for an answer waits `stretch` times longer than in real time."""
        return cls(
            stop_ticks=settings.decision.stop_ticks,
            slippage_ticks=settings.decision.max_slippage_ticks,
            chase_ns=round(NS_PER_S * stretch),
            grace_ns=round(NS_PER_S * stretch),
            escalate_ns=round(10 * NS_PER_S * stretch),
            flatten_unprotected=settings.incidents.on_unprotected == "flatten",
        )


@dataclass(frozen=True, slots=True)
class Held:
    """The position as it is now."""

    quantity: int  # signed
    average_price: float
    decision_id: str  # of the decision that opened it

    @property
    def close_side(self) -> Side:
        return Side.SELL if self.quantity > 0 else Side.BUY


class PositionKeeper:
    """Acts through the desk on the position it is shown.

    Attributes:
        goal: why the position is being closed; "" while it is not.
    """

    def __init__(self, desk: OrderManager, instrument: Instrument, policy: KeeperPolicy, warn: Warn) -> None:
        self.goal = ""
        self._desk = desk
        self._working = desk.working
        self._instrument = instrument
        self._policy = policy
        self._warn = warn
        self._goal_since = 0
        self._next_exit_ns = 0
        self._flatten_id = ""  # of the order that asked the server to flatten last
        self._moves: dict[str, tuple[int, int]] = {}  # of an exit: times moved, when to move it again
        self._unprotected_since = 0
        self._attempts = 0
        self._told = ""
        self._surplus_since = 0
        self._due = NEVER
        self._sure = True

    def want_flat(self, reason: str, ts_ns: int) -> None:
        """Close the position and cancel entries, until flat; a goal already set keeps its reason."""
        if not self.goal:
            self.goal = reason
            self._goal_since = ts_ns
            self._next_exit_ns = 0
            self._moves.clear()

    def cancel_entries(self, ts_ns: int) -> None:
        self._desk.cancel_all(self._working.with_role(OrderRole.ENTRY), ts_ns)

    def work(self, ts_ns: int, held: Held, touch: Touch, *, sure: bool = True) -> int:
        """Do what is missing now; returns the event time at which to look again, NEVER when nothing is pending.

        While it is not `sure` that the server's position is this one, no order of ours is sent to close it: it would
        open one if it were not. What the server holds is moved, and after `escalate_ns` the server is asked to flatten.
        """
        self._due = NEVER
        self._sure = sure
        if self.goal:
            self._pursue(ts_ns, held, touch)
        if held.quantity:
            self._guard(ts_ns, held, touch)
        else:
            self._protected()
        self._sweep(ts_ns, held)
        return self._due

    def _again_at(self, ts_ns: int) -> None:
        self._due = min(self._due, ts_ns)

    # To flat.

    def _pursue(self, ts_ns: int, held: Held, touch: Touch) -> None:
        self.cancel_entries(ts_ns)
        entering = any(entry.live for entry in self._working.with_role(OrderRole.ENTRY))
        if not held.quantity:
            if not (entering or self._working.missing_fills()):
                self.goal = ""
            return
        closers = [entry for entry in self._working if entry.order.side is held.close_side and entry.live]
        if self._working.missing_fills() or any(entry.state is OrderState.UNKNOWN for entry in closers):
            return  # one of them may have closed it already: evidence first
        if ts_ns >= self._goal_since + self._policy.escalate_ns:
            self._escalate(ts_ns, held, closers)
            return
        self._again_at(self._goal_since + self._policy.escalate_ns)
        covered = self._move_exits(ts_ns, touch, closers)
        if covered >= abs(held.quantity) or entering or not self._sure:
            return
        settled_ns = self._goal_since + self._policy.grace_ns
        if ts_ns < settled_ns and any(entry.state is OrderState.ACKED for entry in closers):
            self._again_at(settled_ns)  # a target about to work is the better exit
            return
        for entry in closers:
            self._desk.cancel(entry, ts_ns)
        if not closers:
            self._exit(ts_ns, held, touch)

    def _move_exits(self, ts_ns: int, touch: Touch, closers: list[WorkingOrder]) -> int:
        """Bring targets and exits to where they fill; returns the contracts they cover."""
        covered = 0
        for entry in closers:
            if entry.order.role not in {OrderRole.TARGET, OrderRole.EXIT}:
                continue
            if entry.state is not OrderState.ACKED and not entry.cancel_pending:
                covered += entry.open_quantity
            times, due = self._moves.get(entry.client_order_id, (0, 0))
            if entry.order.role is OrderRole.EXIT and not times:
                times, due = 1, entry.sent_ns + self._policy.chase_ns
            if entry.replace_pending or entry.cancel_pending or not entry.at_server or not touch.known:
                continue
            if ts_ns >= due:
                self._desk.replace(entry, self._price(entry.order.side, touch, times), self.goal, ts_ns)
                times, due = times + 1, ts_ns + self._policy.chase_ns
            self._moves[entry.client_order_id] = times, due
            self._again_at(due)
        return covered

    def _price(self, side: Side, touch: Touch, times: int) -> float:
        """A limit that fills at once, further through the touch each time it did not."""
        through = self._policy.slippage_ticks * (times + 1) * self._instrument.tick_size
        return max(touch.take(side) + side * through, self._instrument.tick_size)

    def _exit(self, ts_ns: int, held: Held, touch: Touch) -> None:
        if ts_ns < self._next_exit_ns:
            self._again_at(self._next_exit_ns)
            return
        self._next_exit_ns = ts_ns + self._policy.chase_ns
        self._again_at(self._next_exit_ns)
        if not touch.known:
            self._flatten(ts_ns, held)
            return
        price = self._price(held.close_side, touch, 0)
        order = self._desk.make(
            OrderRole.EXIT, held.close_side, abs(held.quantity), OrderType.LIMIT, price, held.decision_id
        )
        if not self._desk.send_exit(order, self.goal, ts_ns):
            self._flatten(ts_ns, held)

    def _escalate(self, ts_ns: int, held: Held, closers: list[WorkingOrder]) -> None:
        due_ns = self._next_exit_ns
        asked = self._working.get(self._flatten_id)
        if asked is not None and asked.state is OrderState.REJECTED:  # it did nothing, and nothing more comes of it
            due_ns = min(due_ns, asked.sent_ns + self._policy.chase_ns)
        if ts_ns < due_ns:  # what was sent last has its time, the flatten too
            self._again_at(due_ns)
            return
        if closers:
            for entry in closers:
                self._desk.cancel(entry, ts_ns)
            return
        self._warn(
            "exit_stuck",
            Priority.CRITICAL,
            "a position could not be closed by moving its exit: the server was asked to flatten it; check the account",
            {"position": held.quantity, "reason": self.goal},
        )
        self._next_exit_ns = ts_ns + self._policy.escalate_ns
        self._again_at(self._next_exit_ns)
        self._flatten(ts_ns, held)

    def _flatten(self, ts_ns: int, held: Held) -> None:
        order = self._desk.make(
            OrderRole.EXIT, held.close_side, abs(held.quantity), OrderType.MARKET, 0.0, held.decision_id
        )
        self._flatten_id = order.client_order_id
        self._desk.flatten(order, self.goal, ts_ns)

    # Protection.

    def _guard(self, ts_ns: int, held: Held, touch: Touch) -> None:
        missing = abs(held.quantity) - self._working.protection(held.close_side)
        if missing <= 0:
            self._protected()
            return
        if self.goal:
            return  # it is being closed, by orders that a second stop would race
        if not self._unprotected_since:
            self._unprotected_since = ts_ns
        if ts_ns < self._unprotected_since + self._policy.grace_ns:
            self._again_at(self._unprotected_since + self._policy.grace_ns)
            return
        stops = [stop for stop in self._working.with_role(OrderRole.STOP) if stop.order.side is held.close_side]
        awaited = any(stop.asked_ns or stop.state is OrderState.UNKNOWN for stop in stops)
        if awaited or self._working.missing_fills():
            self._tell_bare(held, missing, "the server's answer about it is awaited")  # or the search for one, first
            return
        self._protect(ts_ns, held, touch, missing)

    def _protected(self) -> None:
        self._unprotected_since = self._attempts = 0
        self._told = ""

    def _tell_bare(self, held: Held, missing: int, what: str) -> None:
        """Once for each step that is taken about it."""
        if self._told != what:
            self._told = what
            self._warn(
                "position_unprotected",
                Priority.CRITICAL,
                f"a position had no working stop for {missing} of its contracts: {what}",
                {"position": held.quantity, "missing": missing, "attempts": self._attempts},
            )

    def _protect(self, ts_ns: int, held: Held, touch: Touch, missing: int) -> None:
        side = held.close_side
        level = held.average_price + side * self._policy.stop_ticks * self._instrument.tick_size
        level = self._instrument.round_to_tick(level)
        reached = not touch.known or (touch.take(side) - level) * side >= 0
        give_up = self._policy.flatten_unprotected or self._attempts >= self._policy.protection_attempts or reached
        self._told = ""
        self._tell_bare(held, missing, "it is being closed" if give_up else f"a stop at {level} was sent")
        if give_up:
            self.want_flat("unprotected", ts_ns)
            self._again_at(ts_ns)
            return
        self._attempts += 1
        self._unprotected_since = ts_ns
        self._again_at(ts_ns + self._policy.grace_ns)
        stop = self._desk.make(OrderRole.STOP, side, missing, OrderType.STOP, level, held.decision_id)
        if not self._desk.send_stop(stop, ts_ns):
            self.want_flat("unprotected", ts_ns)
            self._again_at(ts_ns)

    def _sweep(self, ts_ns: int, held: Held) -> None:
        """Cancel what would open a position instead of closing one, a little after the server should have done it."""
        surplus = self._surplus(held)
        if not surplus:
            self._surplus_since = 0
            return
        if not self._surplus_since:
            self._surplus_since = ts_ns
        late = ts_ns >= self._surplus_since + self._policy.grace_ns
        if not late:
            self._again_at(self._surplus_since + self._policy.grace_ns)
        for entry in surplus:
            if late or not entry.order.parent_id:
                self._desk.cancel(entry, ts_ns)

    def _surplus(self, held: Held) -> list[WorkingOrder]:
        """Closing orders with nothing left to close; none while fills may be on their way."""
        closing = [entry for entry in self._working if entry.order.role is not OrderRole.ENTRY and entry.live]
        if not closing or self._working.missing_fills():
            return []
        if any(entry.live for entry in self._working.with_role(OrderRole.ENTRY)):
            return []
        if not held.quantity:
            return closing
        wrong = [entry for entry in closing if entry.order.side is not held.close_side]
        extra = self._working.protection(held.close_side) - abs(held.quantity)
        for stop in reversed(closing):
            if stop.order.role is OrderRole.STOP and not stop.order.parent_id and 0 < stop.open_quantity <= extra:
                extra -= stop.open_quantity
                wrong.append(stop)
        return wrong
