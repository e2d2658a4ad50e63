"""The ports of execution in the model: they note what is sent, and keep what the journal keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import Fill, Order, OrderReport
from model_check import on_file
from model_check.on_file import PLACES, Row
from model_check.venue import SIDES, Request


@dataclass
class ModelLedger:
    """The position: what is booked of the three orders, and what was taken over without an order."""

    position: int = 0
    average_price: float = 0.0
    origin: None = None

    def figures(self) -> tuple[int, float, float, float]:
        return self.position, 0.0, 0.0, 0.0


@dataclass
class ModelJournal:
    """Rows of the three orders."""

    rows: list[Row] = field(default_factory=list)

    def record_update(self, update: OrderReport) -> None:
        place = PLACES[update.client_order_id]
        self.rows[place] = on_file.updated(place, self.rows[place], update)

    def record_request(self, client_order_id: str, _kind: Any, _ts_ns: int, **told: Any) -> None:
        if told.get("price"):
            place = PLACES[client_order_id]
            self.rows[place] = self.rows[place]._replace(asked_price=told["price"])

    def record_position(self, _report: Any) -> None:
        """Positions are not in the model."""

    def has_run(self, _run_id: str) -> bool:
        return True

    def has_intent(self, _client_order_id: str) -> bool:
        return True

    def executions_of(self, server_order_id: str) -> tuple[Fill, ...]:
        fills = (fill for row in self.rows for fill in row.fills)
        return tuple(fill for fill in fills if fill.server_order_id == server_order_id)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


@dataclass
class ModelBroker:
    """Notes requests about orders that exist."""

    sent: list[Request] = field(default_factory=list)
    orders_sent: int = 0
    has_own_clock: bool = True
    replaces: bool = True

    def cancel(self, client_order_id: str, _server_order_id: str) -> None:
        self.sent.append(Request("C", PLACES[client_order_id]))

    def replace(self, client_order_id: str, _server_order_id: str, _price: float, _quantity: int) -> None:
        self.sent.append(Request("R", PLACES[client_order_id]))


class ModelRisk:
    """Allows everything."""

    latches = ()

    def on_accept(self) -> None: ...

    def on_reject(self, _ts_ns: int, _text: str) -> tuple[()]:
        return ()

    def count_cancel(self, _ts_ns: int) -> None: ...

    def count_replace(self, _ts_ns: int) -> None: ...

    def check_moved(self, _order: Order, _price: float, _snapshot: Any) -> Any:
        return SimpleNamespace(allowed=True)


class ModelListener:
    """Needs to know nothing."""

    def order(self, _ts_ns: int, _order: Order, _what: str) -> None: ...

    def fill(self, _fill: Fill) -> None: ...


@dataclass
class ModelBreakers:
    """Notes contradictions; the journal never fails."""

    contradictions: list[str] = field(default_factory=list)

    def contradict(self, code: str, _text: str, _context: dict[str, Any]) -> None:
        self.contradictions.append(code)

    def write(self, write: Callable[[], object]) -> bool:
        write()
        return True

    def trip(self, _latches: Any) -> None: ...


class ModelAccounting:
    """Books a fill in the journal's row, its order and the position, as `Accounting` does."""

    def __init__(self, state: ExecutionState, journal: ModelJournal) -> None:
        self.drift = 0
        self._state = state
        self._journal = journal

    def apply_fill(self, fill: Fill, entry: WorkingOrder) -> bool:
        place, rows = PLACES[entry.client_order_id], self._journal.rows
        row = on_file.booked(place, rows[place], fill)
        if row is None:
            return False
        rows[place] = row
        self._state.orders.book(entry, fill)
        self._move(SIDES[place] * fill.quantity)
        return True

    def recorded_under(self, server_order_id: str) -> tuple[Fill, ...]:
        return self._journal.executions_of(server_order_id)

    def apply_external_fill(self, fill: Fill, _reason: str) -> None:
        self.apply_drift(fill.side * fill.quantity, 0.0)

    def apply_drift(self, drift: int, _average_price: float) -> None:
        self.drift += drift
        self._move(drift)

    def _move(self, change: int) -> None:
        ledger: Any = self._state.ledger
        ledger.position += change
        self._state.sync.on_fill(change, ledger.position)
        if not ledger.position:
            self._state.orders.mark_surplus()
