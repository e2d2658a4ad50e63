"""Whether the daemon has stopped trading by itself and said so: then its state need not be the server's."""

from collections.abc import Sequence
from typing import Any

from fault_simulation.daemon import Life
from mia_daemon.errors import StartError
from mia_daemon.records import Priority
from mia_daemon.risk.codes import RiskCode

OPERATOR = "operator"
"""Who gives the commands of a simulation: what they latch and alert is no evidence about the server."""

SAY_NOTHING = frozenset({RiskCode.KILLED, RiskCode.DAILY_LOSS})
"""Latches that commands and losses set."""


def loudest(lives: Sequence[Life], since: int = 0) -> str:
    """The last alert that a person has to answer, from the alert with number `since` on; "" when there is none."""
    alerts = [alert for life in lives for alert in life.alerts][since:]
    loud = (
        alert.code
        for alert in reversed(alerts)
        if alert.priority >= Priority.CRITICAL and not _commanded(alert.context) and alert.code not in SAY_NOTHING
    )
    return next(loud, "")


def _commanded(context: dict[str, Any]) -> bool:
    return bool(context.get("by") == OPERATOR)


def halted(lives: Sequence[Life]) -> str:
    """Why the last life trades no more, as latch and alert; "" where it has not stopped, or has not said so."""
    account = lives[-1].account if lives else None
    if account is None:
        return ""
    latches = [
        latch.code for latch in account.risk.latches if latch.code not in SAY_NOTHING and not _commanded(latch.context)
    ]
    return f"{latches[-1]} ({code})" if latches and (code := loudest(lives)) else ""


def refused_to_start(lives: Sequence[Life]) -> str:
    """Why the last life that ended never traded; "" when it did."""
    ended = next((life for life in reversed(lives) if life.failure is not None), None)
    if ended is None or ended not in lives[-2:] or not isinstance(ended.failure, StartError):
        return ""
    return str(ended.failure)
