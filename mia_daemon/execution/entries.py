"""How entries are worked: the order policy, which prices them when they are sent and follows them while they rest.

- `marketable_limit` takes the other side, at most the slippage beyond it; what does not fill rests there.
- `market_with_protection` is the same with the wider limit of the protection points: what an exchange does with a
  market order. A bare market order is never sent.
- `limit_at_touch` joins the near side of the touch. Every so often, when the touch has moved away from it, it is moved
  after it, a limited number of times and ticks; when it may not follow, or has rested too long, it is cancelled, or
  made to take the other side within the same ticks.

Whatever the policy, what works longer than the time-out is cancelled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.execution.exits import NEVER
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.working_orders import WorkingOrder
from mia_daemon.market import Touch
from mia_daemon.records import Order, OrderRole, Prediction, Side

CHASE = "chase"
CROSS = "cross"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPolicy:
    """Where entries are priced and how they are followed; distances in points, times in nanoseconds of event time."""

    kind: Literal["marketable_limit", "limit_at_touch", "market_with_protection"]
    tick: float
    slippage: float
    protection: float
    chase_ns: int
    max_chases: int
    max_chase: float
    unfilled_ns: int
    cross: bool
    timeout_ns: int

    @classmethod
    def of(cls, settings: Settings, tick: float) -> Self:
        """As configured."""
        execution = settings.execution
        return cls(
            kind=execution.policy,
            tick=tick,
            slippage=settings.decision.max_slippage_ticks * tick,
            protection=execution.protection_ticks * tick,
            chase_ns=round(execution.chase_after_s * NS_PER_S),
            max_chases=execution.max_chases,
            max_chase=execution.max_chase_ticks * tick,
            unfilled_ns=round(execution.unfilled_after_s * NS_PER_S),
            cross=execution.unfilled == "cross",
            timeout_ns=round(settings.broker.entry_timeout_s * NS_PER_S),
        )

    @property
    def follows(self) -> bool:
        """Whether an entry rests where it may be left behind."""
        return self.kind == "limit_at_touch"

    def expected(self, side: Side, touch: Touch) -> float:
        """Where an entry is expected to fill: stop and target are measured from there."""
        return touch.take(side.opposite) if self.follows else touch.take(side)

    def price(self, side: Side, touch: Touch) -> float:
        """The limit of a new entry."""
        beyond = {"limit_at_touch": 0.0, "marketable_limit": self.slippage, "market_with_protection": self.protection}
        return self.expected(side, touch) + side * beyond[self.kind]

    def crossing(self, first: float, side: Side, touch: Touch) -> float | None:
        """A limit that takes the other side, within what an entry that began at `first` may pay; None beyond that."""
        other = touch.take(side)
        reach = min(side * other + self.slippage, side * first + self.max_chase)
        return side * reach if reach >= side * other - self.tick / 2 else None


@dataclass(slots=True)
class _Followed:
    """A resting entry: why it was sent, when it is looked at next, how often it was moved, whether it has crossed."""

    prediction: Prediction
    look_ns: int
    moves: int = 0
    crossed: bool = False


class EntryWorker:
    """Follows the entries it is told of, and ends every entry in time.

    Level-triggered as the keeper is: it looks at orders and touch as they are. An order is moved only while a new one
    like it would be allowed; otherwise it is cancelled.

    Args:
        allowed: whether risk would allow an entry for this prediction now.
    """

    def __init__(self, desk: OrderManager, policy: EntryPolicy, allowed: Callable[[Prediction], bool]) -> None:
        self._desk = desk
        self._working = desk.working
        self._policy = policy
        self._allowed = allowed
        self._followed: dict[str, _Followed] = {}

    def follow(self, entry: Order, prediction: Prediction, ts_ns: int) -> None:
        """An entry was sent at `ts_ns` for this prediction."""
        if self._policy.follows:
            self._followed[entry.client_order_id] = _Followed(prediction, ts_ns + self._policy.chase_ns)

    def work(self, ts_ns: int, touch: Touch) -> int:
        """Do what is due; returns the event time at which to look again, NEVER when no entry works."""
        entries = self._working.with_role(OrderRole.ENTRY)
        if not entries:
            self._followed.clear()
            return NEVER
        return min(self._work(entry, ts_ns, touch) for entry in entries)

    def _work(self, entry: WorkingOrder, ts_ns: int, touch: Touch) -> int:
        if not entry.live or entry.cancel_pending:
            return NEVER
        due = entry.sent_ns + self._policy.timeout_ns
        if ts_ns >= due:
            self._desk.cancel(entry, ts_ns)
            return NEVER
        followed = self._followed.get(entry.client_order_id)
        if followed is None or followed.crossed:
            return due
        unfilled_ns = entry.sent_ns + self._policy.unfilled_ns
        if entry.at_server and not entry.replace_pending:
            if ts_ns >= unfilled_ns:
                self._finish(entry, followed, ts_ns, touch)
            elif ts_ns >= followed.look_ns:
                followed.look_ns = ts_ns + self._policy.chase_ns
                self._chase(entry, followed, ts_ns, touch)
        return min((ns for ns in (followed.look_ns, unfilled_ns) if ns > ts_ns), default=due)

    def _chase(self, entry: WorkingOrder, followed: _Followed, ts_ns: int, touch: Touch) -> None:
        side, half_tick = entry.order.side, self._policy.tick / 2
        near = touch.take(side.opposite)
        if not touch.known or (near - entry.price) * side < half_tick:
            return  # still at the touch, or better
        within = (near - entry.order.price) * side <= self._policy.max_chase + half_tick
        if not (within and followed.moves < self._policy.max_chases):
            self._finish(entry, followed, ts_ns, touch)
        else:
            followed.moves += 1
            self._move(entry, near, followed, CHASE, ts_ns)

    def _finish(self, entry: WorkingOrder, followed: _Followed, ts_ns: int, touch: Touch) -> None:
        """It has not filled where it was: cross, where that is wanted, or give up."""
        crossing = self._policy.crossing(entry.order.price, entry.order.side, touch) if touch.known else None
        if self._policy.cross and crossing is not None:
            followed.crossed = True
            self._move(entry, crossing, followed, CROSS, ts_ns)
        else:
            self._desk.cancel(entry, ts_ns)

    def _move(self, entry: WorkingOrder, price: float, followed: _Followed, reason: str, ts_ns: int) -> None:
        if not (self._allowed(followed.prediction) and self._desk.replace(entry, price, reason, ts_ns)):
            self._desk.cancel(entry, ts_ns)
