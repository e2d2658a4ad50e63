import random
import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.binary import decode_frames, encode
from mia_daemon.dtc.messages import GeneralLogMessage, Heartbeat, LogonRequest, MarketDataUpdateTrade, OrderUpdate
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import ProtocolError

MESSAGES = [
    LogonRequest(ClientName="mia"),
    Heartbeat(),
    *[MarketDataUpdateTrade(SymbolID=1, Price=100.0 + i) for i in range(40)],
    OrderUpdate(ClientOrderID="a"),
    Heartbeat(NumDroppedMessages=1),
]
STREAM = b"".join(map(encode, MESSAGES))


def cut(frames):
    return [frames.data[a:b] for a, b in pairwise(frames.offsets)]


@pytest.mark.parametrize("at", range(0, len(STREAM) + 1, 7))
def test_messages_survive_every_split_in_two(at):
    reader = FrameReader()
    found = [*decode_frames(reader.feed(STREAM[:at])), *decode_frames(reader.feed(STREAM[at:]))]
    assert found == MESSAGES
    assert reader.buffered == 0


def test_messages_survive_byte_by_byte():
    reader = FrameReader()
    found = []
    for i in range(len(STREAM)):
        found += decode_frames(reader.feed(STREAM[i : i + 1]))
    assert found == MESSAGES
    assert (reader.frames_read, reader.bytes_read) == (len(MESSAGES), len(STREAM))


@given(st.lists(st.integers(1, 200), max_size=60))
def test_messages_survive_any_split(lengths):
    reader, found, position = FrameReader(), [], 0
    for length in [*lengths, len(STREAM)]:
        found += decode_frames(reader.feed(STREAM[position : position + length]))
        position += length
    assert found == MESSAGES


@given(st.lists(st.tuples(st.integers(4, 60), st.integers(1, 40)), max_size=12), st.integers(0, 30))
def test_runs_of_equal_messages_are_cut_like_any_others(runs, missing):
    frames = [struct.pack("<HH", size, size % 5) + bytes(size - 4) for size, count in runs for _ in range(count)]
    stream = b"".join(frames)
    stream = stream[: len(stream) - missing] if missing else stream
    whole, used = [], 0
    for frame in frames:
        if used + len(frame) > len(stream):
            break
        whole.append(frame)
        used += len(frame)
    reader = FrameReader()
    got = reader.feed(stream)
    assert cut(got) == whole
    assert got.types().tolist() == [struct.unpack_from("<H", f, 2)[0] for f in whole]
    assert reader.buffered == len(stream) - used


@pytest.mark.parametrize("seed", range(30))
def test_long_streams_of_a_few_kinds_are_cut_like_any_others(seed):
    """Kinds come and go, and headers stand inside of messages: the search for them has to notice."""
    rng = random.Random(seed)
    kinds = [struct.pack("<HH", rng.choice([4, 9, 28, 40, 300]), rng.randrange(5)) for _ in range(rng.randrange(1, 12))]
    frames, used = [], kinds
    for _ in range(rng.choice([500, 3000])):
        if rng.random() < 0.005:
            used = rng.sample(kinds, rng.randrange(1, len(kinds) + 1))
        header = rng.choice(used)
        inside = rng.choice(kinds) * 80 if rng.random() < 0.002 * (seed % 3) else rng.randbytes(300)
        frames.append(header + inside[: struct.unpack_from("<H", header)[0] - 4])
    stream = b"".join(frames)
    missing = rng.randrange(len(frames[-1]))
    reader = FrameReader()
    got = reader.feed(stream[: len(stream) - missing])
    assert cut(got) == frames[: len(frames) - bool(missing)]
    assert reader.buffered == (len(frames[-1]) - missing if missing else 0)
    broken = FrameReader()
    assert cut(broken.feed(stream + struct.pack("<HH", 3, 1) + stream)) == frames
    assert f"byte {len(stream)} of the stream" in str(broken.error)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_an_impossible_size_ends_the_stream_after_what_came_before(size):
    reader = FrameReader()
    frames = reader.feed(encode(Heartbeat()) + struct.pack("<HH", size, 107) + b"more")
    assert list(decode_frames(frames)) == [Heartbeat()]
    assert f"byte 16 of the stream starts a message of type 107 and size {size}" in str(reader.error)
    with pytest.raises(ProtocolError):
        reader.feed(encode(Heartbeat()))


def test_a_peer_that_speaks_json_is_told_apart():
    reader = FrameReader()
    assert len(reader.feed(b'{"Type":2,"ProtocolVersion":8}\0')) == 0
    assert "JSON" in str(reader.error)


def test_the_largest_message_passes_and_nothing_larger_is_kept():
    reader = FrameReader()
    largest = struct.pack("<HH", 65535, 4000) + bytes(65531)
    for i in range(0, len(largest) - 1000, 1000):
        assert len(reader.feed(largest[i : i + 1000])) == 0
    assert len(reader.feed(largest[65000:])) == 1
    assert reader.buffered == 0


def test_memory_stays_bounded_on_garbage():
    rng = random.Random(5)
    tracemalloc.start()
    try:
        reader = FrameReader()
        for _ in range(500):
            try:
                reader.feed(rng.randbytes(4096))
            except ProtocolError:
                reader = FrameReader()
            assert reader.buffered <= 65535
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_raises_nothing_but_protocol_errors(chunks):
    reader = FrameReader()
    fed = out = 0
    for chunk in chunks:
        try:
            frames = reader.feed(chunk)
        except ProtocolError:
            assert reader.error is not None
            return
        fed += len(chunk)
        out += frames.offsets[-1]
        if reader.error is None:
            assert reader.buffered == fed - out


def test_no_message_is_lost_at_the_header_of_the_last():
    reader = FrameReader()
    raw = encode(GeneralLogMessage(MessageText="x"))
    assert len(reader.feed(raw + raw[:2])) == 1
    assert len(reader.feed(raw[2:])) == 1
