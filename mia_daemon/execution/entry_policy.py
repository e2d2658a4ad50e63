"""How entries are priced and how they follow the touch, as configured.

- `marketable_limit` sets its limit at the far touch plus the slippage; what does not fill rests there.
- `market_with_protection` is the same with the wider limit of the protection points, as an exchange treats a market
  order. An order without a limit is never sent.
- `limit_at_touch` joins the near touch. At intervals, when the touch has moved away, it is moved to the touch, a
  limited number of times and ticks. When it may not follow, or has rested too long, it is cancelled, or moved to the
  far touch within the same ticks.

Whatever the policy, an entry that works longer than the time-out is cancelled.
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
    cross: bool  # when unfilled: move to the far touch; False: cancel


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
        """From the settings; `tick` is the tick size in points."""
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
        """Whether an entry rests at the touch and has to follow it."""
        return self.kind == "limit_at_touch"

    def expected(self, side: Side, touch: Touch) -> float:
        """The price at which an entry is expected to fill; stop and target are measured from it."""
        return touch.near(side) if self.kind == "limit_at_touch" else touch.far(side)

    def price(self, side: Side, expected: float) -> float:
        """The limit of a new entry that is expected to fill at `expected`."""
        beyond = {"limit_at_touch": 0.0, "marketable_limit": self.slippage, "market_with_protection": self.protection}
        return expected + side * beyond[self.kind]

    def crossing(self, first: float, side: Side, touch: Touch) -> float | None:
        """A limit at the far touch plus the slippage, at most `chase.max_distance` from `first`, the first limit.

        None when the far touch is beyond that.
        """
        far = touch.far(side)
        reach = min(side * far + self.slippage, side * first + self.chase.max_distance)
        return side * reach if reach >= side * far - self.tick / 2 else None
