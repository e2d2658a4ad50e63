"""The rows of the CSV files for people: columns, number formats and time formats."""

import json
import math
from collections.abc import Callable
from typing import Final, Literal

from mia_daemon.clock import iso_utc, second_utc
from mia_daemon.records import Action, Decision, RegimeProbs, Trade
from mia_daemon.risk.throttle import PENALTY_ABOVE

TRADES: Final = ("trade_id", "timestamp", "entry_price", "profit", "regime_probs")
ALPHA_SCORES: Final = ("timestamp", "alpha_score", "regime_probs")
DECISION_LOG: Final = ("timestamp", "trade_id", "decision", "signal_score", "regime_probs")
PENALTY_LOG: Final = ("timestamp", "penalty_active", "overtrade_risk_score")

TimestampFormat = Literal["iso", "spec"]

STAMPS: Final[dict[str, Callable[[int], str]]] = {"iso": iso_utc, "spec": second_utc}
"""By the value of `ops.timestamp_format`: `2026-11-22T14:00:00.000123Z` or `2026-11-22 14:00:00`, both UTC."""


class TableRows:
    """Formats rows, the times in one of `STAMPS`."""

    def __init__(self, timestamp_format: str = "iso") -> None:
        self._stamp = STAMPS[timestamp_format]

    def decision(self, decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Values of a row of alpha_scores.csv, of decision_log.csv and of penalty_log.csv."""
        prediction, score = decision.prediction, decision.overtrade_risk_score
        stamp, regimes = self._stamp(decision.ts_ns), regime_json(prediction.regime_probs)
        return (
            (stamp, _number(prediction.probability), regimes),
            (stamp, trade_of(decision), decision.action.value, _number(prediction.action), regimes),
            (stamp, "true" if score > PENALTY_ABOVE else "false", _number(score)),
        )

    def trade(self, trade: Trade) -> tuple[str, ...]:
        """Values of a row in the trades file; the time of a closed round trip is that of its exit."""
        return (
            trade.trade_id,
            self._stamp(trade.exit_ns),
            repr(float(trade.entry_price)),
            f"{trade.profit:.2f}",
            regime_json(trade.regime_probs),
        )


def line(values: tuple[str, ...]) -> str:
    """A row of these values; only the last may need quotes.

    By hand: csv.writer takes three times as long, and there are three rows for each decision.
    """
    *plain, last = values
    if '"' in last:
        last = '"' + last.replace('"', '""') + '"'
    return ",".join([*plain, last])


def trade_of(decision: Decision) -> str:
    """The round trip a decision belongs to: the open one, or the one that its entry opens if it fills."""
    if not decision.trade_id and decision.action in {Action.BUY, Action.SELL}:
        return decision.decision_id
    return decision.trade_id


def regime_json(probabilities: RegimeProbs) -> str:
    """In the format of the schemas: `{"range": 0.7, "trend": 0.2, "defensive": 0.1}`."""
    if not math.isfinite(sum(probabilities)):
        return json.dumps(dict.fromkeys(RegimeProbs._fields))
    in_range, trend, defensive = probabilities
    return f'{{"range": {in_range:.6g}, "trend": {trend:.6g}, "defensive": {defensive:.6g}}}'


def _number(value: float) -> str:
    """Eight digits: the precision of a model's float32; empty for NaN and infinity."""
    return f"{value:.8g}" if math.isfinite(value) else ""
