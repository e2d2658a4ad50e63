"""The forming bar, features 260-275: its shape, delta, volume and range against its time of day, its point of control.

Of the 1 and 5 minute bars being formed, trades up to now included; neutral (0; bar_poc_pos 0.5) until the period's
first trade.

- bar_delta: (bought - sold) / volume, by aggressor. delta_finish: (delta now - middle of the lowest and highest delta
  within the bar) / volume.
- vol_z: ln(volume / (expected volume * elapsed share of the period)); range_z: ln(range / (expected range * square root
  of that share)), with range = high - low + tick. Expected is the mean over closed bars of the same slot of the trading
  day, counted from the session's open (weights 1/n up to 20 days, then 1/20 for the newest). Until a slot has a day of
  its own: the mean over the newest closed bars of any slot, weighted the same way; 0 until there is one.
- bar_poc_pos: price with the largest volume within the bar; the first to reach it wins a tie.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.bars import BAR, CLOSE, HIGH, LOW, OPEN, TRADES, VOLUME
from mia_daemon.features.kernels.market import CAL_OPEN, M_LAST, M_SIDE, M_SIZE, M_TICK, NS, Floats, Ints, kernel

FIRST = 260
COUNT = 16

_PERIODS = np.array([60, 300])
_OUTPUTS = 8
_MEMORY = 20.0  # bars an expectation remembers
_SLOTS = 1380  # minutes of a trading day, enough for either period
_BINS = 4096  # ticks around the bar's first price; trades beyond count at the edge

_OPEN_S = 0  # epoch second of the session's open; 0 before the first trading day
_HEAD = 8

# state of one timeframe
_DELTA = BAR
_DELTA_MAX = BAR + 1
_DELTA_MIN = BAR + 2
_BASE = BAR + 3  # tick of the histogram's first bin
_BIN_LOW = BAR + 4
_BIN_HIGH = BAR + 5
_POC = BAR + 6
_ANY = BAR + 7  # mean volume, mean range, bars: of any slot
_TABLE = BAR + 10  # the same for each slot
_HIST = _TABLE + 3 * _SLOTS
_BLOCK = _HIST + _BINS

NEUTRAL = np.array([0.0] * 7 + [0.5] + [0.0] * 7 + [0.5])


def make_state(tick_size: float) -> Floats:
    """The state before the first event; the tick size is read from `m`."""
    del tick_size
    return np.zeros(_HEAD + 2 * _BLOCK)


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    price, size = m[M_LAST], m[M_SIZE]
    if not bars.valid_trade(price, size):
        return
    tick = bars.tick_of(price, m[M_TICK])
    for k in range(2):
        o = _HEAD + k * _BLOCK
        first = s[o + TRADES] == 0.0
        bars.add_trade(s, o, price, size)
        if first:
            s[o + _DELTA] = 0.0
            s[o + _DELTA_MAX] = 0.0
            s[o + _DELTA_MIN] = 0.0
            s[o + _BASE] = tick - _BINS // 2
        i = min(max(tick - int(s[o + _BASE]), 0), _BINS - 1)
        if first:
            s[o + _BIN_LOW] = i
            s[o + _BIN_HIGH] = i
            s[o + _POC] = i
        s[o + _DELTA] += size * m[M_SIDE]
        s[o + _DELTA_MAX] = max(s[o + _DELTA_MAX], s[o + _DELTA])
        s[o + _DELTA_MIN] = min(s[o + _DELTA_MIN], s[o + _DELTA])
        s[o + _BIN_LOW] = min(s[o + _BIN_LOW], i)
        s[o + _BIN_HIGH] = max(s[o + _BIN_HIGH], i)
        s[o + _HIST + i] += size
        if s[o + _HIST + i] > s[o + _HIST + int(s[o + _POC])]:
            s[o + _POC] = i


@kernel
def _learn(s: Floats, at: int, volume: float, span: float) -> None:
    s[at + 2] = min(s[at + 2] + 1.0, _MEMORY)
    s[at] += (volume - s[at]) / s[at + 2]
    s[at + 1] += (span - s[at + 1]) / s[at + 2]


@kernel
def _slot(s: Floats, start: int, period: int) -> int:
    """Which bar of the trading day begins at epoch second `start`; -1 outside of a known one."""
    slot = (start - int(s[_OPEN_S])) // period
    return slot if s[_OPEN_S] > 0.0 and 0 <= slot < _SLOTS * 60 // period else -1


@kernel
def _close_bar(s: Floats, o: int, slot: int, tick: float) -> None:
    """Fold the bar into the expectations and clear it; `slot` is -1 where its place in the day is not known."""
    span = s[o + HIGH] - s[o + LOW] + tick
    _learn(s, o + _ANY, s[o + VOLUME], span)
    if slot >= 0:
        _learn(s, o + _TABLE + 3 * slot, s[o + VOLUME], span)
    s[o + _HIST + int(s[o + _BIN_LOW]) : o + _HIST + int(s[o + _BIN_HIGH]) + 1] = 0.0
    s[o + TRADES] = 0.0


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    for k in range(2):
        o = _HEAD + k * _BLOCK
        if bars.ends(s, o, sec, _PERIODS[k]):
            _close_bar(s, o, _slot(s, sec + 1 - _PERIODS[k], _PERIODS[k]), m[M_TICK])


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    for k in range(2):
        o, period = _HEAD + k * _BLOCK, _PERIODS[k]
        if bars.ends_within(s, o, sec, n, period):
            _close_bar(s, o, _slot(s, sec - sec % period, period), m[M_TICK])


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    for k in range(2):
        if s[_HEAD + k * _BLOCK + TRADES] > 0.0:
            _close_bar(s, _HEAD + k * _BLOCK, -1, m[M_TICK])


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    s[_OPEN_S] = cal[row, CAL_OPEN] // NS


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    tick = m[M_TICK]
    for k in range(2):
        o = _HEAD + k * _BLOCK
        f = FIRST + k * _OUTPUTS
        out[f : f + 7] = 0.0
        out[f + 7] = 0.5
        if s[o + TRADES] == 0.0:
            continue
        volume = s[o + VOLUME]
        span = s[o + HIGH] - s[o + LOW] + tick
        body_top, body_bottom = max(s[o + OPEN], s[o + CLOSE]), min(s[o + OPEN], s[o + CLOSE])
        out[f] = (s[o + CLOSE] - s[o + OPEN]) / span
        out[f + 1] = (s[o + HIGH] - body_top) / span
        out[f + 2] = (body_bottom - s[o + LOW]) / span
        poc = (s[o + _BASE] + s[o + _POC]) * tick
        out[f + 7] = min(max((poc - s[o + LOW]) / span, 0.0), 1.0)
        if not volume > 0.0:
            continue
        out[f + 3] = s[o + _DELTA] / volume
        out[f + 4] = (s[o + _DELTA] - 0.5 * (s[o + _DELTA_MAX] + s[o + _DELTA_MIN])) / volume

        period = _PERIODS[k]
        start = t // NS // period * period
        share = min(max((t - start * NS) / NS, 1.0) / period, 1.0)
        slot = _slot(s, start, period)
        at = o + _ANY
        if slot >= 0 and s[o + _TABLE + 3 * slot + 2] > 0.0:
            at = o + _TABLE + 3 * slot
        if s[at + 2] > 0.0 and s[at] > 0.0:
            out[f + 5] = math.log(volume / (s[at] * share))
            out[f + 6] = math.log(span / (s[at + 1] * math.sqrt(share)))
