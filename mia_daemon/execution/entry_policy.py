"""Where entries are priced and how they are followed, as configured.

- `marketable_limit` takes the far touch, at most the slippage beyond it; what does not fill rests there.
- `market_with_protection` is the same with the wider limit of the protection points: what an exchange does with a
  market order. A bare market order is never sent.
- `limit_at_touch` joins the near touch. Every so often, when the touch has moved away from it, it is moved after it, a
  limited number of times and ticks; when it may not follow, or has rested too long, it is cancelled, or made to take
  the far touch within the same ticks.

Whatever the policy, what works longer than the time-out is cancelled.
"""

from dataclasses import dataclass
from typing import Literal, Self

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.market import Touch
from mia_daemon.records import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ChasePolicy:
    """How a resting entry follows the touch; distances in points, times in nanoseconds of event time."""

    every_ns: int
    max_moves: int
    max_distance: float
    unfilled_ns: int
    cross: bool  # when unfilled: take the far touch, else give up


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPolicy:
    """Where entries are priced; distances in points, times in nanoseconds of event time."""

    kind: Literal["marketable_limit", "limit_at_touch", "market_with_protection"]
    tick: float
    slippage: float
    protection: float
    stop: float
    target: float
    timeout_ns: int
    chase: ChasePolicy

    @classmethod
    def of(cls, settings: Settings, tick: float) -> Self:
        """As configured."""
        execution, decision = settings.execution, settings.decision
        return cls(
            kind=execution.policy,
            tick=tick,
            slippage=decision.max_slippage_ticks * tick,
            protection=execution.protection_ticks * tick,
            stop=decision.stop_ticks * tick,
            target=decision.target_ticks * tick,
            timeout_ns=round(settings.broker.entry_timeout_s * NS_PER_S),
            chase=ChasePolicy(
                every_ns=round(execution.chase_after_s * NS_PER_S),
                max_moves=execution.max_chases,
                max_distance=execution.max_chase_ticks * tick,
                unfilled_ns=round(execution.unfilled_after_s * NS_PER_S),
                cross=execution.unfilled == "cross",
            ),
        )

    @property
    def follows(self) -> bool:
        """Whether an entry rests where it may be left behind."""
        return self.kind == "limit_at_touch"

    def expected(self, side: Side, touch: Touch) -> float:
        """Where an entry is expected to fill: stop and target are measured from there."""
        return touch.near(side) if self.kind == "limit_at_touch" else touch.far(side)

    def price(self, side: Side, expected: float) -> float:
        """The limit of a new entry that is expected to fill there."""
        beyond = {"limit_at_touch": 0.0, "marketable_limit": self.slippage, "market_with_protection": self.protection}
        return expected + side * beyond[self.kind]

    def crossing(self, first: float, side: Side, touch: Touch) -> float | None:
        """A limit that takes the far touch, within what an entry that began at `first` may pay; None beyond that."""
        far = touch.far(side)
        reach = min(side * far + self.slippage, side * first + self.chase.max_distance)
        return side * reach if reach >= side * far - self.tick / 2 else None
