"""The outlet: all events, in order, whatever the consumer does; and the source is held back before memory is."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.feed.base import EventBatch
from mia_daemon.feed.outlet import JOIN_EVENTS, Outlet
from mia_daemon.records import empty_events


def batch(first, size, ingress_ns=0):
    events = empty_events(size)
    events["ts_ns"] = np.arange(first, first + size)
    return EventBatch(events, ingress_ns)


def stamps(batches):
    return np.concatenate([item.events["ts_ns"] for item in batches]).tolist() if batches else []


def ignore():
    pass


async def test_a_queue_with_room_gets_batches_at_once():
    queue = asyncio.Queue(2)
    outlet = Outlet(queue, 100, ignore, ignore)
    first = batch(0, 3)
    outlet.offer(first)
    assert queue.get_nowait() is first
    assert outlet.lag.backlog_events == 0


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=30), st.integers(1, 3))
def test_nothing_is_lost_or_reordered(steps, room):
    async def scenario():
        queue, got, offered = asyncio.Queue(room), [], 0
        outlet = Outlet(queue, 10**9, ignore, ignore)
        mover = asyncio.create_task(outlet.run())
        for size, takes in steps:
            outlet.offer(batch(offered, size))
            offered += size
            for _ in range(takes):
                await asyncio.sleep(0)
                if not queue.empty():
                    got.append(queue.get_nowait())
        drained = asyncio.create_task(outlet.drained())
        while not (drained.done() and queue.empty()):
            await asyncio.sleep(0)
            while not queue.empty():
                got.append(queue.get_nowait())
        mover.cancel()
        assert stamps(got) == list(range(offered))
        assert outlet.lag.backlog_events == 0

    asyncio.run(scenario())


async def test_what_waits_leaves_joined_and_born_when_its_oldest_was():
    queue = asyncio.Queue(1)
    outlet = Outlet(queue, 10**9, ignore, ignore)
    mover = asyncio.create_task(outlet.run())
    for n in range(5):
        outlet.offer(batch(10 * n, 10, ingress_ns=n))
    assert outlet.lag == type(outlet.lag)(backlog_events=40, most_events=40, joined_batches=0)
    queue.get_nowait()
    async with asyncio.timeout(5):
        joined = await queue.get()
    assert len(joined.events) == 40
    assert joined.ingress_ns == 1
    assert outlet.lag.joined_batches == 4
    mover.cancel()


async def test_joined_batches_are_bounded():
    queue = asyncio.Queue(1)
    outlet = Outlet(queue, 10**9, ignore, ignore)
    mover = asyncio.create_task(outlet.run())
    size = JOIN_EVENTS // 2 - 1
    for n in range(6):
        outlet.offer(batch(n * size, size))
    got = []
    async with asyncio.timeout(5):
        while len(stamps(got)) < 6 * size:
            got.append(await queue.get())
    assert [len(item.events) for item in got] == [size, 2 * size, 2 * size, size]
    mover.cancel()


async def test_the_source_is_held_back_and_let_go_again():
    calls = []
    queue = asyncio.Queue(1)
    outlet = Outlet(queue, 20, lambda: calls.append("pause"), lambda: calls.append("resume"))
    mover = asyncio.create_task(outlet.run())
    for n in range(4):
        outlet.offer(batch(10 * n, 10))
    assert calls == ["pause"]
    outlet.offer(batch(40, 10))
    assert calls == ["pause", "pause"]
    async with asyncio.timeout(5):
        got = [await queue.get(), await queue.get()]
        await outlet.drained()
    assert calls == ["pause", "pause", "resume"]
    assert stamps(got) == list(range(50))
    mover.cancel()
