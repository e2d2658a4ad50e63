"""What nobody waits for is done in order, soon, a little at a time, and at once where nothing else happens."""

import asyncio

import pytest

from mia_daemon.clock import WallClock
from mia_daemon.deferred import SLICE_NS, DeferredWork
from mia_daemon.errors import JournalError


class SteppedClock(WallClock):
    """A monotonic clock that moves on with each piece of work."""

    def __init__(self):
        self.ns = 0

    def monotonic_ns(self):
        return self.ns


@pytest.fixture
async def deferred():
    """Running, on a clock of its own."""
    clock = SteppedClock()
    work = DeferredWork(clock)
    work.clock = clock
    task = asyncio.create_task(work.run())
    await asyncio.sleep(0)
    work.task = task
    yield work
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until_done(work):
    turns = 0
    async with asyncio.timeout(5):
        while len(work):
            turns += 1
            await asyncio.sleep(0)
    return turns


def test_while_it_does_not_run_it_is_done_at_once():
    done = []
    DeferredWork(WallClock()).add(lambda: done.append(1))
    assert done == [1]


async def test_it_is_done_in_order_after_others_had_their_turn(deferred):
    done = []
    for n in range(5):
        deferred.add(lambda n=n: done.append(n))
    asyncio.get_running_loop().call_soon(done.append, "another callback")
    assert done == []
    await until_done(deferred)
    assert done == ["another callback", 0, 1, 2, 3, 4]


async def test_others_have_their_turn_after_each_slice(deferred):
    def long_work():
        deferred.clock.ns += SLICE_NS // 2

    for _ in range(20):
        deferred.add(long_work)
    assert await until_done(deferred) >= 10


async def test_a_flush_does_all_of_it_now(deferred):
    done = []
    deferred.add(lambda: done.append(1))
    deferred.flush()
    assert done == [1]


async def test_what_is_left_when_it_ends_is_done_and_what_comes_later_at_once(deferred):
    done = []
    deferred.add(lambda: done.append(1))
    deferred.task.cancel()
    await asyncio.gather(deferred.task, return_exceptions=True)
    assert done == [1]
    deferred.add(lambda: done.append(2))
    assert done == [1, 2]


async def test_an_error_ends_it(deferred):
    def fail():
        raise JournalError("the disk is full")

    deferred.add(fail)
    async with asyncio.timeout(5):
        with pytest.raises(JournalError, match="the disk is full"):
            await deferred.task


async def test_one_piece_that_fails_keeps_none_of_the_others_back(deferred):
    done = []

    def fail():
        raise JournalError("the disk is full")

    for work in (fail, lambda: done.append(1), fail, lambda: done.append(2)):
        deferred.add(work)
    with pytest.raises(JournalError):
        deferred.flush()
    assert (done, len(deferred)) == ([1, 2], 0)
