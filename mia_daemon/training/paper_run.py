"""What the decision rules would have made of predictions on a recording: an honest figure for the manifest.

The rules are the daemon's own (`trading_loop.decide`); fills are at the touch of the decision, stops and targets at
their price once the touch reaches them, the stop first when both were reached within one interval.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import DecisionSettings
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import AccountState, Action, FeatureWindow, Prediction, RegimeProbs, empty_events
from mia_daemon.trading.trading_loop import EMPTY_CONTEXT, decide
from mia_daemon.training.labels import LabelledRecording
from mia_daemon.training.linear_models import Floats

_NO_EVENTS: Final = empty_events(0)
_NO_VALUES: Final = np.zeros(0, np.float32)
_A_BREAK_NS: Final = 600 * NS_PER_S


class RoundTrip(NamedTuple):
    entry_ns: int
    exit_ns: int
    side: int
    points: float  # before costs


@dataclass(slots=True)
class _Position:
    side: int
    price: float
    opened_ns: int


def round_trips(
    recording: LabelledRecording,
    rows: slice,
    action: Floats,
    probability: Floats,
    regime: Floats,
    settings: DecisionSettings,
    traded: Instrument,
) -> list[RoundTrip]:
    """Trades of one contract over `rows`; action, probability (rows,) and regime (rows, 3) are for those rows.

    A position still open at a break in the recording or at its end is closed at the touch before it.
    """
    trips: list[RoundTrip] = []
    position: _Position | None = None
    times = recording.ts_ns[rows].tolist()
    touches = np.stack([getattr(recording, name)[rows] for name in _TOUCH], axis=1).tolist()
    before = touches[0] if touches else []
    for i, (now, touch) in enumerate(zip(times, touches, strict=True)):
        if position is not None and not 0 <= now - times[i - 1] < _A_BREAK_NS:
            trips.append(_closed(position, times[i - 1], before[0] if position.side > 0 else before[1]))
            position = None
        if position is not None and (price := _bracket(position, touch, settings, traded.tick_size)) is not None:
            trips.append(_closed(position, now, price))
            position = None
        wanted = _decision(i, now, position, action[i], probability[i], regime[i], settings)
        if position is not None and wanted is Action.EXIT:
            trips.append(_closed(position, now, touch[0] if position.side > 0 else touch[1]))
            position = None
        elif position is None and wanted in {Action.BUY, Action.SELL}:
            side = 1 if wanted is Action.BUY else -1
            position = _Position(side, touch[1] if side > 0 else touch[0], now)
        before = touch
    if position is not None:
        trips.append(_closed(position, times[-1], before[0] if position.side > 0 else before[1]))
    return trips


_TOUCH: Final = ("bid", "ask", "bid_low", "bid_high", "ask_low", "ask_high")


def _bracket(position: _Position, touch: list[float], settings: DecisionSettings, tick: float) -> float | None:
    """The price at which stop or target closed the position within this interval."""
    _, _, bid_low, bid_high, ask_low, ask_high = touch
    worst, best = (bid_low, bid_high) if position.side > 0 else (ask_high, ask_low)
    stop = position.price - position.side * settings.stop_ticks * tick
    target = position.price + position.side * settings.target_ticks * tick
    if position.side * (worst - stop) <= 0:
        return stop
    return target if position.side * (best - target) >= 0 else None


def _closed(position: _Position, ts_ns: int, price: float) -> RoundTrip:
    return RoundTrip(position.opened_ns, ts_ns, position.side, position.side * (price - position.price))


def _decision(
    seq: int,
    ts_ns: int,
    position: _Position | None,
    action: float,
    probability: float,
    regime: Floats,
    settings: DecisionSettings,
) -> Action:
    side, price, opened_ns = (position.side, position.price, position.opened_ns) if position else (0, 0.0, 0)
    account = AccountState(seq, ts_ns, side, price, 0.0, 0.0, opened_ns, 0.0, 0.0)
    window = FeatureWindow(_NO_EVENTS, seq, ts_ns, _NO_VALUES, warm=True)
    prediction = Prediction(RegimeProbs(*regime.tolist()), float(action), float(probability), "baseline", 0.0, "")
    return decide(window, prediction, account, settings, EMPTY_CONTEXT, run_id="fit").action
