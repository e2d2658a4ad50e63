"""Planted bugs of the account: position, executions, prices, clocks and the connection."""

from typing import Any

from fault_simulation.plan import Wanted
from fault_simulation.planted_bug import Change, PlantedBug
from mia_daemon.brokers import sierra, sierra_mapping
from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.brokers.sierra_mapping import DtcOrderMapper
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import PeerError, SentElsewhere
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.executions import OrderFills
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.server_clock import ServerClock
from mia_daemon.execution.state import ExecutionState
from mia_daemon.link.connection import DtcConnection


def _link_ends() -> list[Change]:
    """A time that is not a number raises, and an exception of a handler ends the connection for good."""

    def fail(self: Any, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        if isinstance(error, PeerError) and not isinstance(error, SentElsewhere):
            self._owner.went_down(error)

    return [
        (DtcConnection, "_fail", fail),
        (sierra_mapping, "_time", lambda value, unit_ns: round(value * unit_ns)),
    ]


def _event_time_waits() -> list[Change]:
    """What is awaited is waited for in the market's time, which stands still while no price comes."""
    return [(ExecutionState, "own_ns", property(lambda self: self.market.now_ns))]


def _server_time() -> list[Change]:
    """A position is held from the time on that the server's clock shows."""
    return [
        (ServerClock, "received", lambda self, told_ns, _sent_ns: told_ns or self._state.time_ns),
        (ServerClock, "listed", lambda _, told_ns: told_ns),
    ]


def _booked_by_id() -> list[Change]:
    """An execution is known by its id alone: reported under another one it is booked again."""

    def known(self: Any) -> set[str]:
        return {one.execution_id for one in self.executions}

    def from_update(self: Any, fill: Any, _size: int) -> Any:
        self.reported = max(self.reported, fill.filled)
        return None if fill.execution_id in known(self) else fill

    def from_history(self: Any, listed: Any, _limit: int) -> Any:
        for fill in listed:
            if fill.execution_id not in known(self):
                yield fill

    return [(OrderFills, "from_update", from_update), (OrderFills, "from_history", from_history)]


def _ids_of_all() -> list[Change]:
    """An execution whose id one of another order has had is booked already."""
    apply_fill, seen = Accounting.apply_fill, "_ids_seen"

    def if_new(self: Any, fill: Any, entry: Any) -> bool:
        ids = self.__dict__.setdefault(seen, set())
        if fill.execution_id in ids:
            return False
        ids.add(fill.execution_id)
        return apply_fill(self, fill, entry)

    return [(Accounting, "apply_fill", if_new)]


def _off_tick() -> list[Change]:
    """Prices are multiplied and divided by the float32 that the server has sent."""

    def inward(self: Any, price: float) -> float:
        return 0.0 if abs(price) >= dtc.UNSET_F64 else price * self.multiplier

    async def multiplier(ask: Any, scope: Any, _address: str) -> float:
        answers = await ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=scope.trade_symbol))
        return float(answers[-1].DisplayPriceMultiplier)

    return [
        (DtcOrderMapper, "_inward", inward),
        (DtcOrderMapper, "_outward", lambda self, price: price / self.multiplier),
        (sierra, "query_multiplier", multiplier),
    ]


def _balance_needed() -> list[Change]:
    """Without the balance nothing is compared, and so nothing traded."""

    async def balance(self: Any) -> Any:
        answers = await self._ask(dtc.AccountBalanceRequest(TradeAccount=self._scope.account))
        return next((one for message in answers if (one := self._balance_in(message)) is not None), None)

    def fail(self: Any, query: Any, _error: Any) -> None:
        self._sync.query_reason = query.why or "the last question had no answer"
        self._disagree()
        self.abandon()

    return [(SierraBroker, "_balance", balance), (Reconciler, "fail", fail)]


def _beyond_held() -> list[Change]:
    """Stops and exits are for our position, whatever the server holds; a comparison needs that nothing happens."""
    apply, conclude = Reconciler.apply, Reconciler._conclude

    def if_still(self: Any, query: Any, snapshot: Any) -> bool:
        self.still = query.version == self._orders.version
        return apply(self, query, snapshot)

    def conclude_if_still(self: Any, query: Any, found: Any) -> bool:
        if self.still:
            return conclude(self, query, found)
        self._sync.request_reconcile("orders or position did not agree yet")
        return False

    return [
        (ExecutionState, "confirmed", property(lambda self: abs(self.ledger.position))),
        (Reconciler, "apply", if_still),
        (Reconciler, "_conclude", conclude_if_still),
    ]


def _under(*habits: str) -> Wanted:
    return Wanted(venue=2, habits=habits, undisturbed=True)


BUGS = {
    "link-ends": PlantedBug(_link_ends, 2, _under("odd OrderUpdate.LatestTransactionDateTime nan")),
    "event-time-waits": PlantedBug(_event_time_waits, 6, _under("prices pause", "stop rejected")),
    "server-time": PlantedBug(_server_time, 2, _under("times ahead")),
    "booked-by-id": PlantedBug(_booked_by_id, 0, _under("executions differ")),
    "ids-of-all": PlantedBug(_ids_of_all, 0, _under("executions per_order")),
    "off-tick": PlantedBug(_off_tick, 0, _under("prices in hundredths")),
    "balance-needed": PlantedBug(_balance_needed, 0, _under("balance refused")),
    "beyond-held": PlantedBug(
        _beyond_held, 2, Wanted(venue=2, habits=("answers after 0.5 s", "position closed while away"))
    ),
}
