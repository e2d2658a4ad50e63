"""What followed each decision: labels for fitting, never seen by a model that runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.training.linear_models import Floats


@dataclass(frozen=True, slots=True)
class LabelledRecording:
    """One row a decision, in order of time. Prices in points; the extremes are of the touch since the row before.

    Attributes:
        values: (rows, 350) float32, the features at the decision.
        ts_ns: (rows,) int64, event time.
        bid, ask: (rows,) float64, the touch at the decision.
        bid_low, bid_high, ask_low, ask_high: (rows,) float64.
    """

    values: NDArray[np.float32]
    ts_ns: NDArray[np.int64]
    bid: Floats
    ask: Floats
    bid_low: Floats
    bid_high: Floats
    ask_low: Floats
    ask_high: Floats

    def __len__(self) -> int:
        return len(self.ts_ns)


def forward_change(recording: LabelledRecording, steps: int, interval_s: float) -> Floats:
    """(rows,) change of the mid over the next `steps` decisions, points; NaN where a halt or the end comes first."""
    mid = 0.5 * (recording.bid + recording.ask)
    change = np.full(len(mid), np.nan)
    change[:-steps] = mid[steps:] - mid[:-steps]
    change[~_unbroken(recording.ts_ns, steps, interval_s)] = np.nan
    return change


def bracket_profit(
    recording: LabelledRecording, side: int, stop: float, target: float, max_steps: int, interval_s: float
) -> Floats:
    """(rows,) points made before costs by a bracket entered at each decision, market to market; NaN as above.

    Bought at the ask (sold at the bid), out at the stop, at the target once the other side's touch reaches it, or at
    the touch after `max_steps` decisions. When one interval saw both stop and target, the stop is taken to be first.
    """
    if side > 0:
        entry, worst, best, last = recording.ask, recording.bid_low, recording.bid_high, recording.bid
    else:
        entry, worst, best, last = -recording.bid, -recording.ask_high, -recording.ask_low, -recording.ask
    rows = len(entry)
    profit = np.full(rows, np.nan)
    open_rows = np.flatnonzero(_unbroken(recording.ts_ns, max_steps, interval_s))
    for step in range(1, max_steps + 1):
        later = open_rows + step
        stopped = worst[later] <= entry[open_rows] - stop
        won = ~stopped & (best[later] >= entry[open_rows] + target)
        profit[open_rows[stopped]] = -stop
        profit[open_rows[won]] = target
        open_rows = open_rows[~(stopped | won)]
    profit[open_rows] = last[open_rows + max_steps] - entry[open_rows]
    return profit


def _unbroken(ts_ns: NDArray[np.int64], steps: int, interval_s: float) -> NDArray[np.bool_]:
    """Whether the next `steps` decisions exist and belong to the same run of time, without a halt between."""
    whole = np.zeros(len(ts_ns), np.bool_)
    if len(ts_ns) > steps:
        span = ts_ns[steps:] - ts_ns[:-steps]
        whole[:-steps] = (span > 0) & (span <= 1.5 * steps * interval_s * NS_PER_S)
    return whole
