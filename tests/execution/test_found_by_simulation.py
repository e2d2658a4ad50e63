"""What `make simulate` found and no other test had, in its smallest form, at a server that says what it is told."""

import pytest

from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import (
    BrokerSnapshot,
    Fill,
    LinkReport,
    LinkState,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
)

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"
SECOND = 1000  # ms


class Server:
    """Takes everything and says nothing by itself."""

    has_own_clock = False
    replaces = True

    def __init__(self):
        self.orders_sent, self.sent, self.asked = 0, [], []
        self.open, self.fills, self.position = [], [], 0

    def start(self, on_event):
        self.tell = on_event

    def restore(self, *_):
        """It has its own books."""

    def on_market(self, events):
        return len(events)

    def submit_bracket(self, bracket):
        self.orders_sent += 3
        self.sent.append(("bracket", bracket.entry.client_order_id))

    def submit(self, order):
        self.orders_sent += 1
        self.sent.append(("submit", order.client_order_id))

    def flatten(self, order):
        self.orders_sent += 1
        self.sent.append(("flatten", order.client_order_id))

    def replace(self, name, *_):
        self.sent.append(("replace", name))

    def cancel(self, name, _number):
        self.sent.append(("cancel", name))

    async def request_snapshot(self, since_ns):
        self.asked.append(since_ns)
        held = [PositionReport(0, SYMBOL, ACCOUNT, self.position, 100.0, unsolicited=False)] if self.position else []
        fills = [fill for fill in self.fills if fill.ts_ns >= since_ns]
        return BrokerSnapshot(0, tuple(self.open), tuple(fills), tuple(held), None)

    # What it says.

    def update(self, ts_ns, name, status, number="", **more):
        facts = {"side": Side.BUY, "quantity": 1} | more
        return OrderReport(ts_ns, name, number, SYMBOL, ACCOUNT, OrderStatus(status), **facts)

    def fill(self, ts_ns, execution, name, side=Side.BUY, number="", quantity=1, price=100.0):
        return Fill(ts_ns, execution, name, number, SYMBOL, ACCOUNT, side, quantity, price)


@pytest.fixture
async def rig(make_rig):
    rig = make_rig(Server())
    rig.play((1, 100.0))
    assert await rig.reconcile()
    return rig


def says(rig, name, status, **more):
    rig.broker.tell(rig.broker.update(rig.ts_ns, name, status, **more))


def fills(rig, execution, name, **more):
    rig.broker.tell(rig.broker.fill(rig.ts_ns, execution, name, **more))


def enter(rig):
    """A bracket; the names of entry, stop and target."""
    assert rig.decide("buy", 1).allowed
    name = rig.broker.sent[-1][1].removesuffix("E")
    return f"{name}E", f"{name}S", f"{name}T"


def hold(rig, execution="x1"):
    """A protected position of one contract."""
    entry, stop, target = names = enter(rig)
    says(rig, entry, "working", number="1")
    fills(rig, execution, entry, number="1")
    says(rig, stop, "working", number="2", side=Side.SELL)
    says(rig, target, "working", number="3", side=Side.SELL)
    rig.broker.tell(PositionReport(rig.ts_ns, SYMBOL, ACCOUNT, 1, 100.0))
    assert rig.position == 1
    return names


def on_file(rig, query="SELECT execution_id, client_order_id FROM fills ORDER BY number"):
    return rig.journal._db.execute(query).fetchall()


async def test_a_fill_of_an_order_whose_first_answer_is_still_awaited_is_that_orders(rig):
    """Its answer was lost, the books were compared before it was late: it is not open, so it has filled."""
    entry, *_ = enter(rig)
    rig.broker.fills.append(rig.broker.fill(rig.ts_ns, "x1", "", number="77"))
    rig.broker.position = 1
    rig.play((SECOND, 100.0))  # an order just sent may be too new to be listed
    await rig.reconcile()
    assert on_file(rig) == [("x1", entry)]
    assert rig.orders.get(entry).state is OrderState.FILLED


async def test_what_filled_while_the_journal_failed_is_on_file_before_what_fills_later(rig, monkeypatch):
    """Otherwise a restart, which asks for fills since the last on file, would never hear of it."""
    _, stop, target = hold(rig)

    def fail(_fill):
        raise JournalError("disk full")

    with monkeypatch.context() as failing:
        failing.setattr(rig.journal, "record_fill", fail)
        fills(rig, "x2", target, side=Side.SELL, number="3", price=101.0)
        says(rig, stop, "canceled", number="2", side=Side.SELL)
    assert (rig.position, [name for name, _ in on_file(rig)]) == (0, ["x1"])
    rig.operator.resume("operator")
    await rig.reconcile()
    rig.play((SECOND, 100.0))
    hold(rig, "x3")
    assert [name for name, _ in on_file(rig)] == ["x1", "x2", "x3"]
    assert len(on_file(rig, "SELECT 1 FROM trades")) == len(rig.notices.trades) == 1


async def test_what_filled_while_the_journal_failed_is_on_file_within_a_second_of_its_recovery(rig, monkeypatch):
    *_, target = hold(rig)
    with monkeypatch.context() as failing:
        failing.setattr(rig.journal, "record_trade", lambda _trade: (_ for _ in ()).throw(JournalError("disk full")))
        fills(rig, "x2", target, side=Side.SELL, number="3", price=101.0)
    assert [name for name, _ in on_file(rig)] == ["x1"]
    rig.executor.checkpoint()
    assert [name for name, _ in on_file(rig)] == ["x1", "x2"]
    assert len(on_file(rig, "SELECT 1 FROM trades")) == 1
    rig.executor.checkpoint()
    assert len(on_file(rig)) == 2


async def test_a_restart_knows_the_orders_that_ended_last(rig, make_rig):
    """A cancel was confirmed, the daemon was killed, and the order had filled."""
    entry, stop, target = enter(rig)
    for name, number in ((entry, "1"), (stop, "2"), (target, "3")):
        says(rig, name, "canceled", number=number)
    server = rig.broker
    again = make_rig(server)
    server.fills.append(server.fill(rig.ts_ns, "x1", "", number="1"))
    server.position = 1
    again.play((SECOND, 100.0))
    await again.reconcile()
    assert again.position == 1
    assert on_file(again) == [("x1", entry)]
    assert again.ledger.origin.decision_id == rig.orders.get(entry).order.decision_id


async def test_a_late_fill_opens_the_trip_that_a_restart_makes_of_it(rig, make_rig):
    """All at rest, then a canceled entry fills: were its decision forgotten, the trip would be told under two names."""
    entry, stop, target = enter(rig)
    for name, number in ((entry, "1"), (stop, "2"), (target, "3")):
        says(rig, name, "canceled", number=number)
    rig.play((SECOND, 100.0))
    fills(rig, "x1", entry, number="1")
    before = rig.ledger.trade_id
    assert make_rig(Server()).ledger.trade_id == before != ""


async def test_a_stop_that_left_while_the_journal_failed_is_taken_over_by_the_next_run(rig, make_rig):
    """It was never written down and its run died: forgotten, it would open a position once its price is reached."""
    server, name = rig.broker, f"{rig.run_id}-9S"
    stop = {"side": Side.SELL, "type": OrderType.STOP, "price": 98.0, "unsolicited": False}
    stranger = server.update(rig.ts_ns, "by hand", "working", "78", **stop)
    server.open += [server.update(rig.ts_ns, name, "working", "77", **stop), stranger]
    again = make_rig(server)
    again.play((SECOND, 100.0))
    await again.reconcile()
    assert ("cancel", name) in server.sent  # nothing is held that it could protect
    assert ("cancel", "by hand") not in server.sent
    assert on_file(again, "SELECT client_order_id, role, price, status FROM intents") == [
        (name, "stop", 98.0, "working")
    ]
    codes = again.alert_codes
    assert (codes.count("order_adopted"), codes.count("external_order")) == (1, 1)


async def test_no_exit_of_ours_closes_a_position_that_the_server_does_not_have(rig):
    """It would open one. What the server says, twice, is taken over instead."""
    _, stop, target = hold(rig)
    server = rig.broker
    says(rig, stop, "canceled", number="2", side=Side.SELL)
    says(rig, target, "canceled", number="3", side=Side.SELL)
    server.tell(PositionReport(rig.ts_ns, SYMBOL, ACCOUNT, 0, 0.0))
    del server.sent[:]
    rig.operator.flatten("operator")
    rig.play(*[(SECOND, 100.0)] * 20)  # nor is the server asked to flatten, when no exit helps
    assert server.sent == []
    await rig.reconcile()
    await rig.reconcile()
    assert rig.position == 0
    assert server.sent == []


async def test_what_stays_unsure_is_flattened_by_the_server_in_the_end(rig):
    """It goes by its own position."""
    _, stop, target = hold(rig)
    says(rig, stop, "canceled", number="2", side=Side.SELL)
    says(rig, target, "canceled", number="3", side=Side.SELL)
    for state in (LinkState.DOWN, LinkState.UP):  # the server has not said since what it holds
        rig.broker.tell(LinkReport(rig.ts_ns, state, ""))
    del rig.broker.sent[:]
    rig.operator.flatten("operator")
    rig.play((9 * SECOND, 100.0))
    assert rig.broker.sent == []
    rig.play((2 * SECOND, 100.0))
    assert [what for what, _ in rig.broker.sent] == ["flatten"]


async def test_a_refused_cancel_is_sent_again_after_pauses_that_grow(rig):
    """Or refusal and cancel would follow each other as fast as the line allows, and the books never be compared."""
    entry, *_ = enter(rig)
    says(rig, entry, "working", number="1")
    rig.operator.cancel_all()
    for cancels, pause in ((1, 1000), (2, 2000), (3, 4000)):
        says(rig, entry, "cancel_rejected", number="1", text="too busy")
        assert rig.executor.reconcile_due
        rig.operator.cancel_all()  # however often it is wanted
        rig.play((pause - 10, 100.0))
        assert rig.broker.sent.count(("cancel", entry)) == cancels
        rig.play((10, 100.0))
        assert rig.broker.sent.count(("cancel", entry)) == cancels + 1
    says(rig, entry, "canceled", number="1")
    rig.play(*[(SECOND, 100.0)] * 30)
    assert rig.broker.sent.count(("cancel", entry)) == 4


async def test_fills_are_asked_for_as_early_until_all_is_explained(rig):
    """A later fill must not hide the one that explains a difference."""
    hold(rig)
    rig.play((9 * SECOND, 100.0))
    rig.broker.position = 3
    rig.broker.tell(LinkReport(rig.ts_ns, LinkState.UP, "back"))
    assert not await rig.reconcile()
    first = rig.broker.asked[-1]
    fills(rig, "x9", "", side=Side.BUY, number="99")  # somebody else's
    rig.state.last_fill_ns = rig.ts_ns
    assert not await rig.reconcile()
    assert rig.broker.asked[-1] <= first


async def test_a_position_whose_flatten_the_server_refused_gets_a_stop_until_it_is_asked_for_again(rig):
    """Both exits are gone, cancelled by hand: until it is flat the position would have no stop."""
    _, stop, target = hold(rig)
    rig.operator.flatten("operator")
    rig.play((11 * SECOND, 100.0))
    del rig.broker.sent[:]
    for name, number in ((stop, "2"), (target, "3")):
        says(rig, name, "canceled", number=number, side=Side.SELL)
    ((what, name),) = rig.broker.sent
    assert what == "flatten"
    rig.play((900, 100.0))
    assert len(rig.broker.sent) == 1  # its answer is awaited
    says(rig, name, "rejected", side=Side.SELL)
    rig.play((500, 100.0), (500, 100.0), (100, 100.0))
    (what, again) = rig.broker.sent[-1]
    assert (what, again[-1]) == ("submit", "S")
    says(rig, again, "working", number="4", side=Side.SELL)
    rig.play(*[(SECOND, 100.0)] * 7)
    assert len(rig.broker.sent) == 2
    rig.play((SECOND, 100.0))  # ten since the first
    assert rig.broker.sent[-1] == ("cancel", again)
    says(rig, again, "canceled", number="4", side=Side.SELL)
    assert [what for what, _ in rig.broker.sent] == ["flatten", "submit", "cancel", "flatten"]


async def test_a_fill_told_by_the_servers_number_alone_is_on_file_under_our_name(rig):
    entry, _, _ = enter(rig)
    says(rig, entry, "working", number="1")
    fills(rig, "x1", "", number="1")
    assert (rig.position, on_file(rig)) == (1, [("x1", entry)])
