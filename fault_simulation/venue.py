"""What the simulation needs of a venue: a server that can crash, its account, and its orders as they are.

Two venues have this interface: `first_venue` (the daemon's own simulator) and `second_venue`, which shares no code
with it.
"""

from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from fault_simulation.loop import Process
from fault_simulation.network import End
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar

TODAY = date(2026, 11, 1)


@cache
def calendar() -> TradingCalendar:
    """The calendar of the weeks in which simulations take place."""
    return TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31))


class OrderAtServer(NamedTuple):
    """One order that is not done.

    Attributes:
        side: 1 buys, -1 sells.
        adds: an entry: it may bring the position further from zero.
        stops: a stop that works; one that waits for its parent does not.
        exits: an order of the daemon that closes, works, and belongs to no bracket.
    """

    client_order_id: str
    side: int
    open_quantity: int
    adds: bool
    stops: bool
    exits: bool


class ServerState(NamedTuple):
    """The account at one moment.

    Attributes:
        misleads: the server has confirmed what is not so, on purpose: it is about to be corrected.
    """

    position: int
    orders: tuple[OrderAtServer, ...]
    misleads: bool


OnChange = Callable[[ServerState], None]
"""Called with the state of the account after each change there."""


class Venue(Protocol):
    """One server after another, over the same account.

    Attributes:
        process: that of the present server, or of the last.
    """

    instrument: Instrument
    process: Process

    @property
    def record(self) -> Path:
        """Path of the server's record of all order traffic: lines as `history` reads them."""

    @property
    def earned(self) -> float:
        """Profit by the server's account, account currency, after costs."""

    def state(self) -> ServerState:
        """The account as it is now."""

    def touch(self) -> tuple[int, float, float] | None:
        """The present quote: exchange time, bid, ask; None when there is none."""

    def start(self, rng: Random) -> None:
        """Start a server with what the last one left."""

    def crash(self) -> None:
        """Kill the server."""

    def by_hand(self, what: str, share: float) -> bool:
        """Trade the account as an external trader, with `share` of the quantity that the daemon may hold.

        `what` is `buy`, `sell` or `flatten` at the market; `bid` or `offer`, a resting order; `cancel` for every
        working order; or `withdraw` for external ones. False when it is not possible now.
        """

    def behave(self) -> None:
        """End the faults that are drawn order by order, and those of later connections."""

    def misbehave(self) -> None:
        """Start the faults of orders again."""

    def speaks(self, near: End) -> bool:
        """Whether client and server receive each other's messages on this connection."""

    def may_fail(self, near: End) -> bool:
        """Whether this connection is cut, or has a fault of its own."""
