"""What goes wrong with orders, on purpose: refusals, and news that comes twice, late, in the wrong order or never.

Pure: all is drawn from one seeded generator, and all times are exchange time. What the exchange itself knows, and what
it answers when asked, stays true.
"""

import random
from collections import deque
from copy import copy
from typing import Any, NamedTuple

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.config import FaultSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.order_messages import start_ns

REFUSAL = "refused as the fault settings want it"

_CLOCKS: dict[type[Message], dict[str, int]] = {  # fields that tell the time, and their units a second
    dtc.OrderUpdate: {"LatestTransactionDateTime": 1, "LastFillDateTime": 1_000},
    dtc.HistoricalOrderFillResponse: {"DateTime": 1},
    dtc.PositionUpdate: {"EntryDateTime": 1},
    dtc.AccountBalanceUpdate: {"TransactionDateTime": 1_000_000},
}


class _Held(NamedTuple):
    due_ns: int
    message: Message


class OrderFaults:
    """Asked at every chance to go wrong.

    Args:
        seed: of this run's draws.
    """

    def __init__(self, settings: FaultSettings, seed: str) -> None:
        self._settings = settings
        self._rng = random.Random(seed)  # noqa: S311  # faults have to be reproducible
        self._late_ns = round(settings.late_ms * NS_PER_MS)
        self._cancelled: dict[str, Message] = {}  # confirmed though filled: the confirmation, by ClientOrderID
        self._late: deque[_Held] = deque()
        self._overtaken: list[_Held] = []

    def refusal(self) -> str:
        """Why a new order is refused; empty when it is not."""
        return REFUSAL if self._happens(self._settings.reject_share) else ""

    @property
    def ignores_incomplete_cancels(self) -> bool:
        """Whether a cancel without ServerOrderID, or of another account, gets no answer."""
        return self._settings.ignore_incomplete_cancels

    @property
    def lists_closed_positions(self) -> bool:
        """Whether lists of positions have those that were closed, with a quantity of 0."""
        return self._settings.list_closed_positions

    @property
    def refuses_balances(self) -> bool:
        """Whether requests for balances are rejected."""
        return self._settings.refuse_balances

    def fills_before_cancel(self) -> bool:
        """Whether a cancel comes too late, and nobody notices."""
        return self._happens(self._settings.late_fill_share)

    def confirm(self, client_id: str, confirmation: Message) -> None:
        """Tell of a cancel instead of the fill of this order that comes with the next news."""
        self._cancelled[client_id] = confirmation

    def tell(self, news: list[Message], now_ns: int) -> list[Message]:
        """The news as clients hear it now."""
        told: list[Message] = []
        if not (news or self._late or self._overtaken):
            return told
        late_fill = False
        for message in news:
            if isinstance(message, dtc.OrderUpdate):
                if message.LastFillQuantity and message.ClientOrderID in self._cancelled:
                    told.append(self._cancelled.pop(message.ClientOrderID))
                    self._late.append(_Held(now_ns + self._late_ns, message))
                    late_fill = True
                else:
                    self._update(message, now_ns, told)
            elif late_fill:  # position and balance would give it away
                self._late.append(_Held(now_ns + self._late_ns, message))
            else:
                told.append(message)
        self._release(now_ns, told)
        return self.dated(told)

    def _update(self, message: Message, now_ns: int, told: list[Message]) -> None:
        settings = self._settings
        if self._happens(settings.lose_share):
            return
        if self._happens(settings.reorder_share):
            self._overtaken.append(_Held(now_ns + self._late_ns, message))
            return
        told.append(message)
        if self._happens(settings.duplicate_share):
            told.append(message)
        told += [held.message for held in self._overtaken]
        self._overtaken.clear()

    def _release(self, now_ns: int, told: list[Message]) -> None:
        """What has waited long enough."""
        if self._overtaken and self._overtaken[0].due_ns <= now_ns:
            told += [held.message for held in self._overtaken]
            self._overtaken.clear()
        while self._late and self._late[0].due_ns <= now_ns:
            told.append(self._late.popleft().message)

    def _happens(self, share: float) -> bool:
        return share > 0.0 and self._rng.random() < share

    # The clock of orders.

    def asked(self, message: Message) -> Message:
        """A request, with the time it names on the market's clock."""
        skew_s = self._settings.clock_skew_s
        if not skew_s or not isinstance(message, dtc.HistoricalOrderFillsRequest) or not message.StartDateTime:
            return message
        moved = copy(message)
        start_s = start_ns(message.StartDateTime) / NS_PER_S
        moved.StartDateTime = max(round(start_s - skew_s), 1)  # type: ignore[misc]  # frozen to checkers only
        return moved

    def dated(self, messages: list[Message]) -> list[Message]:
        """Messages with the times they name on the orders' clock."""
        return [self._dated(message) for message in messages] if self._settings.clock_skew_s else messages

    def _dated(self, message: Any) -> Any:
        fields = _CLOCKS.get(type(message))
        if fields is None:
            return message
        moved = copy(message)
        for name, units in fields.items():
            if value := getattr(message, name):
                setattr(moved, name, type(value)(value + self._settings.clock_skew_s * units))
        return moved


_WORDS = {"true": True, "false": False}


def parse(text: str) -> dict[str, Any]:
    """`split, delay_ms=50` as the settings it stands for: a name alone is switched on. Raises ValueError."""
    faults: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, given, value = (piece.strip() for piece in part.partition("="))
        if name in faults:
            raise ValueError(f"{name} is given twice")
        known = FaultSettings.model_fields.get(name)
        if known is not None and not given and known.annotation is not bool:
            raise ValueError(f"{name} needs a number: {name}=…")
        try:
            faults[name] = _WORDS[value] if value in _WORDS else float(value) if given else True
        except ValueError:
            raise ValueError(f"{part!r} is no fault: write a name, or name=number") from None
    return faults
