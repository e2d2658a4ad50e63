"""Invariants, checked at every change of the server's account and on every message that the daemon sends."""

import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from fault_simulation.history import BY_HAND, position_in_journal
from fault_simulation.venue import OrderAtServer, ServerState

MISLED_S = 12.0
"""A server that confirms a cancel, and afterwards reports that the order had filled, can bring the position beyond a
limit. Within this time of working communication the position has to be back."""

HELD_S = 5.0
"""How much longer than it may be held, and bare, a position may be there: its exit follows the touch."""

STRAY_S = 3.5
"""How much longer than a position may be bare, an order to close may work at a flat account without an entry."""

_ORDERS = {
    "SubmitNewSingleOrder": ("ClientOrderID",),
    "SubmitNewOCOOrder": ("ClientOrderID_1", "ClientOrderID_2"),
    "SubmitFlattenPositionOrder": ("ClientOrderID",),
}


class ServerWatch:
    """Checks position and orders at the server after each change there.

    Args:
        limit: contracts that the position, with all entries filled, may never exceed.
        hold_s: how long a position may be held.
        deadline_s: how long a position may now be unprotected while the daemon is able to act.
        able: whether the daemon is able to act now.
        stopped: whether it has stopped by itself and said so: the position is then a person's to close.

    Attributes:
        longest_bare_s: the longest time a position was unprotected while the daemon was able to act.
        external_trading: an external trader has traded this account. Its limits are checked again after the next
            reconciliation; until then `WireWatch` checks them on what the daemon knows.
        flat_since_s: loop time since which there is no position; infinite while there is one.
    """

    def __init__(
        self,
        limit: int,
        hold_s: float,
        deadline_s: Callable[[], float],
        able: Callable[[], bool],
        stopped: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        self.longest_bare_s = 0.0
        self.flat_since_s = 0.0
        self.external_trading = False
        self.limit = limit
        self._hold_s = hold_s
        self._deadline_s = deadline_s
        self._able = able
        self._stopped = stopped
        self._report = report
        self._looked_s = 0.0
        self._misled_until_s = 0.0
        self._external_until_s = 0.0  # an external order works, or did until recently: it may fill in parts
        self._bare_s = 0.0
        self._reported = False
        self._beyond = ""  # by whom: "own" or "external"
        self._beyond_s = 0.0
        self._stray_s = 0.0
        self._side = 0
        self._held_s = 0.0

    def look(self, state: ServerState, now_s: float) -> None:
        """Check the account at loop time `now_s`."""
        able = self._able()
        misled = now_s < self._misled_until_s
        if state.misleads or (misled and not able):
            self._misled_until_s = now_s + MISLED_S
        if any(order.client_order_id.startswith(BY_HAND) for order in state.orders):
            self.external_trading, self._external_until_s = True, now_s + MISLED_S
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        if now_s >= self._misled_until_s:
            self._limits(state.position, state.orders, passed_s, able=able)
        able = able and now_s >= self._external_until_s
        self._protection(state.position, state.orders, passed_s, able=able)
        self._strays(state, passed_s, able=able)
        self._hold(state.position, passed_s, able=able)
        self.flat_since_s = math.inf if state.position else min(self.flat_since_s, now_s)

    def _limits(self, position: int, orders: Sequence[OrderAtServer], passed_s: float, *, able: bool) -> None:
        """Orders of the daemon do not lead beyond the limit; those that an external trader's make do, are cancelled."""
        beyond = ""
        for side in (1, -1):
            coming = sum(order.open_quantity for order in orders if order.adds and order.side == side)
            if side * position + coming > self.limit:
                beyond = f"beyond the limit: position {position:+d}, {coming} more may come, limit {self.limit}"
        if not beyond:
            self._beyond, self._beyond_s = "", 0.0
            return
        if not self._beyond:
            self._beyond = "external" if self.external_trading else "own"
            if not self.external_trading:
                self._report(beyond)
        if self._beyond == "external" and able and not self.external_trading:
            deadline_s = self._deadline_s() + STRAY_S
            before_s, self._beyond_s = self._beyond_s, self._beyond_s + passed_s
            if before_s <= deadline_s < self._beyond_s:
                self._report(f"{beyond}, for more than {deadline_s:g} s")

    def _strays(self, state: ServerState, passed_s: float, *, able: bool) -> None:
        """An order to close that works at a flat account would open a position."""
        strays = [order.client_order_id for order in state.orders if order.stops or order.exits]
        if state.position or not strays or not able or any(order.adds for order in state.orders):
            self._stray_s = 0.0
            return
        deadline_s = self._deadline_s() + STRAY_S
        before_s, self._stray_s = self._stray_s, self._stray_s + passed_s
        if before_s <= deadline_s < self._stray_s:
            self._report(f"flat, and orders to close work for more than {deadline_s:g} s: {strays}")

    def _hold(self, position: int, passed_s: float, *, able: bool) -> None:
        """A position is closed when it has been held for as long as is configured."""
        side = (position > 0) - (position < 0)
        if not side or side != self._side or not able:
            self._side, self._held_s = side, 0.0
            return
        deadline_s = self._hold_s + self._deadline_s() + HELD_S
        before_s, self._held_s = self._held_s, self._held_s + passed_s
        if before_s <= deadline_s < self._held_s and not self._stopped():
            self._report(f"position {position:+d} held for more than {deadline_s:g} s, allowed are {self._hold_s:g} s")

    def _protection(self, position: int, orders: Sequence[OrderAtServer], passed_s: float, *, able: bool) -> None:
        closing = [order for order in orders if order.side * position < 0 and not order.adds]
        stops = sum(order.open_quantity for order in closing if order.stops)
        exits = sum(order.open_quantity for order in closing if order.exits)
        if stops + exits >= abs(position) or not able:
            self._bare_s = 0.0
            self._reported = False
            return
        self._bare_s += passed_s
        self.longest_bare_s = max(self.longest_bare_s, self._bare_s)
        deadline_s = self._deadline_s()
        if self._bare_s > deadline_s and not self._reported:
            self._reported = True
            self._report(f"unprotected: position {position:+d} for more than {deadline_s:g} s, stops {stops}")


class WireWatch:
    """Checks messages about to be sent against the journal at that moment.

    Attributes:
        excused: orders that reduce risk and were sent, or were moved, although the journal could not be written.
    """

    def __init__(self, limit: int, orders_per_minute: int | None, report: Callable[[str], None]) -> None:
        self.excused: set[str] = set()
        self._limit = limit
        self._orders_per_minute = orders_per_minute
        self._report = report
        self._entries: list[tuple[object, float]] = []

    def look(
        self,
        messages: Sequence[Any],
        journal: Path,
        life: object,
        now_s: float,
        *,
        flat: bool,
        halted: bool,
        sick: bool,
    ) -> None:
        """Check messages right before they are sent.

        Args:
            flat: the server has held no position since this life began.
            halted: an operator has halted trading.
            sick: the disk fails, or has failed in this life.
        """
        if sick:
            self.excused |= {m.ClientOrderID for m in messages if type(m).__name__ == "CancelReplaceOrder"}
        names = [getattr(m, field) for m in messages for field in _ORDERS.get(type(m).__name__, ())]
        if not names:
            return
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            roles = {
                name: row[0]
                for name in names
                if (row := db.execute("SELECT role FROM intents WHERE client_order_id = ?", (name,)).fetchone())
            }
        entries = [
            m
            for m in messages
            if getattr(m, "IsParentOrder", 0) or roles.get(getattr(m, "ClientOrderID", "")) == "entry"
        ]
        self._check_filed([name for name in names if name not in roles], excused=sick and not entries)
        if not entries:
            if flat and type(messages[0]).__name__ == "SubmitNewSingleOrder":
                self._report(f"to close a position that the server does not hold: {names[0]}")
            return
        if halted:
            self._report(f"entered while halted: {names[0]}")
        held = position_in_journal(journal)
        side, quantity = next((1 if m.BuySell == 1 else -1, m.Quantity) for m in entries if hasattr(m, "BuySell"))
        if held * side + quantity > self._limit:
            self._report(f"entered beyond the limit: {names[0]}, {quantity:g} more with {held:+d} on file")
        self._entries = [(who, at) for who, at in self._entries if who is life and at > now_s - 60.0]
        self._entries.append((life, now_s))
        if self._orders_per_minute is not None and len(self._entries) > self._orders_per_minute:
            self._report(f"more than {self._orders_per_minute} entries a minute: {names[0]}")

    def _check_filed(self, missing: Sequence[str], *, excused: bool) -> None:
        for name in missing:
            if excused:
                self.excused.add(name)
            else:
                self._report(f"left before it was on file: {name}")
