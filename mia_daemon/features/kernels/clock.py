"""Where in the exchange's day, week and calendar we are, features 319-335.

Local time needs no time zone here: a session opens at 17:00 Chicago and no clock change falls within one, so the time
of day is 17:00 plus the time since the open, and the weekday is the trade date's.

- min_since_open, min_to_close: minutes, of the session; after the close, its length and 0.
- ph_asia (17:00-02:00), ph_europe (to 08:30), ph_open30 (first 30 minutes of regular hours), ph_mid, ph_close30 (last
  30 minutes, of the cut session on half days): 1 within, else 0; all 0 after regular hours and when closed.
- dow: angle 2 pi weekday / 5, Monday 0.
- days_to_roll: calendar days from the trade date to the next Monday before the third Friday of March, June, September
  or December (0 on it). days_to_opex: to the next third Friday of a month. Holidays on a third Friday are not minded.
- min_to_event, min_since_event: minutes to the next macro event and since the last, at most NEVER. event_impact: the
  impact of the nearer of the two within an hour, 0 if there is none.

Neutral (0; events NEVER) before the first trading day and without events.
"""

import math

import numpy as np

from mia_daemon.features.kernels.market import (
    CAL_CLOSE,
    CAL_DATE,
    CAL_HALF,
    CAL_OPEN,
    CAL_RTH_CLOSE,
    CAL_RTH_OPEN,
    NS,
    Floats,
    Ints,
    kernel,
)
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents

FIRST = 319
COUNT = 17

NEVER = 1440.0
_MINUTE = 60 * NS
_NEAR = 60.0

_ROLL = 0  # days from the trade date
_OPEX = 1
_DOW = 2
_K = 3  # number of events
_NEXT = 4  # the first event later than now
_TABLE = 8  # per event: epoch second, impact

NEUTRAL = np.zeros(COUNT)
NEUTRAL[13:15] = NEVER


def make_state(tick_size: float, events: MacroEvents = NO_EVENTS) -> Floats:
    """The state before the first event, with the macro events to look out for; the tick size plays no part."""
    del tick_size
    s = np.zeros(_TABLE + 2 * len(events))
    s[_K] = len(events)
    s[_TABLE::2] = events.start_ns / NS
    s[_TABLE + 1 :: 2] = events.impact
    return s


@kernel
def _day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01, Gregorian (Hinnant's days_from_civil)."""
    y = year - 1 if month <= 2 else year
    era = y // 400
    yoe = y - era * 400
    doy = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


@kernel
def _third_friday(year: int, month: int) -> int:
    first = _day_number(year, month, 1)
    return first + (1 - first) % 7 + 14  # day 1 of the epoch was a Friday


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    date = cal[row, CAL_DATE]
    year, month = date // 10000, date // 100 % 100
    today = _day_number(year, month, date % 100)
    s[_DOW] = (today + 3) % 7
    opex, roll = -1, -1
    for ahead in range(5):
        y, mo = year + (month - 1 + ahead) // 12, (month - 1 + ahead) % 12 + 1
        friday = _third_friday(y, mo)
        if opex < 0 and friday >= today:
            opex = friday - today
        if roll < 0 and mo % 3 == 0 and friday - 4 >= today:
            roll = friday - 4 - today
    s[_OPEX] = opex
    s[_ROLL] = roll


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats, cal: Ints, row: int) -> None:
    out[FIRST : FIRST + COUNT] = 0.0
    _emit_events(s, t / NS, out)
    if row < 0:
        return
    opened, closed = cal[row, CAL_OPEN], cal[row, CAL_CLOSE]
    rth_open, rth_close = cal[row, CAL_RTH_OPEN], cal[row, CAL_RTH_CLOSE]
    angle = 2.0 * math.pi * ((t - opened) / NS + 17 * 3600) / 86400.0
    out[FIRST] = math.sin(angle)
    out[FIRST + 1] = math.cos(angle)
    now = min(max(t, opened), closed)
    out[FIRST + 2] = (now - opened) / _MINUTE
    out[FIRST + 3] = (closed - now) / _MINUTE
    if opened <= t < closed:
        if t < rth_open:
            out[FIRST + 4 if t < opened + 540 * _MINUTE else FIRST + 5] = 1.0
        elif t < rth_close:
            if t < rth_open + 30 * _MINUTE:
                out[FIRST + 6] = 1.0
            elif t < rth_close - 30 * _MINUTE:
                out[FIRST + 7] = 1.0
            else:
                out[FIRST + 8] = 1.0
    dow = 2.0 * math.pi * s[_DOW] / 5.0
    out[FIRST + 9] = math.sin(dow)
    out[FIRST + 10] = math.cos(dow)
    out[FIRST + 11] = s[_ROLL]
    out[FIRST + 12] = s[_OPEX]
    out[FIRST + 16] = cal[row, CAL_HALF]


@kernel
def _emit_events(s: Floats, now: float, out: Floats) -> None:
    i, k = int(s[_NEXT]), int(s[_K])
    while i < k and s[_TABLE + 2 * i] <= now:
        i += 1
    s[_NEXT] = i
    ahead = (s[_TABLE + 2 * i] - now) / 60.0 if i < k else NEVER
    since = (now - s[_TABLE + 2 * i - 2]) / 60.0 if i > 0 else NEVER
    out[FIRST + 13] = min(ahead, NEVER)
    out[FIRST + 14] = min(since, NEVER)
    if ahead <= since and ahead < _NEAR:
        out[FIRST + 15] = s[_TABLE + 2 * i + 1]
    elif since < ahead and since < _NEAR:
        out[FIRST + 15] = s[_TABLE + 2 * i - 1]
