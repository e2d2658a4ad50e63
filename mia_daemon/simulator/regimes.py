"""The market's hidden states: how the fair value moves and how the book reacts, for minutes at a time."""

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import Regime

_HISTORY = 10_000  # switches remembered: weeks of exchange time


@dataclass(frozen=True, slots=True)
class Character:
    """A regime's habits. Prices in ticks, time in seconds.

    Attributes:
        volatility: of the fair value, ticks per square root of a second.
        momentum: standard deviation of the persistent part of its motion, ticks per second.
        reversion: pull of the fair value towards its anchor, per second.
        drift: of the fair value, ticks per second, in the regime's direction.
        depth: of the book, as a share of the usual.
        spread: what market makers are content with, ticks; a wider one is narrowed.
        narrowing: probability that the next action narrows a spread that is too wide.
        rate: of events, as a multiple of the usual.
        dwell_s: mean duration.
    """

    volatility: float
    momentum: float
    reversion: float
    drift: float
    depth: float
    spread: int
    narrowing: float
    rate: float
    dwell_s: float


CHARACTERS: dict[Regime, Character] = {
    Regime.RANGE: Character(0.6, 0.10, 1 / 120, 0.0, 1.0, 1, 0.7, 0.85, 240.0),
    Regime.TREND: Character(0.6, 0.10, 0.0, 0.12, 0.9, 1, 0.7, 1.1, 180.0),
    Regime.DEFENSIVE: Character(2.2, 0.20, 0.0, 0.0, 0.3, 2, 0.25, 1.5, 90.0),
}

_NEXT: dict[Regime, tuple[tuple[Regime, float], ...]] = {
    Regime.RANGE: ((Regime.TREND, 0.75), (Regime.DEFENSIVE, 1.0)),
    Regime.TREND: ((Regime.RANGE, 0.7), (Regime.DEFENSIVE, 1.0)),
    Regime.DEFENSIVE: ((Regime.RANGE, 0.5), (Regime.TREND, 1.0)),
}
"""Where a regime goes when it ends: cumulative probabilities."""

_MOMENTUM_S = 25.0
"""How long a motion lasts before it is forgotten: what makes the near future a little predictable."""

_LEAD_S = 6.0
"""How far ahead of the fair value informed traders look, seconds of its momentum."""

_FLOOR_TICKS = 200.0
"""The fair value is turned back here: far below any sensible start, far above zero."""


class FairValue:
    """What the market would be worth to someone who knew: it leads the traded price by a few seconds.

    Attributes:
        value: ticks.
        momentum: the persistent part of its motion, ticks per second.
        regime, character: in force.
        history: (ts_ns, regime) of every switch, newest last.
    """

    def __init__(self, rng: Random, ts_ns: int, value: float, regime: Regime = Regime.RANGE) -> None:
        self._rng = rng
        self.value = value
        self.momentum = 0.0
        self.history: deque[tuple[int, Regime]] = deque(maxlen=_HISTORY)
        self._until_ns = 0
        self._anchor = value
        self._direction = 1
        self._enter(regime, ts_ns)

    def _enter(self, regime: Regime, ts_ns: int) -> None:
        self.regime = regime
        self.character = CHARACTERS[regime]
        self._anchor = self.value
        self._direction = 1 if self._rng.random() < 0.5 else -1
        self._until_ns = ts_ns + int(self._rng.expovariate(1.0 / self.character.dwell_s) * NS_PER_S)
        self.history.append((ts_ns, regime))

    def advance(self, ts_ns: int, elapsed_s: float) -> None:
        """Move on to `ts_ns`, `elapsed_s` of trading time later (Euler's scheme; steps are fractions of a second)."""
        character = self.character
        value = self.value
        step = character.volatility * math.sqrt(elapsed_s) * self._rng.gauss(0.0, 1.0)
        kick = character.momentum * math.sqrt(2.0 * elapsed_s / _MOMENTUM_S) * self._rng.gauss(0.0, 1.0)
        self.momentum += kick - self.momentum / _MOMENTUM_S * elapsed_s
        pull = character.reversion * (self._anchor - value) + character.drift * self._direction + self.momentum
        self.value = max(value + step + pull * elapsed_s, _FLOOR_TICKS)
        if ts_ns >= self._until_ns:
            draw = self._rng.random()
            self._enter(next(regime for regime, p in _NEXT[self.regime] if draw < p), ts_ns)

    @property
    def expected(self) -> float:
        """Where informed traders see the value going, ticks."""
        return self.value + _LEAD_S * (self.momentum + self.character.drift * self._direction)

    def shock(self, ticks: float) -> None:
        """News: the value jumps, and so does what it reverts to."""
        self.value = max(self.value + ticks, _FLOOR_TICKS)
        self._anchor += ticks
