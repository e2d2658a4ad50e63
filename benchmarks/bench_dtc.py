"""DTC decoding: messages per second into MARKET_EVENT rows, against a plain loop over `struct` in the same run.

Each figure is that of the fastest pass of a second's, as `timeit` has it.
"""

import random
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mia_daemon.dtc.binary import decode, encode
from mia_daemon.dtc.encodings import BINARY, CODECS, Codec
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.messages import (
    MarketDataUpdateBidAskV2,
    MarketDataUpdateTradeV2,
    MarketDepthUpdateLevelV2,
    Message,
    OrderUpdate,
    SubmitNewSingleOrder,
)
from mia_daemon.records import MARKET_EVENT

CHUNK = 64 * 1024  # what one read of a busy socket returns
SECONDS = 1.0
T = 1_790_000_000_000_000


def trades(n: int) -> list[Message]:
    return [
        MarketDataUpdateTradeV2(SymbolID=1, Price=6000 + i % 40 / 4, Volume=1.0, DateTime=T + i, AtBidOrAsk=1 + i % 2)
        for i in range(n)
    ]


def mixed(n: int) -> list[Message]:
    rng = random.Random(1)
    quote = [MarketDataUpdateBidAskV2(SymbolID=1, BidPrice=6000.0, AskPrice=6000.25, DateTime=T + i) for i in range(n)]
    depth = [
        MarketDepthUpdateLevelV2(SymbolID=1, Price=6000.0, Quantity=5.0, Side=1, UpdateType=4, DateTime=T // 1000)
        for _ in range(n)
    ]
    return [rng.choice(three) for three in zip(trades(n), quote, depth, strict=True)]


def plain_loop(data: bytes) -> int:
    """What one would write first: each message unpacked, its row put into a list, the list made an array."""
    header, trade, quote = struct.Struct("<HH"), struct.Struct("<HHI2dqBBb"), struct.Struct("<HHI4dq4x")
    depth = struct.Struct("<HHIqddHHBBB")
    rows, position, bid, ask = [], 0, float("nan"), float("nan")
    while position + 4 <= len(data):
        size, type_ = header.unpack_from(data, position)
        if position + size > len(data):
            break
        if type_ == 147:
            *_, price, volume, stamp, at, part, _ = trade.unpack_from(data, position)
            side = 1 if at == 2 else -1
            rows.append((stamp * 1000, 0, 1, side, part, 0, 1, price, bid, ask, volume, 0.0, 0.0, 0.0))
        elif type_ == 148:
            _, _, _, bid, bid_size, ask, ask_size, stamp = quote.unpack_from(data.ljust(position + 52), position)
            rows.append((stamp * 1000, 0, 2, 0, 0, 0, 0, float("nan"), bid, ask, 0.0, bid_size, ask_size, 0.0))
        elif type_ == 109:
            _, _, _, stamp, price, quantity, orders, _, at, _, _ = depth.unpack_from(data, position)
            side = 1 if at == 1 else -1
            rows.append((stamp * 1_000_000, 0, 3, side, 4, 0, orders, price, bid, ask, quantity, 0.0, 0.0, 0.0))
        position += size
    return len(np.array(rows, MARKET_EVENT))


class Ours:
    """A connection's reader and decoder."""

    def __init__(self, codec: Codec = BINARY) -> None:
        self.reader = codec.reader()
        self.decoder = MarketDataDecoder({1: 0}, codec)

    def __call__(self, data: bytes) -> int:
        read = self.decoder.decode(self.reader.feed(data), 1)
        return sum(len(rows) for rows in read if isinstance(rows, np.ndarray))


def begun_anew(codec: Codec, data: bytes) -> int:
    return Ours(codec)(data)


def encode_all(codec: Codec, messages: list[Message]) -> int:
    return sum(bool(codec.encode(message)) for message in messages)


def once(work: Callable[[Any], object], given: object) -> int:
    work(given)
    return 1


def per_second(work: Callable[[], int]) -> float:
    """What `work` says it did, per second of its fastest pass."""
    best, end = 0.0, time.perf_counter() + SECONDS
    while (started := time.perf_counter()) < end:
        best = max(best, work() / (time.perf_counter() - started))
    return best


def main() -> None:
    for name, messages in (("trades", trades(8000)), ("mixed", mixed(8000))):
        data = b"".join(map(encode, messages))[:CHUNK]
        fast, plain = per_second(partial(begun_anew, BINARY, data)), per_second(partial(plain_loop, data))
        print(f"{name:<8} {fast / 1e6:6.2f} M messages/s   plain loop {plain / 1e6:5.2f} M/s   x{fast / plain:.1f}")
    for codec in CODECS.values():
        data = b"".join(map(codec.encode, mixed(200)))
        there, back = mixed(200), per_second(partial(begun_anew, codec, data))
        out = per_second(partial(encode_all, codec, there))
        size = len(data) / 200
        print(
            f"{codec.name:<13} mixed {back / 1e3:7.0f} k/s to rows, {out / 1e3:5.0f} k/s encoded, {size:.0f} bytes each"
        )
    one = encode(trades(1)[0])
    ours = Ours()
    print(f"one trade in a packet, bytes to rows: {1e6 / per_second(lambda: ours(one)):.1f} us")
    for message in (SubmitNewSingleOrder(Symbol="ESZ26_FUT_CME", ClientOrderID="r-1E"), OrderUpdate(ClientOrderID="a")):
        raw = encode(message)
        out, back = per_second(partial(once, encode, message)), per_second(partial(once, decode, raw))
        print(f"{type(message).__name__}: encoded in {1e6 / out:.1f} us, decoded in {1e6 / back:.1f} us")


if __name__ == "__main__":
    main()
