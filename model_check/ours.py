"""Our side: the real working orders, order events, reconciler and order manager, loaded from a tuple and read back.

Every function of `OurSide` is a function of what was loaded alone. What is not in the tuple is constant: time stands
still, the market is not known, and risk allows everything.
"""

from typing import Any, Final, NamedTuple, cast

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.inputs import AccountInputs
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.reconcile_policy import ReconcilePolicy, SnapshotQuery
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import BrokerSync, ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import (
    BrokerSnapshot,
    LinkReport,
    LinkState,
    PositionReport,
)
from model_check.on_file import AS_SENT, NOW, ORDERS, PRICES, SCOPE, Row, recovered
from model_check.our_order import BEFORE_QUERY, SINCE_QUERY, OurOrder, make_entry, read_entry
from model_check.ports import (
    ModelAccounting,
    ModelBreakers,
    ModelBroker,
    ModelJournal,
    ModelLedger,
    ModelListener,
    ModelRisk,
)
from model_check.reports import past, report
from model_check.venue import SIDES, Answer, Habits, Request, Update

_OWN_NS: Final = 100 * NS_PER_S
_NO_DIFFERENCE: Final[tuple[int, tuple[str, ...]]] = (0, ())


class Ours(NamedTuple):
    """Our side at one moment.

    Attributes:
        orders: entry, stop and target; None for one that a restart found done.
        numbers: the server's numbers that are known, each with the client order id.
        rows: the journal's.
        asking: a query was sent and its answer has not come.
        positions: ours when it was sent, and after each fill since.
        difference: what the last answer left unexplained.
        drift: contracts taken over without an order.
    """

    orders: tuple[OurOrder | None, ...]
    numbers: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    asking: bool = False
    positions: tuple[int, ...] = ()
    difference: tuple[int, tuple[str, ...]] = _NO_DIFFERENCE
    drift: int = 0

    @property
    def position(self) -> int:
        return self.drift + sum(side * row.booked for side, row in zip(SIDES, self.rows, strict=True))


class OurSide:
    """The real classes, with what they need around them."""

    def __init__(self) -> None:
        self._same: dict[Any, Any] = {}  # what many states have in common is kept once
        self._ledger = ModelLedger()
        self._state = state = ExecutionState(cast("Any", self._ledger), own_clock=lambda: _OWN_NS)
        state.market.now_ns = NOW + NS_PER_S
        self.orders = state.orders
        self._broker, self._journal, self._breakers = ModelBroker(), ModelJournal(), ModelBreakers()
        ports = cast("Any", Ports)(
            self._broker, self._journal, ModelRisk(), ModelListener(), lambda *_: None, SCOPE, AccountInputs(state)
        )
        breakers = cast("Any", self._breakers)
        self._manager = OrderManager(state, ports, breakers)
        self._accounting = ModelAccounting(state, self._journal)
        accounting = cast("Any", self._accounting)
        self._events = OrderEventHandler(state, ports, self._manager, accounting, breakers)
        policy = ReconcilePolicy(answer_ns=1000 * NS_PER_S, every_ns=NS_PER_S)
        self._reconciler = Reconciler(state, ports, self._events, accounting, breakers, policy)

    # Loading and reading.

    def load(self, ours: Ours) -> None:
        """Make this the present state."""
        self.orders.__init__()  # type: ignore[misc]
        self.orders._version = SINCE_QUERY if ours.asking else BEFORE_QUERY
        for place, one in enumerate(ours.orders):
            if one is not None:
                entry = make_entry(place, one)
                self.orders._file(entry)
        self.orders._by_server.update(ours.numbers)
        self._journal.rows[:] = ours.rows
        self._ledger.position = ours.position
        self._accounting.drift = ours.drift
        sync = self._state.sync
        BrokerSync.__init__(sync, reconciled=True, query_reason="")
        sync.positions[:] = ours.positions
        self._reconciler._drift._difference = ours.difference
        self._reconciler._asking = ours.asking
        self._broker.sent.clear()
        self._breakers.contradictions.clear()

    def read(self) -> Ours:
        """The present state."""
        asking = self._reconciler._asking
        entries = (self.orders.get(order.client_order_id) for order in ORDERS)
        same = self._same.setdefault
        orders = [None if entry is None else read_entry(entry, asking=asking) for entry in entries]
        numbers = tuple(sorted(self.orders._by_server.items()))
        return Ours(
            tuple(same(one, one) for one in orders),
            same(numbers, numbers),
            tuple(self._journal.rows),
            asking,
            tuple(self._state.sync.positions) if asking else (),
            self._reconciler._drift._difference,
            self._accounting.drift,
        )

    @property
    def protection(self) -> int:
        """Contracts of stops that count as cover."""
        return self.orders.protection(ORDERS[1].side)

    def requests(self) -> tuple[Request, ...]:
        """What was sent since `load`."""
        return tuple(self._broker.sent)

    # What happens.

    def start(self) -> Ours:
        """The bracket was journaled and sent."""
        self.load(Ours((None, None, None), (), AS_SENT))
        for order in ORDERS:
            self.orders.sent(self.orders.add(order), NOW, 1)
        return self.read()

    def update(self, update: Update, habits: Habits) -> None:
        """An update is delivered."""
        self._events.on_event(report(update, habits, unsolicited=True))

    def answer(self, answer: Answer, habits: Habits) -> None:
        """The answer to our query is delivered; one that is not awaited any more is dropped."""
        if not self._reconciler._asking:
            return
        query = SnapshotQuery(0, "", BEFORE_QUERY, _OWN_NS, was_reconciled=True)
        position = PositionReport(0, SCOPE.instrument.symbol, SCOPE.account, answer.position, 0.0, unsolicited=False)
        self._reconciler.apply(
            query,
            BrokerSnapshot(
                NOW,
                tuple(report(one, habits, unsolicited=False) for one in answer.listed),
                tuple(past(one, habits) for one in answer.fills),
                (position,),
                None,
            ),
        )

    def ask(self) -> None:
        """A query is sent."""
        self._reconciler.watch()
        self._reconciler.begin()

    def abandon(self) -> None:
        """The query gets no answer."""
        self._reconciler.abandon()

    def lose(self, place: int) -> None:
        """A request about an order was not answered in time."""
        self.orders.lose(self._entry(place))

    def disconnect(self) -> None:
        """The connection is lost and renewed."""
        for state in LinkState.DOWN, LinkState.UP:
            self._events.on_event(LinkReport(NOW, state, "lost"))
        self._reconciler.abandon()

    def restart(self, rows: tuple[Row, ...], drift: int) -> None:
        """The daemon is killed, and the next one reads the journal."""
        self.load(Ours((None, None, None), (), rows, drift=drift))
        found = recovered(rows)
        self._manager.restore(found.open, found.ended)

    def cancel(self, place: int) -> None:
        """An order is to be cancelled."""
        self._manager.cancel(self._entry(place))

    def cancel_again(self) -> None:
        """The cancels that are wanted and possible are sent."""
        self._manager.work()

    def replace(self, place: int) -> None:
        """An order is moved to its second price."""
        self._manager.replace(self._entry(place), PRICES[place][1], "")

    def _entry(self, place: int) -> WorkingOrder:
        entry = self.orders.get(ORDERS[place].client_order_id)
        assert entry is not None
        return entry
