"""A stage between its queues: order, end of data, back-pressure, death, counters."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.errors import ProtocolError, StageDied
from mia_daemon.latency import LatencyBuckets
from mia_daemon.stage import END, Stage


async def twice(item):
    return item, -item


async def test_results_leave_in_order_and_the_end_is_passed_on():
    inbox, outbox = asyncio.Queue(), asyncio.Queue()
    stage = Stage("double", twice, inbox, outbox, WallClock())
    for item in (1, 2, END):
        inbox.put_nowait(item)
    await stage.run()
    assert [outbox.get_nowait() for _ in range(5)] == [1, -1, 2, -2, END]
    assert (stage.counters.items_in, stage.counters.items_out) == (2, 4)


async def test_a_full_outbox_holds_the_stage_back():
    inbox, outbox = asyncio.Queue(), asyncio.Queue(maxsize=1)
    stage = Stage("double", twice, inbox, outbox, WallClock())
    for item in (1, 2, END):
        inbox.put_nowait(item)
    task = asyncio.create_task(stage.run())
    seen = []
    while (item := await outbox.get()) is not END:
        assert outbox.qsize() <= 1
        seen.append(item)
    await task
    assert seen == [1, -1, 2, -2]


@pytest.mark.parametrize("error", [ProtocolError("the peer lied"), ZeroDivisionError("division by zero")])
async def test_a_stage_that_dies_takes_its_group_down_and_says_why(error):
    async def broken(_item):
        raise error

    inbox = asyncio.Queue()
    inbox.put_nowait(1)
    stage = Stage("features", broken, inbox, None, WallClock())

    async def together():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.run())
            tasks.create_task(asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as group:
        await together()
    (died,) = group.value.exceptions
    assert isinstance(died, StageDied)
    assert "features" in str(died)
    assert str(error) in str(died)
    assert stage.counters.failures == 1


async def test_a_sample_reports_latency_since_the_last_one():
    inbox = asyncio.Queue()
    stage = Stage("double", twice, inbox, None, WallClock())
    for item in (1, 2, END):
        inbox.put_nowait(item)
    await stage.run()
    first, second = stage.counters.sample(), stage.counters.sample()
    assert (first.operations, second.operations) == (2, 0)
    assert 0 < first.latency_p50_s <= first.latency_p99_s <= first.latency_max_s
    assert second.items_in == 2
    assert second.latency_mean_s == 0


@given(st.lists(st.integers(1, 10**10), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_within_a_factor_of_root_two(durations, q):
    buckets = LatencyBuckets()
    for duration in durations:
        buckets.add(duration)
    exact = sorted(durations)[math.ceil(q * len(durations)) - 1]
    assert exact / 1.42 <= buckets.quantile_s(q) * 1e9 <= exact * 1.42
    assert buckets.count == len(durations)
    assert buckets.max_s == max(durations) / 1e9
