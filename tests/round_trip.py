"""A closed round trip, and the 350 values of the market it was entered in."""

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.features import catalogue
from mia_daemon.model.market_memory import REMEMBERED
from mia_daemon.records import RegimeProbs, Side, Trade

NOW = 1_700_000_000 * NS_PER_S
TRADE = Trade(
    trade_id="r1-1",
    symbol="ESZ26_FUT_CME",
    side=Side.BUY,
    quantity=2,
    entry_ns=NOW,
    exit_ns=NOW + 60 * NS_PER_S,
    entry_price=6000.0,
    exit_price=6002.0,
    gross=204.0,
    costs=4.0,
    regime_probs=RegimeProbs(0.2, 0.7, 0.1),
    decision_id="r1-9",
    exit_reason="target",
)


def values(atr=2.0, **features):
    """The 350 of a typical market, but for `features`."""
    row = np.zeros(catalogue.COUNT, np.float32)
    for name, (typical, _) in REMEMBERED.items():
        row[catalogue.index(name)] = features.get(name, typical)
    row[catalogue.index("atr_14")] = atr
    return row
