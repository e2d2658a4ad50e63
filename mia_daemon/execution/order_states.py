"""The states of an order and what moves it between them: one table.

An order's state is what is known of it. INTENT comes first: journaled, not sent yet. Once sent, only the server's
messages move an order, or the loss of the connection. An order about which nothing certain is known is UNKNOWN until
evidence resolves it: a fill, an order update, or a complete list of open orders with or without it.
"""

from enum import StrEnum
from typing import Final

from mia_daemon.records import OrderReport, OrderStatus


class OrderState(StrEnum):
    """What is known of an order."""

    INTENT = "intent"  # journaled; not known to have left
    SENT = "sent"  # sent, not answered yet
    ACKED = "acked"  # the server has it and is placing it (sent, pending open): as good as working
    HELD = "held"  # the server holds it back until its parent fills (pending child)
    WORKING = "working"
    PARTIAL = "partial"  # working, some of it filled
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    ABSENT = "absent"  # not in a complete list of open orders; the server has not said how it ended
    UNKNOWN = "unknown"  # may be working, filled or dead: blocks new risk until evidence resolves it


DONE = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.ABSENT})
"""Nothing more is expected of an order in these states; later evidence still changes them."""

OPEN_AT_SERVER = frozenset({OrderState.ACKED, OrderState.WORKING, OrderState.PARTIAL})
"""Acknowledged and not ended: it works, or is about to without anything further."""


class Cause(StrEnum):
    """What moves an order from state to state: the server's statuses, fills, our sends, and lost answers."""

    SEND = "send"
    LOSE = "lose"  # the link went down or no answer came in time
    PART_FILL = "part_fill"
    FULL_FILL = "full_fill"
    LISTED = "listed"  # working, in the answer to a query for all open orders: newer than any earlier update
    LISTED_PARTIAL = "listed_partial"  # the same, some of it filled
    LISTED_ACKED = "listed_acked"  # the same of one that is being placed
    LISTED_HELD = "listed_held"  # the same of one that waits for its parent
    ACCEPTED = OrderStatus.ACCEPTED.value
    HELD = OrderStatus.HELD.value
    WORKING = OrderStatus.WORKING.value
    PARTIAL = OrderStatus.PARTIAL.value
    FILLED = OrderStatus.FILLED.value
    CANCELED = OrderStatus.CANCELED.value
    REJECTED = OrderStatus.REJECTED.value
    CANCEL_REJECTED = OrderStatus.CANCEL_REJECTED.value
    REPLACE_REJECTED = OrderStatus.REPLACE_REJECTED.value
    REPLACED = OrderStatus.REPLACED.value
    UNKNOWN_TO_SERVER = OrderStatus.UNKNOWN_TO_SERVER.value


def _table() -> dict[tuple[OrderState, Cause], OrderState]:
    """The state after each state and cause. A row lists the states after, in the order of `columns`."""
    _, sent, acked, held, working, partial, filled, canceled, rejected, absent, unknown = OrderState
    columns = tuple(OrderState)
    rows: dict[Cause, tuple[OrderState, ...]] = {
        # from:       intent   sent     acked    held     working  partial  filled canceled  rejected  absent   unknown
        Cause.SEND: (sent, sent, acked, held, working, partial, filled, canceled, rejected, absent, unknown),
        Cause.LOSE: (unknown, unknown, unknown, unknown, unknown, unknown, filled, canceled, rejected, absent, unknown),
        # A fill proves that the order was working, not that the rest of an unknown order still is.
        Cause.PART_FILL: (
            *(partial, partial, partial, partial, partial, partial, filled, canceled, unknown, unknown, unknown),
        ),
        Cause.FULL_FILL: (filled,) * 11,
        # What the server lists as open is open, even after a cancel was reported; but filled stays filled.
        Cause.LISTED: (
            *(working, working, working, working, working, partial, filled, working, working, working, working),
        ),
        Cause.LISTED_PARTIAL: (
            *(partial, partial, partial, partial, partial, partial, filled, partial, partial, partial, partial),
        ),
        Cause.LISTED_ACKED: (acked, acked, acked, acked, acked, partial, filled, acked, acked, acked, acked),
        Cause.LISTED_HELD: (held, held, held, held, held, partial, filled, held, held, held, held),
        # Updates may come late and out of order: none of them brings a finished order back, none undoes progress. Being
        # placed and being held back may follow each other. An order that was only absent has not ended by the server's
        # word: an update that it lives brings it back.
        Cause.ACCEPTED: (acked, acked, acked, acked, working, partial, filled, canceled, rejected, acked, acked),
        Cause.HELD: (held, held, held, held, working, partial, filled, canceled, rejected, held, held),
        Cause.WORKING: (
            *(working, working, working, working, working, partial, filled, canceled, rejected, working, working),
        ),
        Cause.PARTIAL: (
            *(partial, partial, partial, partial, partial, partial, filled, canceled, unknown, partial, partial),
        ),
        # FILLED counts also after a cancel was confirmed: the fill was overtaken by it.
        Cause.FILLED: (filled,) * 11,
        Cause.CANCELED: (
            *(canceled, canceled, canceled, canceled, canceled, canceled, filled, canceled, rejected, canceled),
            canceled,
        ),
        # REJECTED after working is contradictory (some servers send it for a rejected replace): query the server.
        Cause.REJECTED: (
            *(rejected, rejected, rejected, rejected, unknown, unknown, filled, canceled, rejected, rejected, rejected),
        ),
        # A refused request does not change the order.
        Cause.CANCEL_REJECTED: columns,
        Cause.REPLACE_REJECTED: columns,
        Cause.REPLACED: (
            *(working, working, acked, held, working, partial, filled, canceled, rejected, working, working),
        ),
        # A complete answer without the order, its fills applied already.
        Cause.UNKNOWN_TO_SERVER: (
            *(absent, absent, absent, absent, absent, absent, filled, canceled, rejected, absent, absent),
        ),
    }
    return {(state, cause): after for cause, row in rows.items() for state, after in zip(columns, row, strict=True)}


TRANSITIONS = _table()
"""The state after, for every state and cause."""


def mermaid() -> str:
    """The table as a Mermaid state diagram: one arrow per pair of states, labelled with all its causes."""
    arrows: dict[tuple[OrderState, OrderState], list[str]] = {}
    for (before, cause), after in TRANSITIONS.items():
        if before != after:
            arrows.setdefault((before, after), []).append(cause)
    lines = ["stateDiagram-v2", f"    [*] --> {OrderState.INTENT}"]
    lines += [f"    {before} --> {after}: {', '.join(causes)}" for (before, after), causes in arrows.items()]
    lines += [f"    {state} --> [*]" for state in OrderState if state in DONE]
    return "\n".join(lines)


def cause_of(update: OrderReport) -> Cause:
    """The cause that an update stands for; one that answers a query is newer than any earlier update."""
    listed = _LISTED.get(update.status) if not update.unsolicited else None
    return listed or Cause(update.status.value)


_LISTED: Final = {
    OrderStatus.PARTIAL: Cause.LISTED_PARTIAL,
    OrderStatus.WORKING: Cause.LISTED,
    OrderStatus.REPLACED: Cause.LISTED,
    OrderStatus.ACCEPTED: Cause.LISTED_ACKED,
    OrderStatus.HELD: Cause.LISTED_HELD,
}
