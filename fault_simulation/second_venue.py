"""The second venue: a DTC server for one future and one account that shares no code with the daemon's simulator.

Its habits are drawn from the seed. It uses of the daemon's package what encodes and decodes messages, and nothing else
that an order passes through.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

from fault_simulation.habits import QUIET_EVERY_S, Habits
from fault_simulation.history import BY_HAND
from fault_simulation.loop import Process, SimulatedLoop
from fault_simulation.network import End, Network
from fault_simulation.plan import PORT
from fault_simulation.second_account import Account, Execution, OrderChange, ServedOrder
from fault_simulation.second_exchange import Exchange
from fault_simulation.second_orders import OrderEntry
from fault_simulation.second_reports import Reports, Traded
from fault_simulation.second_session import Session
from fault_simulation.venue import OnChange, OrderAtServer, ServerState
from mia_daemon.config import Settings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderUpdateReasonEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.products.instruments import instrument

STEP_S: Final = (0.03, 0.15)
PRICE: Final = 24_000
"""The bid at the start, ticks."""

POSITION_LATE_S: Final = 1.0
_CANCELED: Final = OrderUpdateReasonEnum.ORDER_CANCELED
_ENTRY: Final = "E"  # the last letter of an entry's name, also where it is no parent order


class _Server:
    """One server process: sessions around the exchange.

    Args:
        look: called after each change.
        left: called when no client is connected any more.

    Attributes:
        flags: what the logon says of orders.
        answer_s: time that an answer to a query takes.
    """

    def __init__(
        self,
        entry: OrderEntry,
        reports: Reports,
        habits: Habits,
        loop: SimulatedLoop,
        look: Callable[[], None],
        left: Callable[[], None],
    ) -> None:
        self.flags = habits.flags
        self.answer_s = habits.answer_s
        self._entry = entry
        self._reports = reports
        self._habits = habits
        self._loop = loop
        self._look = look
        self._left = left
        self._sessions: dict[Session, None] = {}  # in the order in which they came
        self._late: deque[Message] = deque()
        self._answers: dict[type[Message], Callable[[Any], list[Message]]] = {
            dtc.OpenOrdersRequest: lambda query: reports.open_orders(query, loop.time()),
            dtc.HistoricalOrderFillsRequest: reports.fills,
            dtc.CurrentPositionsRequest: reports.positions,
            dtc.AccountBalanceRequest: lambda query: [reports.balance(query.RequestID)],
            dtc.TradeAccountsRequest: reports.accounts,
            dtc.SecurityDefinitionForSymbolRequest: reports.definition,
        }

    async def run(self, exchange: Exchange, rng: Random) -> None:
        """Serve clients, and let the market move."""
        await self._loop.create_server(self._session, "127.0.0.1", PORT)
        while True:
            await asyncio.sleep(rng.uniform(*STEP_S))
            exchange.step()
            self._look()
            for session in tuple(self._sessions):
                session.keep_alive()

    def _session(self) -> Session:
        session = Session(self, self._loop, self._gone)
        self._sessions[session] = None
        return session

    def _gone(self, session: Session) -> None:
        if self._sessions.pop(session, self) is None and not self._sessions:
            self._left()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it after a while, in this process."""

        def on() -> None:
            act()
            self._look()

        self._loop.call_later(seconds, on)

    def act(self, message: Message) -> bool:
        """Carry out an order message; False for a message of another kind."""
        if not self._entry.carry_out(message):
            return False
        self._look()
        return True

    def answer(self, message: Message) -> list[Message]:
        """The answer to a query, as things are now."""
        answer = self._answers.get(type(message))
        return answer(message) if answer is not None else []

    def report(self, change: OrderChange) -> None:
        """Send every client an update, and the account's state before or after it where it is about a fill."""
        habits, filled = self._habits, change.execution is not None
        if filled and habits.position == "before":
            self._tell_account()
        updates = [self._reports.update(change, self._loop.time())] * habits.copies
        if habits.update_s:
            self._late += updates
            self._loop.call_later(habits.update_s, self._send_late, len(updates))
        else:
            self._send(updates)
        if filled and habits.position == "after":
            self._tell_account()
        elif filled and habits.position == "late":
            self._loop.call_later(POSITION_LATE_S, self._tell_account)

    def _send_late(self, count: int) -> None:
        """Send the oldest ones: they keep their order."""
        self._send([self._late.popleft() for _ in range(count)])

    def _tell_account(self) -> None:
        self._send([self._reports.position(), self._reports.balance()])

    def _send(self, messages: Iterable[Message]) -> None:
        messages = tuple(messages)
        for session in self._sessions:
            if session.ready:
                session.send(*messages)


class SecondVenue:
    """One server after another, over the same exchange.

    Args:
        habits: of every server.
        on_change: called after each change of the account or its orders.
    """

    process: Process

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        loop: SimulatedLoop,
        network: Network,
        *,
        habits: Habits,
        on_change: OnChange,
    ) -> None:
        self.instrument = traded = instrument(settings.instrument.symbol)
        self.record = directory / "orders.jsonl"
        directory.mkdir()
        self.record.touch()
        self._settings = settings
        self._habits = habits
        self._loop = loop
        self._network = network
        self._on_change = on_change
        self._server: _Server | None = None
        self._by_hand = 0
        self._processes: list[Process] = []  # also dead ones: none may be finalised meanwhile
        self._traded = Traded(traded.symbol, settings.instrument.trade_account, traded.tick_size, habits.multiplier)
        self.exchange = Exchange(
            habits,
            Account(traded.tick_value, traded.cost_per_side),
            now_s=loop.time,
            later=self._later,
            report=self._report,
            filled=self._note_fill,
            price=PRICE,
            rng=Random(settings.simulator.seed),
        )
        self._reports = Reports(self.exchange, self._traded, traded.tick_value, Random(settings.simulator.seed))
        self._entry = OrderEntry(self.exchange, self._traded, habits, self._note)

    @property
    def earned(self) -> float:
        """Profit by the server's account, account currency, after costs."""
        return self.exchange.account.earned

    def state(self) -> ServerState:
        """The account as it is now."""
        orders = tuple(map(_at_server, self.exchange.alive))
        return ServerState(self.exchange.account.position, orders, misleads=False)

    def touch(self) -> tuple[int, float, float] | None:
        """The present quote: exchange time, bid, ask; None when there is none."""
        if not self.process.alive or self._loop.time() % QUIET_EVERY_S > QUIET_EVERY_S - self._habits.quiet_s:
            return None
        tick = self.instrument.tick_size
        return self._loop.now_ns(), self.exchange.bid * tick, self.exchange.ask * tick

    # Servers.

    def start(self, rng: Random) -> None:
        """Start a server with what the last one left."""
        first = self._server is None
        self._server = server = _Server(self._entry, self._reports, self._habits, self._loop, self._look, self._on_left)
        self.process = process = Process("server", self._loop)
        self._processes.append(process)
        process.at_death.append(lambda: self._network.leave(process))
        if not first:
            process.do(self.exchange.recover)
        process.start(server.run(self.exchange, rng))

    def crash(self) -> None:
        """Kill the server: what it was about to do is forgotten."""
        self.process.die()
        self._network.stop_listening(PORT)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        assert self._server is not None
        self._server.later(seconds, act)

    def _report(self, change: OrderChange) -> None:
        if change.reason is _CANCELED:
            self._note("cancel", ClientOrderID=change.order.name, ServerOrderID=change.order.number, text=change.text)
        assert self._server is not None
        self._server.report(change)

    def _look(self) -> None:
        self._on_change(self.state())

    # The record, in the form that `history` reads.

    def _note(self, kind: str, **facts: Any) -> None:
        line = {"ts_ns": self._loop.now_ns(), "kind": kind, **facts}
        with self.record.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _note_fill(self, execution: Execution) -> None:
        self._note(
            "fill",
            ClientOrderID=execution.order.name,
            ServerOrderID=execution.server_number,
            ExecutionID=f"X{execution.number}",
            side=execution.order.side,
            quantity=execution.quantity,
            price=execution.price * self.instrument.tick_size,
            position=self.exchange.account.position,
        )

    # External trading.

    def by_hand(self, what: str, share: float) -> bool:
        """Trade the account as an external trader: see `Venue`."""
        if not self.process.alive:
            return False
        self.process.do(lambda: self._trade_by_hand(what, share))
        return True

    def _on_left(self) -> None:
        if self._habits.closed_while_away and self.exchange.account.position:
            self._trade_by_hand("cancel", 1.0)
            self._trade_by_hand("flatten", 1.0)

    def _trade_by_hand(self, what: str, share: float) -> None:
        exchange = self.exchange
        if what in {"cancel", "withdraw"}:
            exchange.withdraw([order for order in exchange.alive if what == "cancel" or order.name.startswith(BY_HAND)])
        else:
            quantity = max(round(share * self._settings.decision.max_position), 1)
            self._by_hand += 1
            self._entry.carry_out(self._typed(f"{BY_HAND}{self._by_hand}", what, quantity))
        self._look()

    def _typed(self, name: str, what: str, quantity: int) -> Message:
        bid, ask = self.exchange.bid, self.exchange.ask
        common: dict[str, Any] = {
            "Symbol": self._traded.symbol,
            "TradeAccount": self._traded.account,
            "ClientOrderID": name,
        }
        if what == "flatten":
            return dtc.SubmitFlattenPositionOrder(**common)
        price = {"bid": bid, "offer": ask}.get(what)
        return dtc.SubmitNewSingleOrder(
            **common,
            OrderType=1 if price is None else 2,
            BuySell=1 if what in {"buy", "bid"} else 2,
            Price1=self._traded.wired(price or 0),
            Quantity=float(quantity),
        )

    # Faults: those drawn order by order end, its other habits stay.

    def behave(self) -> None:
        """End what is drawn order by order."""
        self.exchange.habits = replace(self._habits, cancel_refused=0.0, cancel_silent=0.0)

    def misbehave(self) -> None:
        """Start it again."""
        self.exchange.habits = self._habits

    @staticmethod
    def may_fail(near: End) -> bool:
        """Whether this connection is cut."""
        return near.cut

    @staticmethod
    def speaks(near: End) -> bool:
        """Whether client and server receive each other's messages on this connection."""
        return not near.cut and bool(near.peer.protocol.ready)


def _at_server(order: ServedOrder) -> OrderAtServer:
    """An order that has reached the server covers from then on, acknowledged or not, unless it waits for its parent."""
    entry = order.entry or order.name.endswith(_ENTRY)
    external = order.name.startswith(BY_HAND)
    return OrderAtServer(
        order.name,
        order.side,
        order.open_quantity,
        adds=entry,
        stops=order.is_stop and not order.waits,
        exits=order.parent is None and not (entry or order.is_stop or external),
    )
