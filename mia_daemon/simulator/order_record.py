"""The record of all order traffic, `orders.jsonl`: what was received, rejected, filled and cancelled, in order."""

import math
from collections.abc import Callable
from typing import Any

from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.account_reports import FillRecord
from mia_daemon.simulator.client_order import OrderEvent


class OrderRecord:
    """Makes the lines of the record.

    Args:
        now_ns: exchange time.

    Attributes:
        lines: since the caller last cleared them.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.lines: list[dict[str, Any]] = []
        self._now_ns = now_ns

    def add_request(self, message: Message) -> None:
        """An order message, with the fields that the client has set."""
        self._add("received", type=type(message).__name__, **_stated(message))

    def add_ignored(self, client_id: str, text: str) -> None:
        """A request without effect and answer."""
        self._add("ignored", ClientOrderID=client_id, text=text)

    def add_reject(self, client_id: str, server_id: str, text: str) -> None:
        """A new order that was rejected."""
        self._add("reject", ClientOrderID=client_id, ServerOrderID=server_id, text=text)

    def add_cancel(self, event: OrderEvent) -> None:
        """An order that was cancelled."""
        self._add("cancel", ClientOrderID=event.client_id, ServerOrderID=event.server_id, text=event.text)

    def add_fill(self, fill: FillRecord, price: float) -> None:
        """An execution; its price as messages have it."""
        self._add(
            "fill",
            ClientOrderID=fill.client_id,
            ServerOrderID=fill.server_id,
            ExecutionID=fill.execution_id,
            side=fill.side,
            quantity=fill.quantity,
            price=price,
            position=fill.position,
        )

    def _add(self, kind: str, **facts: Any) -> None:
        self.lines.append({"ts_ns": self._now_ns(), "kind": kind, **facts})


def _stated(message: Message) -> dict[str, Any]:
    """The fields a client has set, as JSON can hold them."""
    blank = type(message)()
    facts = {f.name: getattr(message, f.name) for f in message.LAYOUT.fields}
    return {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in facts.items()
        if value != getattr(blank, name)
    }
