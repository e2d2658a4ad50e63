"""Lifting a limit that is still exceeded takes two steps: to ask, and to confirm what was answered."""

import hashlib
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.risk.codes import RiskCode

VALID_S: Final = 120
"""For which the answer to the first step holds."""


class TwoSteps:
    """Remembers the one override that was asked for last. Its token is no secret: it says that the answer was read."""

    def __init__(self) -> None:
        self._asked: tuple[RiskCode, str] | None = None
        self._until_ns = 0

    def ask(self, code: RiskCode, by: str, now_ns: int) -> str:
        """The first step; returns the token that the second has to give, within `VALID_S` on the same stopwatch."""
        token = hashlib.sha256(f"{code} {by} {now_ns}".encode()).hexdigest()[:6]
        self._asked, self._until_ns = (code, token), now_ns + VALID_S * NS_PER_S
        return token

    def confirm(self, code: RiskCode, token: object, now_ns: int) -> bool:
        """The second step: whether it fits the first. Each token is good once."""
        fits = self._asked == (code, token) and now_ns <= self._until_ns
        if fits:
            self._asked = None
        return fits
