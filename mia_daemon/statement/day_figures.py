"""What a day's executions come to: contracts, realised profit and the position at its end."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from mia_daemon.execution.ledger import Ledger
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Fill, Side


@dataclass(frozen=True, slots=True)
class DayFigures:
    """Of one day, account and contract.

    Attributes:
        fills: executions.
        bought: contracts.
        sold: contracts.
        gross: realised profit before costs, account currency; at average cost while a position stays open.
        costs: commission and fees by the configured rates, account currency.
        net: realised profit after costs, account currency.
        position: signed contracts at the end.
    """

    fills: int
    bought: int
    sold: int
    gross: float
    costs: float
    net: float
    position: int


FIGURES = tuple(field.name for field in fields(DayFigures))


def day_figures(instrument: Instrument, before: Iterable[Fill], of_day: Iterable[Fill]) -> DayFigures:
    """The figures of a day.

    Args:
        instrument: its point value and costs are used.
        before: all executions of earlier days, in the order of time: they make the position that the day begins with.
        of_day: in the order of time.
    """
    ledger = Ledger(instrument, 0.0)
    for fill in before:
        ledger.apply(fill)
    ledger.start_day()
    costs_before, day = ledger.costs, list(of_day)
    for fill in day:
        ledger.apply(fill)
    costs, net = ledger.costs - costs_before, ledger.realized_today
    return DayFigures(
        fills=len(day),
        bought=sum(fill.quantity for fill in day if fill.side is Side.BUY),
        sold=sum(fill.quantity for fill in day if fill.side is Side.SELL),
        gross=net + costs,
        costs=costs,
        net=net,
        position=ledger.position,
    )
