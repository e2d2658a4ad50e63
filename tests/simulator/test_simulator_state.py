"""What the simulator remembers, also after a SIGKILL."""

import asyncio
import json
import random
import signal
import sqlite3
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import pytest

from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import JournalError, StartError
from mia_daemon.records import OrderType
from mia_daemon.simulator.account import Account, Position
from mia_daemon.simulator.account_reports import FillRecord
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, ServedStatus, to_dict
from mia_daemon.simulator.run import open_server
from mia_daemon.simulator.state import StateStore

SYMBOL = "ESZ26_FUT_CME"
LAYOUT_1 = Path(__file__).with_name("layout_1.sql")
BUY, SELL, MARKET, LIMIT, STOP = 1, 2, 1, 2, 3
FINAL = {7, 8, 9}
FACTS = {"accounts": {"Sim1": {"cash": 1.0}}, "lease_ns": 5}


def order(
    client_id: str, side: int, kind: int, quantity: float, price: float = 0.0, **more
) -> dtc.SubmitNewSingleOrder:
    return dtc.SubmitNewSingleOrder(
        Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID=client_id, OrderType=kind, BuySell=side, Quantity=quantity,
        Price1=price, TimeInForce=2, **more,
    )  # fmt: skip


def bracket(parent: str, side: int, target: float, stop: float, quantity: float) -> dtc.SubmitNewOCOOrder:
    return dtc.SubmitNewOCOOrder(
        Symbol=SYMBOL, TradeAccount="Sim1", TimeInForce=2, ParentTriggerClientOrderID=parent,
        ClientOrderID_1=f"{parent}t", OrderType_1=LIMIT, BuySell_1=side, Price1_1=target, Quantity_1=quantity,
        ClientOrderID_2=f"{parent}s", OrderType_2=STOP, BuySell_2=side, Price1_2=stop, Quantity_2=quantity,
    )  # fmt: skip


async def bid_and_ask(client) -> tuple[float, float]:
    client.send(dtc.MarketDataRequest(RequestAction=3, SymbolID=1, Symbol=SYMBOL))
    snapshot = await client.of(dtc.MarketDataSnapshot)
    return snapshot.BidPrice, snapshot.AskPrice


# The store


@pytest.fixture
def store(tmp_path):
    store = StateStore(tmp_path, SYMBOL)
    yield store
    with suppress(OSError):
        store.close()


def reopened(store: StateStore, tmp_path: Path) -> StateStore:
    store.close()
    return StateStore(tmp_path, SYMBOL)


def test_nothing_is_known_at_first(store):
    assert store.load() is None


def test_orders_come_back_linked_to_each_other(store, tmp_path):
    parent, target, stop = (
        ClientOrder(i, NewOrder(name, 1, OrderType.LIMIT, 2, 100)) for i, name in enumerate(("p", "t", "s"), 1)
    )
    parent.children = (target, stop)
    target.parent = stop.parent = parent
    target.sibling, stop.sibling = stop, target
    stop.armed, target.resting, target.status = True, True, ServedStatus.OPEN
    fill = FillRecord(7, "1", "p", "1", 1, 2, 100, 2, SYMBOL, "Sim1")
    store.save(FACTS, [parent, target, stop], fills=[fill])
    again = reopened(store, tmp_path)
    saved = again.load()
    again.close()
    assert [to_dict(o) for o in saved.orders] == [to_dict(o) for o in (parent, target, stop)]
    assert [o.client_id for o in saved.orders[0].children] == ["t", "s"]
    assert saved.fills == [fill]
    assert saved.facts["lease_ns"] == 5


def test_lines_a_kill_kept_from_the_record_are_added(store, tmp_path):
    store.save(FACTS, record=[{"kind": "a"}])
    store.save(FACTS, record=[{"kind": "b"}, {"kind": "c"}])
    path = tmp_path / "orders.jsonl"
    whole = path.read_bytes()
    store.close()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        StateStore(tmp_path, SYMBOL).close()
        assert path.read_bytes() == whole
    again = StateStore(tmp_path, SYMBOL)
    again.save(FACTS, record=[{"kind": "d"}])
    again.close()
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize("last", [b"\xff\xfe\n", b"{}\n", b"[]\n", b"no JSON\n", b"\n"])
def test_a_record_that_is_none_is_refused_and_left_alone(tmp_path, last):
    content = b'{"seq": 1}\n' + last + b"torn"
    (tmp_path / "orders.jsonl").write_bytes(content)
    with pytest.raises(StartError, match=r"orders\.jsonl is damaged at its end: move it away"):
        StateStore(tmp_path, SYMBOL)
    assert (tmp_path / "orders.jsonl").read_bytes() == content


@pytest.mark.parametrize("content", [b"no line of ours", b"none\n" * 3, b"{"[:1] + b"x"])
def test_a_file_that_is_no_record_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "orders.jsonl").write_bytes(content)
    with pytest.raises(StartError, match=r"orders\.jsonl is no record of orders: move it away"):
        StateStore(tmp_path, SYMBOL)
    assert (tmp_path / "orders.jsonl").read_bytes() == content


@pytest.mark.parametrize("name", ["orders.jsonl", "simulator.db"])
def test_a_symbolic_link_is_refused_and_not_followed(tmp_path, name):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / name).symlink_to(tmp_path / "target")
    with pytest.raises(StartError, match="it is a symbolic link"):
        StateStore(tmp_path, SYMBOL)
    assert (tmp_path / "target").read_bytes() == b""


def test_a_change_is_saved_whole_or_not_at_all(store, tmp_path):
    fill = FillRecord(7, "1", "p", "1", 1, 2, 100, 2, SYMBOL, "Sim1")
    store.save(FACTS, fills=[fill])
    with pytest.raises(JournalError, match="can't be saved"):
        store.save({"lease_ns": 99}, fills=[fill], record=[{"kind": "fill"}])  # this execution is known already
    again = reopened(store, tmp_path)
    assert again.load().facts["lease_ns"] == 5
    assert (tmp_path / "orders.jsonl").read_bytes() == b""
    again.save(FACTS, record=[{"kind": "x"}])
    again.close()
    assert json.loads((tmp_path / "orders.jsonl").read_text())["seq"] == 1


def test_a_directory_in_use_is_refused(store, tmp_path):
    with pytest.raises(StartError, match="another simulator uses it"):
        StateStore(tmp_path, SYMBOL)


def test_the_state_of_another_symbol_is_refused(store, tmp_path):
    store.close()
    with pytest.raises(StartError, match=f"holds the state of {SYMBOL} .*: move it away, or name another directory"):
        StateStore(tmp_path, "NQZ26_FUT_CME")


def test_symbols_may_be_added_and_none_may_be_left_out(store, tmp_path):
    store.close()
    StateStore(tmp_path, "NQZ26_FUT_CME", SYMBOL).close()
    with pytest.raises(StartError, match=f"holds the state of NQZ26_FUT_CME, {SYMBOL} .*, not of {SYMBOL} "):
        StateStore(tmp_path, SYMBOL)


def with_layout_1(directory: Path, extra: str = "") -> None:
    """A state that a simulator of one symbol and one account left."""
    directory.mkdir(exist_ok=True)
    db = sqlite3.connect(directory / "simulator.db")
    db.executescript(LAYOUT_1.read_text() + extra)
    db.close()


def test_a_state_of_one_symbol_and_one_account_is_carried_on(make_exchange, tmp_path):
    with_layout_1(tmp_path)
    for _ in range(2):  # as it was migrated, and as it was saved then
        exchange = make_exchange()
        position = Position(1, 23_998.0, 1_793_718_005_000_000_000)
        assert exchange.accounts == {"Sim1": Account("Sim1", 99_984.5, -12.5, 3.0, {SYMBOL: position})}
        alive = {order.client_id: order for order in exchange.main.engine.alive.values()}
        assert {(o.symbol, o.account) for o in alive.values()} == {(SYMBOL, "Sim1")}
        assert list(alive) == ["target", "stop", "far"]
        assert (alive["target"].sibling, alive["stop"].armed) == (alive["stop"], True)
        fills = exchange.desk.fills
        assert [(f.client_id, f.quantity, f.symbol, f.account) for f in fills] == [
            ("in", 2, SYMBOL, "Sim1"), ("sold", 1, SYMBOL, "Sim1"),
        ]  # fmt: skip
        assert exchange.main.engine.last_price == 23_997
        assert exchange.now_ns == 1_793_718_005_000_000_000
        used = "used already"
        for name in ("in", "far", "sold"):
            assert used in exchange.handle(order(name, BUY, MARKET, 1)).news[0].InfoText
        exchange.close()


def test_a_state_that_was_begun_and_never_saved_is_carried_on(make_exchange, tmp_path):
    with_layout_1(tmp_path, "DELETE FROM orders; DELETE FROM fills; DELETE FROM record;"
                  "DELETE FROM meta WHERE key NOT IN ('layout', 'symbol');")  # fmt: skip
    assert make_exchange().accounts == {"Sim1": Account("Sim1", 100_000.0)}


def test_a_state_of_a_later_layout_is_refused(store, tmp_path):
    store.save({"layout": 3})
    store.close()
    with pytest.raises(StartError, match=r"\(layout 3\)"):
        StateStore(tmp_path, SYMBOL)


def test_a_damaged_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "simulator.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StartError, match="damaged"):
        StateStore(tmp_path, SYMBOL)
    assert (tmp_path / "simulator.db").read_bytes().startswith(b"no database")


def test_a_directory_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="can't be used"):
        StateStore(tmp_path / "file" / "state", SYMBOL)


# The whole simulator


async def test_a_restart_carries_on_with_position_orders_and_time(serving):
    async with serving(speed=20) as running:
        client = await running.connect()
        bid, ask = await bid_and_ask(client)
        client.send(
            order("in", BUY, LIMIT, 2, ask + 1, IsParentOrder=1), bracket("in", SELL, ask + 30, ask - 30, 2),
            order("far", BUY, LIMIT, 1, bid - 40), order("waits", BUY, LIMIT, 3, bid - 41, IsParentOrder=1),
            bracket("waits", SELL, ask + 30, ask - 60, 3), order("stop", SELL, STOP, 1, bid - 42),
        )  # fmt: skip
        await client.of(dtc.OrderUpdate, ClientOrderID="stop", OrderStatus=4)
        before = running.server.exchange
        known = {
            o.client_id: (o.status, o.open_quantity, o.armed, o.resting) for o in before.main.engine.alive.values()
        }
        accounts = deepcopy(before.accounts)
    async with serving(speed=20) as running:
        after = running.server.exchange
        assert after.now_ns >= before.now_ns
        assert after.now_ns - before.now_ns < 20_000_000_000
        assert abs(after.main.engine.last_price - before.main.engine.last_price) < 20
        assert after.accounts == accounts
        assert known == {
            o.client_id: (o.status, o.open_quantity, o.armed, o.resting) for o in after.main.engine.alive.values()
        }
        client = await running.connect()
        client.send(order("in", BUY, MARKET, 1))
        assert "used already" in (await client.of(dtc.OrderUpdate)).InfoText
        target = next(o for o in after.main.engine.alive.values() if o.client_id == "int")
        bid, _ = await bid_and_ask(client)
        client.send(
            dtc.CancelReplaceOrder(ServerOrderID=target.server_id, Price1=bid - 5, Price2IsSet=0, TradeAccount="Sim1")
        )
        await client.of(dtc.OrderUpdate, ClientOrderID="int", OrderStatus=7)
        await client.of(dtc.OrderUpdate, ClientOrderID="ins", OrderStatus=8)
        assert after.position() == 0
        fills = await client.batch(
            dtc.HistoricalOrderFillsRequest(RequestID=1, TradeAccount="Sim1", NumberOfDays=90),
            dtc.HistoricalOrderFillResponse,
        )
        assert len({f.UniqueExecutionID for f in fills}) == len(fills) >= 2


def test_the_date_of_a_fresh_simulation_does_not_move_one_that_goes_on(tmp_path, make_settings):
    def times(*days):
        for day in days:
            exchange = open_server(make_settings(**({"start_date": day} if day else {})), tmp_path).exchange
            exchange.close()
            yield exchange.now_ns

    early, *later = times("2026-03-10", None, "2026-11-20")
    assert later == [early, early]


async def test_nothing_is_told_that_could_not_be_saved(serving, monkeypatch):
    def refuse(*_args, **_more):
        raise JournalError("the disk is full")

    manager = serving()
    running = await manager.__aenter__()
    client = await running.connect()
    monkeypatch.setattr(running.server.exchange._store, "save", refuse)
    client.send(order("a", BUY, MARKET, 1))
    told = await client.end()
    with pytest.raises(JournalError, match="disk is full"):
        await manager.__aexit__(None, None, None)
    assert [type(m) for m in told] == [dtc.Logoff]


_CHILD = """
import json, sys
from pathlib import Path
from mia_daemon import config
from mia_daemon.simulator.run import run_simulator
settings = config.parse(json.loads(sys.argv[1]), "the test")
run_simulator(settings, port=0, state_dir=Path(sys.argv[2]), parent_watch=True)
"""


class Child:
    """A simulator in a process of its own."""

    def __init__(self, settings, state: Path) -> None:
        tables = settings.effective()
        document = {"risk": tables["risk"], "simulator": tables["simulator"]}
        self._arguments = (sys.executable, "-c", _CHILD, json.dumps(document), str(state))

    async def start(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *self._arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            return json.loads(await self.process.stdout.readline())["port"]

    async def end(self, number: int | None = None) -> int:
        """Kill it, or close its standard input."""
        if number is None:
            self.process.stdin.close()
        else:
            self.process.send_signal(number)
        async with asyncio.timeout(10):
            return await self.process.wait()


async def trade_until_dead(client, rng: random.Random, run: int, kill_after: int, child: Child) -> None:
    """Orders of all kinds as fast as they go; after some updates, without warning, SIGKILL."""
    bid, ask = await bid_and_ask(client)
    for i in range(kill_after):
        name = f"{run}-{i}"
        side = rng.choice([BUY, SELL])
        kind = rng.choice(["market", "bracket", "limit", "cancel"])
        away = 1 if side == BUY else -1
        if kind == "market":
            client.send(order(name, side, MARKET, rng.randint(1, 5)))
        elif kind == "bracket":
            client.send(order(name, side, LIMIT, 2, ask + 5 * away, IsParentOrder=1))
            client.send(bracket(name, SELL if side == BUY else BUY, ask + 60 * away, bid - 60 * away, 2))
        else:
            client.send(order(name, side, LIMIT, 1, ask - rng.randint(1, 200) * away))
        update = await client.of(dtc.OrderUpdate)
        if kind == "cancel":
            client.send(dtc.CancelOrder(ServerOrderID=update.ServerOrderID, TradeAccount="Sim1"))
    for i in range(300):  # killed somewhere in the middle of these
        client.send(order(f"{run}+{i}", BUY if i % 2 else SELL, MARKET, 1))
    for _ in range(rng.randint(10, 60)):
        await client.of(dtc.OrderUpdate, OrderStatus=7)
    await child.end(signal.SIGKILL)
    await client.end()


async def test_after_a_sigkill_everything_told_is_remembered(make_settings, serving, tmp_path):
    rng = random.Random(5)
    settings = make_settings(speed=50.0)
    told: dict[str, tuple] = {}
    accepted: dict[str, int] = {}  # last status told, by ClientOrderID
    newest = 0.0
    for run in range(3):
        child = Child(settings, tmp_path)
        port = await child.start()
        client = await _client(serving, port)
        fills, recorded, position, open_now, ended = await _account_at_rest(client, tmp_path)
        assert told.items() <= fills.items(), "a fill was told and forgotten"
        assert recorded == fills
        assert position == sum(quantity if side == BUY else -quantity for side, quantity, _ in fills.values())
        for name, status in accepted.items():
            assert status in FINAL or name in open_now | ended, f"order {name} was told and forgotten"
            assert not (status in FINAL and name in open_now), f"order {name} rose from the dead"
        snapshot_from = len(client.seen)
        await trade_until_dead(client, rng, run, rng.randint(5, 60), child)
        for m in client.seen[snapshot_from:]:
            if isinstance(m, dtc.OrderUpdate):
                accepted[m.ClientOrderID] = m.OrderStatus
                assert m.LatestTransactionDateTime >= newest - 1e-6, "exchange time ran backwards"
                newest = max(newest, m.LatestTransactionDateTime)
                if m.LastFillExecutionID:
                    told[m.LastFillExecutionID] = (m.BuySell, m.LastFillQuantity, m.LastFillPrice)
        await client.close()
    assert len(told) > 60
    child = Child(settings, tmp_path)
    client = await _client(serving, await child.start())
    assert told.items() <= (await _fills(client)).items()
    assert await child.end() == 0, "a simulator has to end with its parent"
    assert "shutting down" in (await client.end())[-1].Reason
    await client.close()


async def _account_at_rest(client, state: Path) -> tuple:
    """(fills, fills by the record, position, open orders, ended orders) of one moment: the market goes on meanwhile."""
    while True:
        fills = await _fills(client)
        lines = [json.loads(line) for line in (state / "orders.jsonl").read_text().splitlines()]
        orders = await client.batch(dtc.OpenOrdersRequest(RequestID=2), dtc.OrderUpdate, "TotalNumMessages")
        position = (await client.batch(dtc.CurrentPositionsRequest(RequestID=3), dtc.PositionUpdate))[0].Quantity
        if await _fills(client) == fills:
            break
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    recorded = {
        line["ExecutionID"]: (BUY if line["side"] > 0 else SELL, line["quantity"], line["price"])
        for line in lines
        if line["kind"] == "fill"
    }
    ended = {line["ClientOrderID"] for line in lines if line["kind"] in {"fill", "cancel"}}
    return fills, recorded, position, {m.ClientOrderID for m in orders if not m.NoOrders}, ended


async def _client(serving, port: int):
    client = serving.client_class(*await asyncio.open_connection("127.0.0.1", port))
    await client.logon()
    return client


async def _fills(client) -> dict[str, tuple]:
    request = dtc.HistoricalOrderFillsRequest(RequestID=1, TradeAccount="Sim1", NumberOfDays=90)
    answers = await client.batch(request, dtc.HistoricalOrderFillResponse)
    return {m.UniqueExecutionID: (m.BuySell, m.Quantity, m.Price) for m in answers if not m.NoOrderFills}
