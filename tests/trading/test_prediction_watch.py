"""Alerts about predictions that are not finite numbers."""

import math

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import Prediction, Priority, RegimeProbs
from mia_daemon.trading.prediction_watch import PredictionWatch

GOOD = Prediction(RegimeProbs(0.7, 0.2, 0.1), 0.5, 0.6, "baseline", 0.0, "0" * 16)
BAD = Prediction(RegimeProbs(0.7, 0.2, 0.1), math.nan, math.nan, "unusable", 1.0, "0" * 16, "the policy's action")


def test_one_alert_when_predictions_stop_being_finite_and_one_when_they_are_again():
    raised = []
    watch = PredictionWatch(lambda code, priority, text, context: raised.append((code, priority, text, context)))
    missing_s = [watch.on_prediction(said, s * NS_PER_S) for s, said in enumerate([GOOD, BAD, BAD, BAD, GOOD, GOOD])]
    assert missing_s == [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]
    (code, priority, text, context), (again, *_, lasted) = raised
    assert (code, priority, context) == (
        "prediction_not_finite", Priority.CRITICAL, {"not_finite": "the policy's action"},
    )  # fmt: skip
    assert "the policy's action" in text
    assert "flat_without_prediction_s" in text
    assert (again, lasted) == ("prediction_finite", {"lasted_s": 3.0})
    assert watch.on_prediction(BAD, 9 * NS_PER_S) == 0.0
    assert len(raised) == 3
