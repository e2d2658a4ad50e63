"""The book against a plain dict."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.features.kernels import book as bk

TICK = 0.25

OPERATIONS = st.lists(
    st.tuples(st.sampled_from([1, -1]), st.integers(1000, 1060), st.sampled_from([0, 0, 1, 5, 40])), max_size=120
)


def levels(book, side):
    prices, sizes, count = (bk.B_BID_P, bk.B_BID_Q, bk.B_NB) if side > 0 else (bk.B_ASK_P, bk.B_ASK_Q, bk.B_NA)
    n = int(book[count])
    assert not book[prices + n : prices + bk.LEVELS].any()
    assert not book[sizes + n : sizes + bk.LEVELS].any()
    return list(zip(book[prices : prices + n].tolist(), book[sizes : sizes + n].tolist(), strict=True))


def expected(kept, side):
    return sorted(((tick * TICK, float(size)) for tick, size in kept[side].items()), reverse=side > 0)[: bk.LEVELS]


@settings(max_examples=200)
@given(OPERATIONS)
def test_the_ten_best_are_those_of_a_dict(operations):
    book = bk.make_state(TICK)
    kept = {1: {}, -1: {}}
    for side, tick, size in operations:
        bk.set_level(book, side, tick * TICK, float(size))
        if size:
            kept[side][tick] = size
        else:
            kept[side].pop(tick, None)
        bk.refresh(book)
        for which in (1, -1):
            assert levels(book, which) == expected(kept, which)


def test_of_levels_a_ring_apart_the_nearer_to_the_touch_stays():
    book = bk.make_state(TICK)
    far, near = 5000, 5000 + bk.RING
    for first, second in ((far, near), (near, far)):
        bk.clear(book)
        bk.set_level(book, 1, first * TICK, 3.0)
        bk.set_level(book, 1, second * TICK, 4.0)
        bk.refresh(book)
        assert levels(book, 1) == [(near * TICK, 4.0 if second == near else 3.0)]
    bk.clear(book)
    bk.set_level(book, -1, near * TICK, 3.0)
    bk.set_level(book, -1, far * TICK, 4.0)
    bk.refresh(book)
    assert levels(book, -1) == [(far * TICK, 4.0)]


def test_the_best_level_may_be_more_than_a_ring_away():
    book = bk.make_state(TICK)
    bk.set_level(book, 1, (5000 - bk.RING - 7) * TICK, 2.0)
    bk.set_level(book, 1, 5000 * TICK, 1.0)
    bk.set_level(book, 1, 5000 * TICK, 0.0)
    bk.refresh(book)
    assert levels(book, 1) == [((5000 - bk.RING - 7) * TICK, 2.0)]


def test_prices_off_the_grid_go_to_the_nearest_tick():
    book = bk.make_state(TICK)
    bk.set_level(book, 1, 100.3, 2.0)
    bk.refresh(book)
    assert levels(book, 1) == [(100.25, 2.0)]


def test_deleting_what_is_not_there_changes_nothing():
    book = bk.make_state(TICK)
    bk.set_level(book, 1, 100.0, 2.0)
    bk.set_level(book, 1, 99.0, 0.0)
    bk.set_level(book, -1, 101.0, 0.0)
    bk.refresh(book)
    assert levels(book, 1) == [(100.0, 2.0)]
    assert np.count_nonzero(book[bk.B_COUNT : bk.B_COUNT + 2]) == 1
