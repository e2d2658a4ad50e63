"""Waiting for the broker: a snapshot comes, fails or is given up, and what was begun ends or time runs out."""

import asyncio
from dataclasses import dataclass, field

import pytest
from actor_parts import make_snapshot

from mia_daemon.daemon import broker_tasks
from mia_daemon.daemon.broker_tasks import drain, keep_time, reconcile
from mia_daemon.errors import RequestTimeout
from mia_daemon.execution.reconcile_policy import SnapshotQuery

QUERY = SnapshotQuery(since_ns=17, why="the start", version=0, asked_ns=1, was_reconciled=False)
SNAPSHOT = make_snapshot()


class FakeExecutor:
    """Allows one query at a time, and notes what became of it."""

    def __init__(self, *, agree=True):
        self.asking = False
        self.ended = []
        self._agree = agree

    def begin_reconcile(self):
        if self.asking:
            return None
        self.asking = True
        return QUERY

    def reconcile_failed(self, query, error=None):
        self.asking = False
        self.ended.append((query, error))

    def on_snapshot(self, query, snapshot):
        self.asking = False
        self.ended.append((query, snapshot))
        return self._agree


class FakeServer:
    """Answers when the test says so."""

    def __init__(self):
        self.asked = []
        self.answer = asyncio.get_running_loop().create_future()

    async def request_snapshot(self, since_ns):
        self.asked.append(since_ns)
        return await self.answer


@dataclass
class FakeAccount:
    executor: FakeExecutor = field(default_factory=FakeExecutor)
    broker: FakeServer = field(default_factory=FakeServer)


async def begun(account):
    """A reconciliation that waits for its answer."""
    task = asyncio.create_task(reconcile(account))
    await asyncio.sleep(0)
    assert account.executor.asking
    return task


@pytest.mark.parametrize("agree", [True, False])
async def test_the_servers_snapshot_is_taken_over_and_it_is_said_whether_both_agree(agree):
    account = FakeAccount(FakeExecutor(agree=agree))
    account.broker.answer.set_result(SNAPSHOT)
    assert await reconcile(account) is agree
    assert (account.broker.asked, account.executor.ended) == ([QUERY.since_ns], [(QUERY, SNAPSHOT)])


async def test_without_a_complete_answer_the_executor_is_told_why():
    account, error = FakeAccount(), RequestTimeout("no answer in 5 s")
    account.broker.answer.set_exception(error)
    assert not await reconcile(account)
    assert account.executor.ended == [(QUERY, error)]


async def test_one_question_is_asked_at_a_time():
    account = FakeAccount()
    first = await begun(account)
    assert not await reconcile(account)
    assert len(account.broker.asked) == 1
    account.broker.answer.set_result(SNAPSHOT)
    assert await first


async def test_whoever_waits_no_longer_leaves_the_question_to_others():
    account = FakeAccount()
    task = await begun(account)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert account.executor.ended == [(QUERY, None)]
    assert not account.executor.asking


async def test_an_error_of_our_own_is_raised_and_leaves_the_question_to_others():
    account = FakeAccount()
    account.broker.answer.set_exception(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await reconcile(account)
    assert account.executor.ended == [(QUERY, None)]


async def test_the_executor_is_told_that_time_passes_until_nobody_needs_it(monkeypatch):
    monkeypatch.setattr(broker_tasks, "TICK_S", 0.0)
    ticks, enough = [], asyncio.Event()

    class FakeTimed:
        def on_timer(self):
            ticks.append(len(ticks))
            if len(ticks) == 3:
                enough.set()

    task = asyncio.create_task(keep_time(FakeTimed()))
    await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ticks[:3] == [0, 1, 2]


class FakeEnding:
    """An executor with something left to do, until the test says otherwise."""

    def __init__(self, *, settled=False):
        self.settled = settled
        self.on_settled = None

    def settle(self, *, settled=True):
        self.settled = settled
        self.on_settled()


async def test_what_is_settled_is_not_waited_for():
    assert await drain(FakeEnding(settled=True), 0.0)


async def test_it_is_waited_until_nothing_is_left_to_do():
    ending = FakeEnding()
    task = asyncio.create_task(drain(ending, 60.0))
    await asyncio.sleep(0)
    assert not task.done()
    ending.settle()
    assert await task


async def test_what_was_settled_for_a_moment_only_is_waited_for_again():
    """A late fill has opened the position once more."""
    ending = FakeEnding()
    task = asyncio.create_task(drain(ending, 60.0))
    await asyncio.sleep(0)
    ending.settle(settled=False)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    ending.settle()
    assert await task


async def test_the_wait_ends_when_time_runs_out():
    assert not await drain(FakeEnding(), 0.01)
