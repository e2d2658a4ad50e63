"""What is removed follows from sizes and ages; how long the disk lasts, from its growth."""

import math
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_DAY
from mia_daemon.retention.plan import Limit, Stored, Usage, disk_days_left, removals

NOW_NS = 20_000 * NS_PER_DAY
GB = 10**9

STORED = st.lists(
    st.builds(
        Stored,
        path=st.integers(0, 10**9).map(lambda n: Path(f"f{n}")),
        bytes=st.integers(0, 3 * GB),
        modified_ns=st.integers(NOW_NS - 100 * NS_PER_DAY, NOW_NS + NS_PER_DAY),
        in_use=st.booleans(),
    ),
    max_size=30,
    unique_by=lambda stored: stored.path,
)
LIMITS = st.builds(
    Limit, days=st.none() | st.integers(1, 120), gigabytes=st.none() | st.floats(0.01, 40, allow_nan=False)
)


def plan(stored, limit):
    removed = [removal.stored for removal in removals(stored, limit, NOW_NS)]
    return removed, [each for each in stored if each not in removed]


@settings(max_examples=40, deadline=None)
@given(stored=STORED, limit=LIMITS)
def test_afterwards_the_rest_fits_or_is_in_use(stored, limit):
    removed, rest = plan(stored, limit)
    assert not any(each.in_use for each in removed)
    free_to_go = [each for each in rest if not each.in_use]
    if limit.days is not None:
        assert all(NOW_NS - each.modified_ns <= limit.days * NS_PER_DAY for each in free_to_go)
    assert not free_to_go or sum(each.bytes for each in rest) <= limit.bytes


@settings(max_examples=40, deadline=None)
@given(stored=STORED, limit=LIMITS)
def test_nothing_is_removed_before_what_is_older_and_nothing_without_need(stored, limit):
    removed, rest = plan(stored, limit)
    assert all(gone.modified_ns <= kept.modified_ns for gone in removed for kept in rest if not kept.in_use)
    if removed and limit.gigabytes is not None:
        newest = removed[-1]
        too_old = limit.days is not None and NOW_NS - newest.modified_ns > limit.days * NS_PER_DAY
        assert too_old or sum(each.bytes for each in [*rest, newest]) > limit.bytes


@settings(max_examples=40, deadline=None)
@given(stored=STORED)
def test_without_limits_everything_is_kept(stored):
    assert removals(stored, Limit(), NOW_NS) == []


def test_a_removal_says_why():
    stored = [
        Stored(Path("old"), GB, NOW_NS - 91 * NS_PER_DAY),
        Stored(Path("a"), GB, NOW_NS - 2),
        Stored(Path("b"), GB, 0),
    ]
    stored[2] = Stored(Path("b"), GB, NOW_NS - 1)
    found = removals(stored, Limit(days=90, gigabytes=1.5), NOW_NS)
    assert [(str(removal.stored.path), removal.why) for removal in found] == [
        ("old", "older than 90 days"),
        ("a", "more than 1.5 GB are kept"),
    ]


def usages(days, **per_day):
    return [
        Usage(NOW_NS + day * NS_PER_DAY, {name: 10 * GB + rate * day for name, rate in per_day.items()})
        for day in range(days + 1)
    ]


def test_days_left_are_free_space_over_growth():
    assert disk_days_left(usages(2, journal=GB, logs=3 * GB), 40 * GB, {}) == pytest.approx(10)


def test_growth_ends_where_pruning_by_size_begins():
    grows = usages(2, recordings=4 * GB, journal=GB)  # now 18 and 12 GB
    assert disk_days_left(grows, 40 * GB, {"recordings": 26 * GB}) == pytest.approx(2 + (40 - 2 * 5) / 1)
    assert disk_days_left(usages(2, recordings=4 * GB), 10 * GB, {"recordings": 26 * GB}) == math.inf
    assert disk_days_left(usages(2, recordings=4 * GB), 7 * GB, {"recordings": 26 * GB}) == pytest.approx(7 / 4)
    assert disk_days_left(usages(2, recordings=4 * GB), 7 * GB, {"recordings": 9 * GB}) == math.inf


def test_what_must_stay_free_counts_as_used():
    assert disk_days_left(usages(1, journal=GB), 5 * GB, {}, wanted_free_bytes=2 * GB) == pytest.approx(3)
    assert disk_days_left(usages(1, journal=GB), GB, {}, wanted_free_bytes=2 * GB) == 0


def test_a_short_past_says_nothing_and_a_shrinking_one_never_fills():
    assert disk_days_left([], GB, {}) is None
    assert disk_days_left(usages(0, journal=GB), GB, {}) is None
    soon = [Usage(NOW_NS, {"logs": 0}), Usage(NOW_NS + NS_PER_DAY // 4 - 1, {"logs": GB})]
    assert disk_days_left(soon, GB, {}) is None
    assert disk_days_left(usages(2, journal=-GB), GB, {}) == math.inf


@settings(max_examples=40, deadline=None)
@given(
    rates=st.dictionaries(st.sampled_from("abc"), st.integers(-GB, 3 * GB), min_size=1),
    most=st.dictionaries(st.sampled_from("abc"), st.floats(0, 60 * GB)),
    free=st.integers(0, 100 * GB),
)
def test_the_disk_is_full_after_that_time_and_not_before(rates, most, free):
    past = usages(2, **rates)
    days = disk_days_left(past, free, most)
    assert days is not None
    assume(days < 10_000)

    def grown(after):
        return sum(
            max(min(rate * after, most.get(area, math.inf) - past[-1].bytes[area]), 0)
            for area, rate in rates.items()
            if rate > 0
        )

    assert grown(days) == pytest.approx(free, rel=1e-6, abs=10)
    assert grown(days * 0.99) <= free
