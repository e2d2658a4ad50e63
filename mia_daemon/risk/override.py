"""Lifting a limit that is still exceeded takes two steps: a request, and a confirmation with the token returned."""

import hashlib
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.risk.codes import RiskCode

VALID_S: Final = 120
"""Seconds for which the token of the first step is valid."""


class TwoSteps:
    """Remembers the last override requested. Its token is not secret: it shows that the answer was read."""

    def __init__(self) -> None:
        self._asked: tuple[RiskCode, str] | None = None
        self._until_ns = 0

    def ask(self, code: RiskCode, by: str, now_ns: int) -> str:
        """The first step; returns the token for the second, valid for `VALID_S`. `now_ns`: monotonic clock."""
        token = hashlib.sha256(f"{code} {by} {now_ns}".encode()).hexdigest()[:6]
        self._asked, self._until_ns = (code, token), now_ns + VALID_S * NS_PER_S
        return token

    def confirm(self, code: RiskCode, token: object, now_ns: int) -> bool:
        """The second step: whether code and token match the first. Each token is valid once."""
        fits = self._asked == (code, token) and now_ns <= self._until_ns
        if fits:
            self._asked = None
        return fits
