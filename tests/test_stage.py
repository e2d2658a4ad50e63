"""A stage between its queues: order, end of data, back-pressure, death, counters."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.errors import ProtocolError, StageDied
from mia_daemon.latency import LatencyBuckets
from mia_daemon.stage import END, CallbackBudget, Stage, StageQueue


def twice(item):
    yield item
    yield -item


def double(following=None, work=twice, budget=None, maxsize=0):
    """A stage that doubles, whose callbacks are not bounded unless a budget says so."""
    return Stage("double", work, StageQueue(maxsize), WallClock(), following=following, budget=budget)


async def together(*stages):
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for stage in stages:
            tasks.create_task(stage.run())


def keep(kept):
    def work(item):
        kept.append(item)
        return ()

    return work


async def test_what_is_put_is_worked_on_at_once_and_in_order_down_to_the_last_stage():
    kept = []
    stage = double(double(work=keep(kept)))
    for item in (1, 2):
        stage.inbox.put_nowait(item)
        assert kept[-2:] == [item, -item]
    assert (stage.counters.items_in, stage.counters.items_out) == (2, 4)
    assert stage._following.counters.items_in == 4


async def test_a_result_is_made_once_nothing_waits_before_it():
    """What follows from the first is done before the second is looked at."""
    happened = []

    def noted(item):
        for result in (item, -item):
            happened.append(("made", result))
            yield result

    stage = double(double(work=lambda item: happened.append(("done", item)) or ()), work=noted)
    stage.inbox.put_nowait(1)
    assert happened == [("made", 1), ("done", 1), ("made", -1), ("done", -1)]


async def test_the_end_is_passed_on_after_the_last_result():
    kept = []
    stage = double(double(work=keep(kept)))
    for item in (1, END):
        stage.inbox.put_nowait(item)
    async with asyncio.timeout(5):
        await stage.run()
        await stage._following.run()
    assert kept == [1, -1]


async def test_what_a_callback_has_not_finished_the_task_goes_on_with():
    kept, budget = [], CallbackBudget(WallClock(), 1, None)

    def work(item):
        budget.spend(1)
        yield from twice(item)

    stage = double(double(work=keep(kept)), work=work, budget=budget)
    for item in (1, 2, 3, END):
        stage.inbox.put_nowait(item)
    assert kept == [1]  # what is made is worked off, the next has to wait
    assert stage.counters.queue_depth == 4  # the item in hand, and those that wait
    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.run())
            tasks.create_task(stage._following.run())
    assert kept == [1, -1, 2, -2, 3, -3]
    assert (stage.counters.items_in, stage.counters.queue_depth) == (3, 0)


async def test_while_something_waits_what_is_put_waits_behind_it():
    kept = []
    stage = double(work=keep(kept))
    stage.inbox.put_nowait(1)
    stage.inbox.put_nowait(2)
    assert kept == [1, 2]
    stage._wake.set()
    stage.inbox.put_nowait(3)
    assert kept == [1, 2]


async def test_a_full_inbox_holds_the_one_before_back():
    stage = double(maxsize=1)
    stage._wake.set()  # something waits: the task has not had its turn
    stage.inbox.put_nowait(1)
    with pytest.raises(asyncio.QueueFull):
        stage.inbox.put_nowait(2)
    put = asyncio.create_task(stage.inbox.put(2))
    await asyncio.sleep(0)
    assert not put.done()
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(5):
        await put
        await stage.inbox.put(END)
        await running
    assert stage.counters.items_in == 2


async def test_each_callback_gets_on_however_small_its_budget():
    kept = []
    stage = double(work=keep(kept), budget=CallbackBudget(WallClock(), 0, 0))
    for item in (1, 2, END):
        stage.inbox.put_nowait(item)
    async with asyncio.timeout(5):
        await stage.run()
    assert kept == [1, 2]


async def test_the_item_in_hand_is_put_in_order_when_a_later_stage_has_failed():
    happened = []

    def work(item):
        try:
            yield item
            yield -item
        finally:
            happened.append("closed")

    def broken(_item):
        raise ProtocolError("the peer lied")
        yield

    stage = double(double(work=broken), work=work)
    stage.inbox.put_nowait(1)
    with pytest.raises(ExceptionGroup):
        await together(stage, stage._following)
    assert happened == ["closed"]


@pytest.mark.parametrize("error", [ProtocolError("the peer lied"), ZeroDivisionError("division by zero")])
async def test_a_stage_that_dies_takes_its_group_down_and_says_why(error):
    def broken(_item):
        raise error
        yield

    stage = Stage("features", broken, StageQueue(0), WallClock(), budget=CallbackBudget(WallClock()))
    stage.inbox.put_nowait(1)  # whoever puts goes on
    stage.inbox.put_nowait(2)

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
    assert died.__cause__ is error
    assert (stage.counters.failures, stage.counters.items_in) == (1, 1)


async def test_a_stage_that_has_died_holds_those_before_it_back():
    def broken(_item):
        raise ProtocolError("the peer lied")
        yield

    stage = double(double(work=broken, maxsize=1))
    for item in range(3):
        stage.inbox.put_nowait(item)
    assert stage._following.counters.items_in == 1
    assert (stage._following.inbox.qsize(), stage._depth()) == (0, 3)


async def test_a_sample_reports_latency_since_the_last_one():
    stage = double()
    for item in (1, 2):
        stage.inbox.put_nowait(item)
    first, second = stage.counters.sample(), stage.counters.sample()
    assert (first.operations, second.operations) == (2, 0)
    assert 0 < first.latency_p50_s <= first.latency_p99_s <= first.latency_max_s
    assert second.items_in == 2
    assert second.latency_mean_s == 0


async def test_the_time_a_stage_takes_is_its_own():
    """What the stages behind it did in between is theirs."""
    clock = Stepped()
    behind = Stage("behind", lambda _item: clock.pass_ns(500), StageQueue(0), clock)

    def work(item):
        clock.pass_ns(7)
        yield item
        clock.pass_ns(2)

    stage = Stage("ahead", work, StageQueue(0), clock, following=behind)
    stage.inbox.put_nowait(1)
    assert (stage.counters.busy_ns, behind.counters.busy_ns) == (9, 500)


class Stepped(WallClock):
    """A monotonic clock on which time passes only when told to."""

    def __init__(self):
        self.ns = 1

    def monotonic_ns(self):
        return self.ns

    def pass_ns(self, ns):
        self.ns += ns
        return ()


@given(st.integers(0, 300), st.integers(0, 3_000_000))
def test_a_budget_ends_with_its_events_or_its_time(events, ns):
    clock = Stepped()
    budget = CallbackBudget(clock)
    budget.begin()
    budget.spend(events)
    clock.pass_ns(ns)
    assert budget.exhausted == (events >= 256 or ns >= 2_000_000)
    budget.begin()
    assert not budget.exhausted


@given(st.lists(st.integers(1, 10**10), min_size=1), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_within_a_factor_of_root_two(durations, q):
    buckets = LatencyBuckets()
    for duration in durations:
        buckets.add(duration)
    exact = sorted(durations)[math.ceil(q * len(durations)) - 1]
    assert exact / 1.42 <= buckets.quantile_s(q) * 1e9 <= exact * 1.42
    assert buckets.count == len(durations)
    assert buckets.max_s == max(durations) / 1e9
