"""Features 336-345: the traded symbol beside the reference symbol (NQ beside ES, ES beside NQ).

Both mids are sampled at the end of every whole second; EW sums take the second as unit of time. While one of them is
unknown or not positive there is no log return, and all windows but the reference's order flow are empty after that.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.market import (
    M_NOW,
    M_REF_ASK,
    M_REF_BID,
    M_REF_PREV_ASK,
    M_REF_PREV_BID,
    M_REF_PREV_QA,
    M_REF_PREV_QB,
    M_REF_QA,
    M_REF_QB,
    M_SEC_MID,
    M_SEC_REF_MID,
    Floats,
    kernel,
)
from mia_daemon.features.kernels.ofi import imbalance_of

FIRST = 336
COUNT = 10

LAGS = np.array([5, 30, 120, 600])
HORIZONS = np.array([900.0, 3600.0])
DECAYS = np.exp(-1.0 / HORIZONS)
LEAD_DECAY = math.exp(-1.0 / 900.0)
FLOW_S = 30.0
RING = 1024  # seconds kept; more than the longest lag

_FILLED = 0  # seconds in the ring, at most RING
_HEAD = 1  # where the next second goes
_FLOW_AT = 2
_FLOW = 3
_FLOW_WEIGHT = 4
_FLOW_SIZE = 5  # EW mean touch size of the reference
_PAIR = 6  # 2 x (w, x, y, xx, yy, xy): x the reference's return, y ours
_LEAD = 18  # 2 lags x (w, x, y, xx, yy, xy): x the reference's return `lag` seconds before
_RETURNS = 30  # the reference's last five returns, newest first
_SELF = 36  # ring of ln mid
_OTHER = _SELF + RING
_SIZE = _OTHER + RING


def make_state(tick_size: float) -> Floats:
    """Sums and two rings of log mids; `tick_size` is not needed."""
    del tick_size
    return np.zeros(_SIZE)


@kernel
def on_reference(s: Floats, t: int, m: Floats) -> None:
    """The reference symbol's touch came or changed."""
    qb = m[M_REF_QB]
    qa = m[M_REF_QA]
    decay = math.exp((s[_FLOW_AT] - m[M_NOW]) / FLOW_S)
    s[_FLOW_AT] = m[M_NOW]
    s[_FLOW] *= decay
    s[_FLOW_WEIGHT] *= decay
    if qb <= 0.0 or qa <= 0.0:
        return
    if m[M_REF_PREV_QB] > 0.0 and m[M_REF_PREV_QA] > 0.0:
        s[_FLOW] += imbalance_of(
            m[M_REF_BID],
            qb,
            m[M_REF_ASK],
            qa,
            m[M_REF_PREV_BID],
            m[M_REF_PREV_QB],
            m[M_REF_PREV_ASK],
            m[M_REF_PREV_QA],
        )
    s[_FLOW_WEIGHT] += 1.0
    s[_FLOW_SIZE] += (0.5 * (qb + qa) - s[_FLOW_SIZE]) / s[_FLOW_WEIGHT]


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    if not (bars.has_log(m[M_SEC_MID]) and bars.has_log(m[M_SEC_REF_MID])):
        _restart(s)
        return
    ours = math.log(m[M_SEC_MID])
    theirs = math.log(m[M_SEC_REF_MID])
    filled = int(s[_FILLED])
    head = int(s[_HEAD])
    if filled > 0:
        last = (head - 1) & (RING - 1)
        y = ours - s[_SELF + last]
        x = theirs - s[_OTHER + last]
        for j in range(2):
            _add(s, _PAIR + 6 * j, DECAYS[j], x, y)
        if filled > 1:
            _add(s, _LEAD, LEAD_DECAY, s[_RETURNS], y)
        if filled > 5:
            _add(s, _LEAD + 6, LEAD_DECAY, s[_RETURNS + 4], y)
        for k in range(4, 0, -1):
            s[_RETURNS + k] = s[_RETURNS + k - 1]
        s[_RETURNS] = x
    s[_SELF + head] = ours
    s[_OTHER + head] = theirs
    s[_HEAD] = (head + 1) & (RING - 1)
    s[_FILLED] = min(filled + 1, RING)


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    first = min(n, 6)  # till the reference's last move has passed through the lags
    for k in range(first):
        on_second(s, sec + k, m)
    rest = n - first
    if rest == 0 or s[_FILLED] == 0.0:
        return
    for j in range(2):
        _fade(s, _PAIR + 6 * j, DECAYS[j], math.exp(-rest / HORIZONS[j]))
        _fade(s, _LEAD + 6 * j, LEAD_DECAY, math.exp(-rest / 900.0))
    head = int(s[_HEAD])
    last = (head - 1) & (RING - 1)
    for k in range(min(rest, RING)):
        slot = (head + k) & (RING - 1)
        s[_SELF + slot] = s[_SELF + last]
        s[_OTHER + slot] = s[_OTHER + last]
    s[_HEAD] = (head + rest) & (RING - 1)
    s[_FILLED] = min(s[_FILLED] + rest, RING)


@kernel
def _add(s: Floats, i: int, decay: float, x: float, y: float) -> None:
    s[i] = s[i] * decay + 1.0
    s[i + 1] = s[i + 1] * decay + x
    s[i + 2] = s[i + 2] * decay + y
    s[i + 3] = s[i + 3] * decay + x * x
    s[i + 4] = s[i + 4] * decay + y * y
    s[i + 5] = s[i + 5] * decay + x * y


@kernel
def _fade(s: Floats, i: int, step: float, decay: float) -> None:
    """As many `_add(…, 0, 0)` as make one step's decay `decay`."""
    s[i] = s[i] * decay + (1.0 - decay) / (1.0 - step)
    for k in range(1, 6):
        s[i + k] *= decay


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    for i in range(_FLOW_AT, _PAIR):
        s[i] = 0.0
    _restart(s)


@kernel
def _restart(s: Floats) -> None:
    """Forget both mids, and what was made of them."""
    if s[_FILLED] == 0.0:
        return
    s[_FILLED] = 0.0
    s[_HEAD] = 0.0
    for i in range(_PAIR, _SELF):
        s[i] = 0.0


@kernel
def _beta(s: Floats, i: int) -> float:
    if s[i] <= 1.5:
        return 0.0
    mean = s[i + 1] / s[i]
    variance = s[i + 3] / s[i] - mean * mean
    # log returns of one tick square to 1e-11: what is less has not moved
    return (s[i + 5] / s[i] - mean * s[i + 2] / s[i]) / variance if variance > 1e-18 else 0.0


@kernel
def _correlation(s: Floats, i: int) -> float:
    if s[i] <= 1.5:
        return 0.0
    mx = s[i + 1] / s[i]
    my = s[i + 2] / s[i]
    vx = s[i + 3] / s[i] - mx * mx
    vy = s[i + 4] / s[i] - my * my
    if vx <= 1e-18 or vy <= 1e-18:
        return 0.0
    return float((s[i + 5] / s[i] - mx * my) / math.sqrt(vx * vy))


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    beta = _beta(s, _PAIR)
    filled = int(s[_FILLED])
    last = (int(s[_HEAD]) - 1) & (RING - 1)
    for j in range(4):
        out[FIRST + j] = 0.0
        if filled > LAGS[j]:
            then = (last - LAGS[j]) & (RING - 1)
            ours = s[_SELF + last] - s[_SELF + then]
            out[FIRST + j] = 1e4 * (ours - beta * (s[_OTHER + last] - s[_OTHER + then]))
    out[FIRST + 4] = beta
    out[FIRST + 5] = _beta(s, _PAIR + 6)
    out[FIRST + 6] = 0.0
    w = s[_PAIR]
    if w > 1.5:
        mx = s[_PAIR + 1] / w
        my = s[_PAIR + 2] / w
        vx = s[_PAIR + 3] / w - mx * mx
        vy = s[_PAIR + 4] / w - my * my
        residual = vy - 2.0 * beta * (s[_PAIR + 5] / w - mx * my) + beta * beta * vx
        if residual > 1e-18:
            out[FIRST + 6] = (my - beta * mx) / math.sqrt(residual) * math.sqrt(w)
    out[FIRST + 7] = _correlation(s, _LEAD)
    out[FIRST + 8] = _correlation(s, _LEAD + 6)
    decay = math.exp((s[_FLOW_AT] - m[M_NOW]) / FLOW_S)
    out[FIRST + 9] = s[_FLOW] * decay / s[_FLOW_SIZE] if s[_FLOW_SIZE] > 0.0 else 0.0
