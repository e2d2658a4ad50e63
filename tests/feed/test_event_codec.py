"""Packed events: every bit comes back, damage is found, and a market's events become small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError
from mia_daemon.feed import event_codec, sierra_files
from mia_daemon.records import MARKET_EVENT, empty_events

EXTREME_TIMES = st.sampled_from([-(2**63), -1, 0, 1, 999, 1000, 1_700_000_000_123_456_789, 2**63 - 1])
NAN_WITH_PAYLOAD = 0x7FF4_0000_0000_BEEF  # a signalling one


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=64, max_size=64 * 40), times=st.lists(EXTREME_TIMES, min_size=1))
def test_any_bits_come_back(data, times):
    events = np.frombuffer(data[: len(data) // 64 * 64], MARKET_EVENT).copy()
    assert event_codec.decode(event_codec.encode(events), len(events)).tobytes() == events.tobytes()
    events["ts_ns"] = np.resize(np.array(times, np.int64), len(events))
    events["price"] = np.resize(np.array([0.0, -0.0, np.inf, 4801.25]), len(events))
    events["bid"].view(np.int64)[:] = NAN_WITH_PAYLOAD
    assert event_codec.decode(event_codec.encode(events), len(events)).tobytes() == events.tobytes()


def test_events_of_sierra_chart_take_less_than_a_tenth(mnq_scid):
    events = sierra_files.scid_to_events(sierra_files.read_scid(mnq_scid))
    block = event_codec.encode(events)
    assert event_codec.decode(block, len(events)).tobytes() == events.tobytes()
    assert len(block) < 6 * len(events)


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_changes_nothing(at, bit):
    events = empty_events(200)
    events["ts_ns"] = np.arange(200) ** 2 * 1000
    block = bytearray(event_codec.encode(events))
    block[at % len(block)] ^= 1 << bit
    try:
        decoded = event_codec.decode(bytes(block), 200)
    except FileFormatError:
        return
    assert decoded.tobytes() == events.tobytes()  # zstd has a bit that means nothing


@pytest.mark.parametrize("count", [1, 199, 201, 100_000])
def test_another_number_of_events_than_a_block_has_is_found(count):
    block = event_codec.encode(empty_events(200))
    with pytest.raises(FileFormatError):
        event_codec.decode(block, count)
