"""`replay --research`: limits that would stop trading are counted, and trading goes on."""

from dataclasses import dataclass
from typing import Any, Final

from mia_daemon.risk.codes import HALTING, Latch, RiskCode, Verdict
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import RiskSnapshot

_LOSSES: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
_LASTING: Final = _LOSSES | {RiskCode.POSITION_BREACH}
"""Limits that stay exceeded for a while; the others are exceeded by one event."""


@dataclass(frozen=True, slots=True)
class CountedLatch:
    """How often a latch would have been set, and at which event time first, ns."""

    code: RiskCode
    count: int
    first_ns: int


class LatchCounter(RiskController):
    """A risk controller for replays that counts a latch instead of setting it.

    A daily loss counts once a trading day, a drawdown once until equity has a new peak, a position beyond its limit
    until it is back within. Rows of losses or rejects and the number of executions restart at 0, as after an operator's
    `resume` or `rearm`. Latches that halt are set all the same: they say that the replay itself has failed, such as a
    journal that can't be written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counted: dict[RiskCode, CountedLatch] = {}
        self._exceeded: set[RiskCode] = set()

    @property
    def counted(self) -> tuple[CountedLatch, ...]:
        """The latches that would have been set, in the order of their first time."""
        return tuple(self._counted.values())

    def start_day(self) -> None:
        """As `RiskController.start_day`; a daily loss counts again."""
        super().start_day()
        self._exceeded.discard(RiskCode.DAILY_LOSS)

    def watch(self, snapshot: RiskSnapshot) -> list[Latch]:
        """Count the limits that the account newly exceeds; returns no latch."""
        if not snapshot.drawdown:
            self._exceeded.discard(RiskCode.DRAWDOWN)
        if self.beyond_limit(abs(snapshot.position)) <= 0:
            self._exceeded.discard(RiskCode.POSITION_BREACH)
        return super().watch(snapshot)

    def _set(self, code: RiskCode, ts_ns: int, context: dict[str, Any]) -> list[Latch]:
        if code in HALTING:
            return super()._set(code, ts_ns, context)
        if code not in self._exceeded:
            before = self._counted.get(code, CountedLatch(code, 0, ts_ns))
            self._counted[code] = CountedLatch(code, before.count + 1, before.first_ns)
        if code in _LASTING:
            self._exceeded.add(code)
        elif code is RiskCode.CONSECUTIVE_LOSSES:
            self._losses = 0
        elif code is RiskCode.CONSECUTIVE_REJECTS:
            self._rejects = 0
        elif code is RiskCode.REPEATED_EXECUTION:
            self._executions = 0
        return []

    def _check_account(self, snapshot: RiskSnapshot) -> Verdict | None:
        verdict = super()._check_account(snapshot)
        return None if verdict is not None and verdict.code in _LOSSES else verdict
