"""What must hold in every state, and between a state and the next. Each check returns what is wrong, "" if nothing is.

The checks go by the server's orders and by what was delivered, not by the table that they check.
"""

from collections.abc import Sequence
from typing import Final

from mia_daemon.execution.order_states import OrderState
from model_check.our_order import OurOrder
from model_check.ours import Ours
from model_check.venue import ALIVE, HELD, NAMES, OPEN, ORDERS, PENDING, STOP, Answer, Server, ServerOrder, Update

Evidence = tuple[str, str, str]
"""Of entry, stop and target: what the server has told last and nothing has put in doubt since: one of the following."""

NOTHING, TOLD_HELD, TOLD_PLACED, TOLD_OPEN, TOLD_ENDED = "", "held", "placed", "open", "ended"
NO_EVIDENCE: Final[Evidence] = (NOTHING, NOTHING, NOTHING)

_TOLD_BY: Final = {
    "held": TOLD_HELD,
    "accepted": TOLD_PLACED,
    "working": TOLD_OPEN,
    "partial": TOLD_OPEN,
    "replaced": TOLD_OPEN,
    "canceled": TOLD_ENDED,
    "rejected": TOLD_ENDED,
    "filled": TOLD_ENDED,
}
_ALIVE_TOLD: Final = frozenset({TOLD_HELD, TOLD_PLACED, TOLD_OPEN})
_ENDED: Final = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED})
NOT_LIVE: Final = _ENDED | {OrderState.ABSENT}
_COVER: Final = frozenset({OrderState.ACKED, OrderState.WORKING, OrderState.PARTIAL})
_UNFILLED: Final = frozenset(
    {OrderState.INTENT, OrderState.SENT, OrderState.ACKED, OrderState.HELD, OrderState.WORKING, OrderState.REJECTED}
)


# What was told.


def told_by_update(evidence: Evidence, update: Update) -> Evidence:
    """The evidence after an update was delivered.

    What has ended lives again only by a list. What is being placed and what is held back may follow each other, so the
    later of the two counts; neither takes back that an order was open. A replace leaves it as it is.
    """
    before, told = evidence[update.order], _TOLD_BY.get(update.status, NOTHING)
    if told == TOLD_ENDED:
        return _with(evidence, update.order, told)
    keeps = before in {TOLD_OPEN, TOLD_ENDED} or (before != NOTHING and update.status == "replaced")
    return evidence if keeps or told == NOTHING else _with(evidence, update.order, told)


def told_by_answer(evidence: Evidence, answer: Answer, before: Ours, after: Ours) -> Evidence:
    """The evidence after a complete answer. It proves nothing about an order that changed after it was asked for."""
    if not before.asking:
        return evidence
    listed = {update.order: _TOLD_BY[update.status] for update in answer.listed}
    for place in ORDERS:
        was, now = before.orders[place], after.orders[place]
        if was is None or was.changed:
            continue
        told = listed.get(place, NOTHING)
        if told == NOTHING and (now is None or now.state in _ENDED):
            told = TOLD_ENDED if evidence[place] == TOLD_ENDED else NOTHING
        evidence = _with(evidence, place, told)
    return evidence


def doubted(evidence: Evidence, places: Sequence[int]) -> Evidence:
    """The evidence after these orders became unknown."""
    for place in places:
        if evidence[place] != TOLD_ENDED:
            evidence = _with(evidence, place, NOTHING)
    return evidence


def _with(evidence: Evidence, place: int, told: str) -> Evidence:
    changed = [*evidence]
    changed[place] = told
    return changed[0], changed[1], changed[2]


# Between a state and the next.


def undone(before: Ours, after: Ours, delivered: Update | Answer | None, *, restarted: bool) -> str:
    """Progress that was undone: a contract booked is not any more, or a finished order came back without a list.

    A restart asks again about an order of which a fill is missing.
    """
    for place, name in enumerate(NAMES):
        if after.rows[place].booked < before.rows[place].booked:
            return f"{name}: {before.rows[place].booked} were booked, now {after.rows[place].booked}"
        was, now = before.orders[place], after.orders[place]
        if now is None or (restarted and (was is None or was.reported > was.booked)):
            continue
        if was is None:
            if isinstance(delivered, Update):
                return f"{name} was done and forgotten, and came back by an update"
        elif was.state is OrderState.FILLED and now.state is not OrderState.FILLED:
            return f"{name} was filled, now it is {now.state}"
        elif was.state in _ENDED and now.state not in NOT_LIVE and not _may_return(place, now, delivered):
            return f"{name} was {was.state}, and came back as {now.state}"
        elif was.state is OrderState.PARTIAL and now.state in _UNFILLED:
            return f"{name} was partly filled, now it is {now.state}"
    return ""


def _may_return(place: int, now: OurOrder, delivered: Update | Answer | None) -> bool:
    """A list brings a finished order back; an execution after a rejection is contradictory, so it becomes unknown."""
    if isinstance(delivered, Answer):
        return any(update.order == place for update in delivered.listed)
    return now.state is OrderState.UNKNOWN and delivered is not None and delivered.filled > 0


# In every state.


def wrong(ours: Ours, evidence: Evidence, protection: int, server: Server) -> str:
    """What is booked that never happened, known to live and forgotten, or known to protect and not counted."""
    if ours.drift:
        return f"a position of {ours.drift:+d} was taken over, though nobody else trades"
    for place, name in enumerate(NAMES):
        one, there, row = ours.orders[place], server.orders[place], ours.rows[place]
        if said := _too_much(one, there, row.booked):
            return f"{name}: {said}"
        if one is not None and one.booked and one.state in _UNFILLED - {OrderState.REJECTED}:
            return f"{name}: {one.booked} are booked, and it is {one.state}"
        alive = there.status in ALIVE and evidence[place] in _ALIVE_TOLD
        if alive and (one is None or one.state in NOT_LIVE):
            return f"{name} lives at the server, which has told so, and is {one.state if one else 'forgotten'}"
    return _cover(ours.orders[STOP], evidence[STOP], protection, server.orders[STOP])


def _too_much(one: OurOrder | None, there: ServerOrder, booked: int) -> str:
    if booked > there.filled:
        return f"{booked} booked, {there.filled} filled"
    if one is not None and one.booked != booked:
        return f"{one.booked} booked, {booked} on file"
    if one is not None and one.reported > there.filled:
        return f"{one.reported} reported as filled, {there.filled} filled"
    return ""


def _cover(one: OurOrder | None, told: str, protection: int, there: ServerOrder) -> str:
    if told not in {TOLD_PLACED, TOLD_OPEN} or there.status not in {PENDING, OPEN} or one is None:
        return ""
    rest = max(min(there.quantity, one.quantity) - there.filled, 1)
    if protection < rest:
        return f"the stop works for {rest} contracts, which was told, and counts for {protection} (it is {one.state})"
    return ""


def disagreement(ours: Ours, server: Server) -> str:
    """How our orders, after complete answers, differ from the server's."""
    for place, name in enumerate(NAMES):
        one, there, row = ours.orders[place], server.orders[place], ours.rows[place]
        if row.booked != there.filled:
            return f"{name}: {row.booked} booked, {there.filled} filled"
        if there.status in ALIVE:
            if one is None or one.state is not _state(there):
                return f"{name} is {_state(there)} at the server, and here {one.state if one else 'forgotten'}"
            facts = (one.quantity, one.server_order_id)
            theirs = (there.quantity, str(10 * (place + 1) + there.replaces))
            if facts != theirs:
                return f"{name}: quantity and number are {theirs}, here {facts}"
        elif one is not None and (one.state not in NOT_LIVE or one.reported > row.booked):
            return f"{name} has ended at the server, and here it is {one.state}"
    return ""


def _state(there: ServerOrder) -> OrderState:
    if there.status == OPEN:
        return OrderState.PARTIAL if there.filled else OrderState.WORKING
    return {HELD: OrderState.HELD, PENDING: OrderState.ACKED}[there.status]
