"""Watches whether predictions are finite numbers: an alert when they stop being so, and one when they are again."""

from collections.abc import Callable
from typing import Any

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import Prediction, Priority


class PredictionWatch:
    """How long the predictions have not been finite, in event time.

    Args:
        alert: called with code, priority, text and context of each alert.
    """

    def __init__(self, alert: Callable[[str, Priority, str, dict[str, Any]], None]) -> None:
        self._alert = alert
        self._since_ns: int | None = None  # event time of the first that was not finite; None while they are

    def on_prediction(self, prediction: Prediction, ts_ns: int) -> float:
        """Seconds since predictions are not finite, as of this one at event time `ts_ns`; 0 when it is finite."""
        if prediction.not_finite:
            if self._since_ns is None:
                self._since_ns = ts_ns
                self._alert(
                    "prediction_not_finite",
                    Priority.CRITICAL,
                    f"the model's prediction is no finite number ({prediction.not_finite}): nothing is opened, a "
                    "position stays under its stop and is closed after decision.flat_without_prediction_s; check the "
                    "model bundle",
                    {"not_finite": prediction.not_finite},
                )
            return (ts_ns - self._since_ns) / NS_PER_S
        if self._since_ns is not None:
            lasted_s, self._since_ns = (ts_ns - self._since_ns) / NS_PER_S, None
            self._alert(
                "prediction_finite",
                Priority.WARNING,
                f"predictions are finite numbers again, after {lasted_s:.1f} s",
                {"lasted_s": round(lasted_s, 3)},
            )
        return 0.0
