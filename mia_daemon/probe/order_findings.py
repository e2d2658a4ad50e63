"""What the orders of a probe showed."""

from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderStatusEnum, OrderUpdateReasonEnum
from mia_daemon.probe.evidence import WORKING, Change, Evidence, OrderStory
from mia_daemon.probe.findings import Finding, differs, either, holds, unknown

MAX_CLOCK_DIFFERENCE_S: Final = 5.0
"""By which the times of a server may differ from ours and still be called right."""

_SHORT: Final[dict[int, str]] = {
    OrderStatusEnum.ORDER_STATUS_ORDER_SENT: "sent",
    OrderStatusEnum.ORDER_STATUS_PENDING_OPEN: "pending open",
    OrderStatusEnum.ORDER_STATUS_PENDING_CHILD: "pending child",
    OrderStatusEnum.ORDER_STATUS_OPEN: "open",
    OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL_REPLACE: "pending replace",
    OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL: "pending cancel",
    OrderStatusEnum.ORDER_STATUS_FILLED: "filled",
    OrderStatusEnum.ORDER_STATUS_CANCELED: "canceled",
    OrderStatusEnum.ORDER_STATUS_REJECTED: "rejected",
    OrderStatusEnum.ORDER_STATUS_PARTIALLY_FILLED: "partially filled",
}


def order_findings(found: Evidence) -> list[Finding]:
    """About single orders, pairs and brackets; empty where none was sent."""
    if found.limit is None:
        return []
    first = _first_order(found.limit)
    if not found.limit.is_known:
        return first
    return [
        *first,
        *_updates(found),
        _listed(found),
        *_replace(found),
        *_cancels(found),
        *_pair(found),
        *_bracket(found),
        either(
            "nothing_filled",
            true=not any(story.filled for story in found.stories),
            text="no order of the probe filled",
            otherwise="an order of the probe filled although it was far from the market: its price was misread",
        ),
    ]


def _first_order(story: OrderStory) -> list[Finding]:
    path = _path(story)
    if not story.updates:
        return [differs("order_works", "a limit order was not reported at all")]
    if not story.is_known:
        text = next((m.InfoText for m in story.messages if m.InfoText), "no reason given")
        return [differs("order_works", f"a limit order was rejected ({text})")]
    works = bool(WORKING & set(story.statuses))
    return [
        either(
            "order_works",
            true=works,
            text=f"a limit order works: {path}",
            otherwise=f"a limit order was accepted and did not come to work: {path}",
        )
    ]


def _path(story: OrderStory) -> str:
    return ", ".join(_SHORT.get(status, str(status)) for status in story.statuses)


def _updates(found: Evidence) -> list[Finding]:
    """What every update of our orders says."""
    messages = [message for story in found.stories for message in story.reports]
    nameless = sum(not message.ClientOrderID for message in messages)
    unnumbered = sum(not message.ServerOrderID for message in messages)
    return [
        either(
            "names_returned",
            true=not nameless,
            text="every update of an order carries its ClientOrderID",
            otherwise=f"{nameless} of {len(messages)} updates carry no ClientOrderID: the daemon goes by ServerOrderID",
        ),
        either(
            "numbers_given",
            true=not unnumbered,
            text="every update of an order carries a ServerOrderID",
            otherwise=f"{unnumbered} of {len(messages)} updates carry no ServerOrderID: "
            "such an order can't be cancelled until it has one",
        ),
        _price_returned(found),
        _times(found),
        either(
            "updates_unsolicited",
            true=all(message.RequestID == 0 for message in messages),
            text="updates that nobody asked for carry no RequestID",
            otherwise="updates that nobody asked for carry a RequestID: the daemon goes by their reason",
        ),
    ]


def _price_returned(found: Evidence) -> Finding:
    assert found.limit is not None
    sent = found.limit.sent_price
    first = [m.Price1 for m in found.limit.messages if 0.0 < m.Price1 < dtc.UNSET_F64]
    if not first:
        return unknown("price_returned", "updates name no price")
    return either(
        "price_returned",
        true=abs(first[0] - sent) < 1e-6 * sent,
        text=f"a price is reported as it was sent ({sent:g})",
        otherwise=f"a price sent as {sent:g} is reported as {first[0]:g}: the daemon would take it for another price",
    )


def _times(found: Evidence) -> Finding:
    """The server's clock against ours, by the update that comes closest."""
    updates = [one for story in found.stories for one in story.updates]
    differences = [
        one.message.LatestTransactionDateTime - one.at_ns / NS_PER_S
        for one in updates
        if 0.0 < one.message.LatestTransactionDateTime < dtc.UNSET_F64
    ]
    if not differences:
        return differs("times_given", "updates carry no time: the daemon takes the time at which they come")
    nearest = min(differences, key=abs)
    return either(
        "times_given",
        true=abs(nearest) <= MAX_CLOCK_DIFFERENCE_S,
        text=f"updates carry the time, {abs(nearest):.1f} s from ours",
        otherwise=f"times of updates are {_span(abs(nearest))} {'ahead of' if nearest > 0 else 'behind'} ours: "
        "the daemon measures that, and asks for fills by the server's clock",
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"


def _listed(found: Evidence) -> Finding:
    assert found.limit is not None
    story = found.limit
    mine = [m for m in found.limit_listed.messages if story.is_about(m, alone=False)]
    if not found.limit_listed.given:
        return differs("working_listed", "open orders were not listed while an order worked")
    if not mine:
        return differs("working_listed", "a working order is missing in the list of open orders")
    return either(
        "working_listed",
        true=bool(mine[0].ClientOrderID),
        text="the list of open orders has a working order, with its ClientOrderID",
        otherwise="the list of open orders has a working order without its ClientOrderID",
    )


def _replace(found: Evidence) -> list[Finding]:
    change, story = found.replace, found.limit
    assert story is not None
    if not change.answers:
        return [differs("replace_confirmed", "a replace was not answered")]
    if change.refused:
        return [differs("replace_confirmed", f"a replace was rejected ({_text(change)})")]
    reasons = {answer.OrderUpdateReason for answer in change.answers}
    confirmed = OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_COMPLETE in reasons
    numbers = [answer.ServerOrderID for answer in change.answers if answer.ServerOrderID]
    previous = any(answer.PreviousServerOrderID for answer in change.answers)
    renamed = len(story.server_ids) > 1 and numbers[-1:] == [story.server_id]
    return [
        either(
            "replace_confirmed",
            true=confirmed and not change.ended,
            text="a replace is confirmed as such",
            otherwise="a replace is reported as "
            + ("a cancel and a new order" if change.ended else "another kind of update"),
        ),
        either(
            "replace_keeps_number",
            true=not renamed,
            text="a replaced order keeps its ServerOrderID",
            otherwise="a replaced order gets a new ServerOrderID, "
            + ("and PreviousServerOrderID names the old one" if previous else "and nothing names the old one"),
        ),
    ]


def _cancels(found: Evidence) -> list[Finding]:
    return [
        _wrong_cancel("unknown_cancel_refused", found.cancel_unknown, "a ServerOrderID that no order has"),
        _wrong_cancel("unnumbered_cancel", found.cancel_unnumbered, "a ClientOrderID and no ServerOrderID"),
        _wrong_cancel("misnamed_cancel", found.cancel_misnamed, "a right ServerOrderID and a wrong ClientOrderID"),
        _cancel("cancel_confirmed", found.cancel, "a cancel"),
        _wrong_cancel("second_cancel_refused", found.cancel_again, "an order that is cancelled already"),
    ]


def _wrong_cancel(code: str, change: Change, named: str) -> Finding:
    """Documented: every request is answered, and one that names an order wrongly is rejected."""
    if not change.asked:
        return unknown(code, f"a cancel that names {named} was not sent")
    if change.refused:
        return holds(code, f"a cancel that names {named} is rejected")
    if change.ended:
        return differs(code, f"a cancel that names {named} is carried out")
    if change.answers:
        return differs(code, f"a cancel that names {named} brings an update that neither confirms nor rejects it")
    return differs(code, f"a cancel that names {named} is ignored without an answer")


def _cancel(code: str, change: Change, what: str) -> Finding:
    if not change.asked:
        return unknown(code, f"{what} was not sent")
    if change.refused and not change.ended:
        return differs(code, f"{what} was rejected ({_text(change)})")
    return either(code, true=change.ended, text=f"{what} is confirmed", otherwise=f"{what} was not confirmed in time")


def _text(change: Change) -> str:
    return next((answer.InfoText for answer in change.answers if answer.InfoText), "no reason given")


def _pair(found: Evidence) -> list[Finding]:
    if not found.pair:
        return [unknown("pair_accepted", "no OCO pair was sent")]
    rejected = [story for story in found.pair if not story.is_known]
    if rejected:
        text = next((m.InfoText for story in rejected for m in story.messages if m.InfoText), "not reported")
        return [differs("pair_accepted", f"an OCO pair was not accepted ({text})")]
    paths = "; ".join(_path(story) for story in found.pair)
    both_ended = not any(story.may_live for story in found.pair)
    return [
        holds("pair_accepted", f"an OCO pair is accepted: {paths}"),
        either(
            "pair_linked",
            true=both_ended,
            text="cancelling one order of a pair without a parent cancels the other",
            otherwise="cancelling one order of a pair without a parent leaves the other working",
        ),
    ]


def _bracket(found: Evidence) -> list[Finding]:
    if not found.bracket:
        return [unknown("bracket_accepted", "no bracket was sent")]
    children = found.bracket[1:]
    rejected = [story for story in found.bracket if not story.is_known]
    if rejected:
        text = next((m.InfoText for story in rejected for m in story.messages if m.InfoText), "not reported")
        names = ", ".join(story.order.role for story in rejected)
        return [
            differs(
                "bracket_accepted",
                f"{names} of a bracket not accepted ({text}): "
                'broker.brackets = "client" has the daemon link orders itself',
            )
        ]
    held = OrderStatusEnum.ORDER_STATUS_PENDING_CHILD
    worked = work_early(found)
    return [
        holds("bracket_accepted", f"a bracket is accepted: {'; '.join(_path(story) for story in found.bracket)}"),
        either(
            "children_held",
            true=not worked and all(held in story.statuses for story in children),
            text="stop and target wait for the entry's fill as pending child",
            otherwise="stop or target work before the entry has filled"
            if worked
            else "stop and target wait for the entry's fill, but are not reported as pending child",
        ),
        either(
            "bracket_cancelled",
            true=not any(story.may_live for story in found.bracket),
            text="cancelling the entry cancels its stop and target",
            otherwise="after a cancel of the entry, "
            + (", ".join(story.order.role for story in found.bracket if story.may_live))
            + " may still be there",
        ),
    ]


def work_early(found: Evidence) -> bool:
    """Stop or target of a bracket worked although their entry had not filled."""
    return any(WORKING & set(story.statuses) for story in found.bracket[1:])


def links_brackets(found: Evidence) -> bool:
    """The server says that it links orders, and what became of a bracket does not contradict that."""
    says_so = bool(found.logon.OCOOrdersSupported and found.logon.BracketOrdersSupported)
    return says_so and all(story.is_known for story in found.bracket) and not work_early(found)
