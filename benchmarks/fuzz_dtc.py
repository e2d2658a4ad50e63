"""Mutated DTC frames in all encodings, through all that reads them: nothing but a ProtocolError may come of it.

    python -m benchmarks.fuzz_dtc [--frames 10000000] [--seed 1]

Each round takes some encoding, joins messages with any values, damages nearly every frame (bytes, sizes, types, cuts,
insertions; in JSON also values of the wrong kind), splits the stream anywhere and has it read by a client's session or
frame by frame. What is decoded must encode, and decode to itself. A round that fails says how to repeat it.
"""

import argparse
import json
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any, cast

import numpy as np
import psutil

from benchmarks import machine
from mia_daemon.dtc.encodings import CODECS, Codec
from mia_daemon.dtc.layout import MESSAGES, Field, Message, Text
from mia_daemon.dtc.market_columns import READINGS
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.messages import LogonRequest, LogonResponse
from mia_daemon.dtc.session import DtcSession, Ended
from mia_daemon.dtc.stream import MAX_JSON_BYTES
from mia_daemon.dtc.transcript import from_line, to_line
from mia_daemon.errors import ProtocolError, UsageError

VARIANTS = 12  # of each message, in each encoding
MOST_FRAMES = 160  # per round; more than the few that are read one by one
GROWTH_BYTES = 24 << 20  # of memory, from the first tenth to the end, that is still called flat
_MARKET = sorted(reading.message.TYPE for reading in READINGS)
_ODD_VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**64,
    1e999,
    -1e308,
    0.5,
    "",
    "7",
    "x" * 300,
    "\0",
    "\ud800",
    [],
    {},
    [[1]],
]


def value(field: Field, rng: random.Random) -> object:
    """Any value of a field, with the ends of its range more often than chance has it."""
    if isinstance(field.wire, Text):
        length = rng.randrange(field.wire.length)
        return "".join(rng.choices("AZaz09_-. \x01", k=length))
    if field.code in "fd":
        return rng.choice([6000.25, 3.0, 1.75e9, 0.0, rng.uniform(-1e9, 1e9), 3.4028234663852886e38])
    bits, unsigned = 8 * field.size, field.code.isupper()
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return rng.choice([0, 1, 2, low, high, rng.randint(low, high)])


def corpus(codec: Codec, types: Iterable[int], rng: random.Random) -> list[bytes]:
    """Messages of these types, undamaged but for odd values in JSON."""
    made = []
    for type_ in types:
        cls = MESSAGES[type_]
        lies = {f.name: f for f in (*cls.LAYOUT.fields, *cls.VLS_LAYOUT.fields)}
        for _ in range(VARIANTS):
            said = {f.name: value(lies[f.name], rng) for f in fields(cast("Any", cls)) if rng.random() < 0.9}
            if "SymbolID" in said and rng.random() < 0.8:
                said["SymbolID"] = 1
            try:
                raw = codec.encode(cls(**said))
            except UsageError:  # the two binary encodings differ in a few types
                continue
            made.append(raw if codec.structures or rng.random() < 0.5 else oddly(raw, rng))
    return made


def oddly(raw: bytes, rng: random.Random) -> bytes:
    """The JSON message with a value of another kind, a member missing or one too many."""
    record = json.loads(raw[:-1])
    place = record.get("F", record)
    for _ in range(rng.randrange(1, 4)):
        keys = list(place) if isinstance(place, dict) else range(len(place))
        if not len(keys):
            break
        place[rng.choice(keys)] = rng.choice(_ODD_VALUES)
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode(errors="replace") + b"\0"


def stream(frames: list[bytes], rng: random.Random, numbers: np.random.Generator) -> bytes:
    """Frames of a corpus, joined and damaged."""
    chosen = rng.choices(frames, k=rng.choice([1, 8, 64, MOST_FRAMES, MOST_FRAMES]))
    if rng.random() < 0.2:
        chosen = chosen[:1] * len(chosen)
    lengths = np.array([len(frame) for frame in chosen])
    raw = np.frombuffer(bytearray(b"".join(chosen)), np.uint8)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    spared = rng.choice([1.0, 1.0, 0.98, 0.8])  # share of headers: a false size makes noise of all that follows
    for _ in range(rng.randrange(1, 4)):
        inside = (numbers.random(len(chosen)) * lengths).astype(int)
        inside = np.where((inside < 4) & (numbers.random(len(chosen)) < spared), lengths - 1 - inside % lengths, inside)
        raw[starts + inside] = numbers.integers(0, 256, len(chosen), np.uint8)
    damaged = bytearray(raw.tobytes())
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        at = rng.randrange(len(damaged) + 1)
        match rng.randrange(4):
            case 0:
                del damaged[at : at + rng.randrange(1, 40)]
            case 1:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 2:
                damaged[at:at] = damaged[max(at - 50, 0) : at]
            case _:
                damaged[at : at + 4] = struct.pack("<HH", rng.randrange(70), rng.choice(_MARKET))
    return bytes(damaged)


def pieces(raw: bytes, rng: random.Random) -> Iterator[bytes]:
    cuts = sorted(rng.choices(range(len(raw) + 1), k=rng.randrange(4)))
    for start, end in pairwise([0, *cuts, len(raw)]):
        yield raw[start:end]


def by_session(codec: Codec, raw: bytes, rng: random.Random, seen: Counter[str]) -> int:
    """Read as a client's connection reads it; the number of frames that something came of."""
    decoder = MarketDataDecoder({1: 0, 2: 1})
    session = DtcSession(LogonRequest(HeartbeatIntervalInSeconds=10), decoder, 10**10, codec=codec, preset=True)
    session.start(0)
    session.receive(codec.encode(LogonResponse()), 0, 1)
    handled = 0
    for piece in pieces(raw, rng):
        events = session.receive(piece, 0, 1)
        for event in events:
            if isinstance(event, np.ndarray):
                seen["rows"] += len(event)
                assert (event["ts_ns"] > 0).all()
                assert np.isfinite(event["size"]).all()
            handled += len(event) if isinstance(event, np.ndarray) else 1
        if events and isinstance(events[-1], Ended):
            seen["streams ended with a reason"] += 1
            assert not session.receive(raw, 0, 1), "events came after the end"
            break
    return handled + decoder.unknown_types + decoder.unknown_symbols + decoder.malformed


def frame_by_frame(codec: Codec, raw: bytes, rng: random.Random, seen: Counter[str]) -> int:
    """Read every frame, whatever came of those before; what is decoded has to survive being encoded."""
    reader, count = codec.reader(), 0
    for piece in pieces(raw, rng):
        if reader.error is not None:
            break
        frames = reader.feed(piece)
        assert reader.buffered <= MAX_JSON_BYTES
        count += len(frames)
        for start, end in pairwise(frames.offsets):
            try:
                message = codec.decode(frames.data[start:end])
            except ProtocolError:
                seen["frames refused"] += 1
                continue
            if message is None:
                seen["unknown types"] += 1
                continue
            seen["messages"] += 1
            if rng.random() < 0.1:
                survives(codec, message, seen)
    return count


def survives(codec: Codec, message: Message, seen: Counter[str]) -> None:
    try:
        raw = codec.encode(message)
    except UsageError:  # bytes that are no text may be longer as text; JSON has no infinity
        seen["not encodable"] += 1
        return
    again = codec.decode(raw)
    assert again is not None
    assert codec.encode(again) == raw, f"{message} changes on its way"
    try:
        said = from_line(to_line(message, codec).encode(errors="replace"))
        assert type(said) is type(message)
    except ProtocolError as error:
        raise AssertionError(f"{message} can't be read from its line: {error}") from error


def fuzz(wanted: int, seed: int, *, quiet: bool) -> None:
    process = psutil.Process()
    seen: Counter[str] = Counter()
    made = {
        codec: [corpus(codec, types, random.Random(seed)) for types in (MESSAGES, _MARKET)] for codec in CODECS.values()
    }
    counts = dict.fromkeys(made, 0)
    begun, number, settled, next_word = time.perf_counter(), 0, 0, wanted // 10
    while (done := sum(counts.values())) < wanted:
        codec = min(counts, key=counts.__getitem__)
        rng = random.Random(f"{seed}/{number}")
        raw = stream(rng.choice(made[codec]), rng, np.random.default_rng([seed, number]))
        read = rng.choice([by_session, frame_by_frame])
        try:
            counts[codec] += max(read(codec, raw, rng, seen), 1)
        except Exception:
            print(
                f"round {number} of seed {seed} failed: {codec.name}, {read.__name__}, {raw[:200]!r} …", file=sys.stderr
            )
            raise
        number += 1
        if done >= next_word:
            next_word += wanted // 10
            settled = settled or process.memory_info().rss
            if not quiet:
                print(f"{done:>12,} frames, {process.memory_info().rss >> 20} MiB", flush=True)
    spent, resident = time.perf_counter() - begun, process.memory_info().rss
    print(f"{sum(counts.values()):,} mutated frames in {number:,} streams, {spent:.0f} s; no exception escaped")
    print(", ".join(f"{codec.name} {count:,}" for codec, count in counts.items()))
    print(", ".join(f"{name} {count:,}" for name, count in sorted(seen.items())))
    print(f"memory {settled >> 20} MiB after a tenth, {resident >> 20} MiB at the end")
    assert resident < settled + GROWTH_BYTES, "memory grows"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="only the result")
    options = parser.parse_args()
    if not options.quiet:
        print(machine.line())
    fuzz(options.frames, options.seed, quiet=options.quiet)


if __name__ == "__main__":
    main()
