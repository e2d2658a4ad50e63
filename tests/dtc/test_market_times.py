"""Times as they are sent, cut off, become times in order; what is really late stays late."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from mia_daemon.dtc.market_times import MessageTimes

T = 1_790_000_000 * NS_PER_S
RECEIVED = T + 7 * NS_PER_S
RESOLUTIONS = st.sampled_from([NS_PER_US, NS_PER_MS, NS_PER_S])


def one_by_one(times, stamps, resolutions):
    return [times.of(*pair, RECEIVED) for pair in zip(stamps, resolutions, strict=True)]


@given(st.lists(st.tuples(st.integers(0, NS_PER_S), RESOLUTIONS), min_size=1, max_size=60))
def test_times_that_are_cut_off_at_their_resolution_never_go_back(moments):
    true_ns = T + np.cumsum([step for step, _ in moments])
    resolutions = [resolution for _, resolution in moments]
    stamps = true_ns - true_ns % resolutions
    filled = np.array(one_by_one(MessageTimes(), stamps.tolist(), resolutions))
    assert (np.diff(filled) >= 0).all()
    assert ((stamps <= filled) & (filled <= true_ns)).all()


def test_a_message_older_than_its_resolution_allows_keeps_its_time():
    times = MessageTimes()
    newest = times.of(T + 5 * NS_PER_MS + 999_000, NS_PER_US, RECEIVED)
    assert times.of(T + 5 * NS_PER_MS, NS_PER_MS, RECEIVED) == newest
    assert times.of(T + 4 * NS_PER_MS, NS_PER_MS, RECEIVED) == T + 4 * NS_PER_MS
    assert times.of(T + 5 * NS_PER_MS + 998_000, NS_PER_US, RECEIVED) == newest - NS_PER_US
    assert times.of(T, NS_PER_S, RECEIVED) == newest
    assert times.of(T - NS_PER_S, NS_PER_S, RECEIVED) == T - NS_PER_S


def test_a_message_without_a_time_takes_the_time_before_it():
    times = MessageTimes()
    assert times.of(0, NS_PER_US, RECEIVED) == RECEIVED
    assert times.of(T, NS_PER_US, RECEIVED) == T
    assert times.of(0, NS_PER_US, RECEIVED) == T


def test_a_wrong_time_spoils_no_second_but_its_own():
    times = MessageTimes()
    times.of(T + 3600 * NS_PER_S, NS_PER_US, RECEIVED)
    newest = times.of(T + 500_000_000, NS_PER_US, RECEIVED)
    assert newest == T + 500_000_000
    assert times.of(T, NS_PER_S, RECEIVED) == newest


STAMPS = st.one_of(st.just(0), st.integers(0, 3 * NS_PER_S).map(lambda offset: T + offset), st.integers(1, 1 << 62))


@given(st.lists(st.tuples(STAMPS, RESOLUTIONS), min_size=1, max_size=40), st.integers(0, 40))
def test_many_times_at_once_are_the_same_times(messages, cut):
    stamps, resolutions = (list(column) for column in zip(*messages, strict=True))
    expected = one_by_one(MessageTimes(), stamps, resolutions)
    times, filled = MessageTimes(), np.array(stamps, np.int64)
    for part in (slice(0, cut), slice(cut, None)):
        if len(filled[part]):
            times.fill(filled[part], np.array(resolutions, np.int64)[part], RECEIVED)
    assert filled.tolist() == expected


@given(st.lists(STAMPS, min_size=1, max_size=40), RESOLUTIONS)
def test_many_times_of_one_resolution_are_the_same_times(stamps, resolution):
    filled = np.array(stamps, np.int64)
    MessageTimes().fill(filled, resolution, RECEIVED)
    assert filled.tolist() == one_by_one(MessageTimes(), stamps, [resolution] * len(stamps))
