"""When a snapshot of the server is requested, and what is known when it is."""

from dataclasses import dataclass
from typing import Self

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import BrokerSettings


@dataclass(frozen=True, slots=True)
class ReconcilePolicy:
    """When a snapshot is requested, and what is done about a drift; times in nanoseconds of our clock.

    Attributes:
        answer_ns: time-out of an answer.
        every_ns: between two snapshots when nothing is in doubt.
        second_ns: one second of real time.
        adopt_drift: when two snapshots in a row show the same drift: take over the server's position (True) or halt.
    """

    answer_ns: int
    every_ns: int
    second_ns: int = NS_PER_S
    adopt_drift: bool = True

    @classmethod
    def of(cls, settings: BrokerSettings, stretch: float, *, adopt_drift: bool = True) -> Self:
        """From the settings; times are multiplied by `stretch` (event s per real s), as our clock is."""
        return cls(
            answer_ns=round(settings.ack_timeout_s * NS_PER_S * stretch),
            every_ns=round(settings.reconcile_every_s * NS_PER_S * stretch),
            second_ns=round(NS_PER_S * stretch),
            adopt_drift=adopt_drift,
        )

    @property
    def fill_grace_ns(self) -> int:
        """A fill that was reported without its execution may still come by itself within this."""
        return self.second_ns // 10

    @property
    def bracket_ns(self) -> int:
        """An order that is not acknowledged is asked about after this, and may be absent from a list before."""
        return 3 * self.second_ns // 4

    @property
    def first_pause_ns(self) -> int:
        """Between two snapshots while there is disagreement; doubled each time."""
        return self.second_ns // 4

    @property
    def longest_pause_ns(self) -> int:
        return 8 * self.second_ns


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """A snapshot request, and what was known when it was made.

    Attributes:
        since_ns: exchange time since which fills are requested.
        why: the reason; "" for the periodic query.
        version: of our orders then: the answer may be older than what happened since.
        asked_ns: our time then.
        was_reconciled: `BrokerSync.reconciled` then.
    """

    since_ns: int
    why: str
    version: int
    asked_ns: int
    was_reconciled: bool
