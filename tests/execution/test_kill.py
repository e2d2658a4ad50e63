"""The kill: cancels leave first, whatever else is dead, and nothing starts again by itself."""

import pytest

from mia_daemon.clock import WallClock
from mia_daemon.daemon.kill_switch import KillSwitch
from mia_daemon.errors import JournalError
from mia_daemon.records import OrderRole
from mia_daemon.risk.codes import RiskCode

SECOND = 1000  # ms


class Log:
    def __init__(self):
        self.events = []

    def __getattr__(self, _level):
        return lambda event, **_facts: self.events.append(event)


def switch_of(rig, path, *, flatten=False):
    rig.said, rig.log = [], Log()
    return KillSwitch(path, rig.account, WallClock(), rig.log, rig.said.append, flatten=flatten)


@pytest.fixture
async def resting(make_rig):
    """A rig whose entry rests below the market, and the switch of its daemon; the broker tells of each cancel."""
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 110.0), (20, 110.0))
    rig.happened = []
    cancel, write = rig.broker.cancel, rig.journal._run
    rig.broker.cancel = lambda *order: (rig.happened.append("cancel"), cancel(*order))
    rig.journal._run = lambda *words: (rig.happened.append("write"), write(*words))[1]
    return rig


def entries(rig):
    return [entry for entry in rig.orders if entry.order.role is OrderRole.ENTRY]


@pytest.fixture
def kill_file(tmp_path):
    return tmp_path / "run" / "kill"


async def test_cancels_leave_before_anything_is_written(resting, kill_file):
    text = switch_of(resting, kill_file).pull("SIGUSR2")
    assert resting.happened[0] == "cancel"
    assert "write" in resting.happened
    assert text == resting.said[0]
    assert text.startswith("killed by SIGUSR2: entries are cancelled, a position keeps its stop; ")
    assert text.endswith("until `mia-daemon resume killed`")
    resting.play((20, 110.0), (20, 110.0))
    assert entries(resting) == []


async def test_an_entry_that_the_server_has_not_numbered_yet_is_cancelled_as_soon_as_it_has(make_rig, kill_file):
    """A cancel needs the server's number. The kill is a state: what may still fill is cancelled when it can be."""
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 15}})
    rig.play((1, 100.0))
    await rig.reconcile()
    cancelled, cancel = [], rig.broker.cancel
    rig.broker.cancel = lambda *order: (cancelled.append(order), cancel(*order))
    rig.decide("buy", 1)
    switch_of(rig, kill_file).pull("uid 0")
    rig.play((10, 110.0), (10, 110.0))
    assert cancelled == []
    rig.play((20, 110.0))  # its answer has come
    (entry,) = entries(rig)
    assert cancelled == [(entry.client_order_id, entry.server_order_id)]
    rig.play((20, 110.0), (20, 110.0))
    assert entries(rig) == []


async def test_a_kill_needs_no_journal_and_is_remembered_all_the_same(make_rig, resting, kill_file):
    def dies(*_):
        resting.happened.append("dead")
        raise JournalError("the journal is dead")

    resting.journal._run = dies
    switch_of(resting, kill_file).pull("uid 0 pid 1")
    assert resting.happened[:2] == ["cancel", "dead"]
    resting.play((20, 110.0), (20, 110.0))
    assert entries(resting) == []
    assert RiskCode.KILLED in {latch.code for latch in resting.risk.latches}
    assert RiskCode.KILLED in {latch.code for latch in make_rig().risk.latches}  # after a restart


async def test_a_kill_needs_neither_features_nor_model_nor_prices(resting, kill_file):
    """No event has come for an hour of real time, and none will: what is cancelled does not wait for one."""
    resting.executor.on_window = resting.executor.on_market = None
    switch_of(resting, kill_file, flatten=True).pull("watchdog: inference stuck")
    assert resting.happened[0] == "cancel"
    assert resting.orders.with_role(OrderRole.ENTRY)[0].request.cancel_pending


@pytest.mark.parametrize(("configured", "said", "closed"), [
    (False, None, False), (True, None, True), (False, True, True), (True, False, False),
])  # fmt: skip
async def test_who_kills_says_whether_the_position_is_closed_else_the_configuration_does(
    rig, kill_file, configured, said, closed
):
    rig.decide("buy", 1)
    rig.play((10, 100.0), (10, 100.0))
    assert rig.position == 1
    switch_of(rig, kill_file, flatten=configured).pull("uid 0", flatten=said)
    rig.play((10, 100.0), (10, 100.0), (2 * SECOND, 100.0), (10, 100.0))
    if closed:
        assert (rig.position, len(rig.orders)) == (0, 0)
        assert rig.notices.trades[0].exit_reason == "kill"
    else:  # bare of its stop it would be an incident of its own
        assert rig.position == 1
        assert {entry.order.role for entry in rig.orders} == {OrderRole.STOP, OrderRole.TARGET}


async def test_a_kill_outlives_a_restart_and_a_bare_resume(make_rig, kill_file):
    rig = make_rig()
    switch_of(rig, kill_file).pull("uid 0")
    assert rig.journal._db.execute("SELECT command, by FROM commands").fetchall() == [("kill", "uid 0")]
    again = make_rig()
    again.play((1, 100.0))
    assert await again.reconcile()
    assert again.decide("buy", 1).code is RiskCode.KILLED
    assert again.operator.resume("uid 7") == ()
    assert again.decide("buy", 1).code is RiskCode.KILLED
    assert again.operator.resume("uid 7", RiskCode.KILLED) == (RiskCode.KILLED,)
    await again.reconcile()
    assert again.decide("buy", 1).allowed
    assert again.journal._db.execute("SELECT code, cleared_by FROM latches").fetchall() == [("killed", "uid 7")]


async def test_an_order_that_nobody_approved_kills(rig):
    """Something else sends orders through our connection: the wire's count is compared with ours."""
    rig.decide("buy", 1)
    rig.play((10, 100.0), (10, 100.0))
    rig.broker._orders_sent += 1
    rig.play((SECOND, 100.0))
    assert [latch.code for latch in rig.journal.latches()] == [RiskCode.ORDER_COUNT]
    assert rig.decide("buy", 2).code is RiskCode.ORDER_COUNT
    assert rig.operator.resume("uid 7") == ()


async def test_what_had_been_sent_before_the_connection_was_lost_is_cancelled_when_it_is_back(resting):
    """It was meant for another market."""
    from mia_daemon.records import LinkReport, LinkState

    for state in (LinkState.DOWN, LinkState.UP):
        resting.executor.on_broker_event(LinkReport(resting.ts_ns, state, ""))
    assert resting.happened.count("cancel") == 0  # the server's books come first
    await resting.reconcile()
    assert resting.happened.count("cancel") == 1
    resting.play((20, 110.0), (20, 110.0))
    assert entries(resting) == []
