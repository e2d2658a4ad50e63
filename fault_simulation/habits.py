"""The habits of the second venue: ways in which a server may differ from our simulator, each legal alone.

A habit is a name and the fields of `Habits` that it changes. `KINDS` groups the values of one kind: of each kind a
plan takes one at most.
"""

import math
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Any, Final

from mia_daemon.dtc.enums import OrderStatusEnum as Status
from mia_daemon.dtc.messages import UNSET_F64

MOST = 5
"""Habits drawn for one seed, at most."""

INT64_MAX: Final = 2**63 - 1
ODD_SHARE: Final = 0.3  # of the messages that have the odd value
QUIET_EVERY_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How the server behaves; the defaults are those of a plain one.

    Attributes:
        path: statuses reported of a new order before it works; its status stays at the last one until it fills.
        child_path: the same of a bracket's child, while it waits for its parent.
        ack_s: before each of these statuses, and before a change is confirmed.
        name: what updates have as ClientOrderID: same, first (only the first update has it), never, short, case.
        child_numbers_late: a child has no ServerOrderID before its parent has filled.
        replace: same (ServerOrderID kept), renamed (new one, the old one told), anonymous (new one, the old one not
            told), anew (CANCELED, then accepted under a new one), refused.
        parts: an order fills in so many parts, each `part_s` after the one before.
        executions: of the execution ids: same, updates, history (only there), differ, none, per_order (unique within
            their order), per_query (numbered anew in each answer).
        last_fill: updates have the LastFill fields.
        fills_listed: executions are in the answer to the fills query; where not, and without `last_fill`, an order is
            FILLED and no execution is ever told.
        fills_refused: the query for fills is refused.
        position: when position updates follow a fill: before, after, late, never (only when asked).
        position_unset_when_flat: the quantity is then DBL_MAX.
        positions_listed: what a flat account's answer is: zero (a row with 0), none, others (rows of other symbols and
            accounts too).
        child_s: from the parent's fill to the child's work; infinite: never.
        child_rejected: the roles of children refused when the parent fills: stop, target.
        linked: one order of a pair ends or reduces the other.
        link_s: after this time.
        pairs: taken, ignored (no effect and no answer), refused.
        flags: OCOOrdersSupported, BracketOrdersSupported and OrderCancelReplaceSupported of the logon.
        cancel_refused: share of the cancels that are refused.
        cancel_silent: share of the cancels that have no effect and no answer.
        others_listed: orders of others in the answer about open orders: "", nameless, named, elsewhere (other symbol
            and account), ours (names as the daemon makes them).
        done_listed: this answer has orders that are done, too.
        listed_status: orders in this answer have a status; else 0.
        empty_silent: this answer does not come when there is no order.
        symbol, account: their spelling in updates and lists; None: as in the request.
        times: ms, zero, behind (6 h), ahead (2 h), day_ahead, max (DBL_MAX), nan.
        odd: message, field and value: in a share of these messages the field has this value.
        flatten: named, nameless, refused, silent.
        exits_refused: single orders that are neither entries nor stops are refused.
        reasons: updates have their own reason; else GENERAL_ORDER_UPDATE.
        fill_status: updates about fills have a status; else 0.
        copies: how often each update is sent.
        update_s: all order updates are this late; positions and balances are not.
        balance: told, refused.
        answer_s: before each answer to a query; queries are answered one after the other.
        multiplier: DisplayPriceMultiplier: prices on the wire are the displayed ones divided by it.
        numbered: unsolicited messages have TotalNumMessages and MessageNumber 1.
        forgets: a crash wipes the numbering of orders and executions, and the list of fills.
        closed_while_away: a person closes the position, and cancels what works, as soon as no client is connected.
        quiet_s: for so long no prices come, in every `QUIET_EVERY_S`, while the market moves on.
    """

    path: tuple[Status, ...] = (Status.ORDER_STATUS_PENDING_OPEN, Status.ORDER_STATUS_OPEN)
    child_path: tuple[Status, ...] = (Status.ORDER_STATUS_PENDING_CHILD,)
    ack_s: float = 0.002
    name: str = "same"
    child_numbers_late: bool = False
    replace: str = "same"
    parts: int = 1
    part_s: float = 0.0
    executions: str = "same"
    last_fill: bool = True
    fills_listed: bool = True
    fills_refused: bool = False
    position: str = "after"
    position_unset_when_flat: bool = False
    positions_listed: str = "zero"
    child_s: float = 0.0
    child_rejected: tuple[str, ...] = ()
    linked: bool = True
    link_s: float = 0.0
    pairs: str = "taken"
    flags: tuple[int, int, int] = (1, 1, 1)
    cancel_refused: float = 0.0
    cancel_silent: float = 0.0
    others_listed: str = ""
    done_listed: bool = False
    listed_status: bool = True
    empty_silent: bool = False
    symbol: str | None = None
    account: str | None = None
    times: str = "ms"
    odd: tuple[str, str, float | int] | None = None
    flatten: str = "named"
    exits_refused: bool = False
    reasons: bool = True
    fill_status: bool = True
    copies: int = 1
    update_s: float = 0.0
    balance: str = "told"
    answer_s: float = 0.0
    multiplier: float = 1.0
    numbered: bool = False
    forgets: bool = False
    closed_while_away: bool = False
    quiet_s: float = 0.0


Values = dict[str, dict[str, Any]]
"""By the name of a habit, the fields that it changes."""


def _odd(message: str, **fields: tuple[float | int, ...]) -> Values:
    return {
        f"odd {message}.{field} {value:g}": {"odd": (message, field, value)}
        for field, values in fields.items()
        for value in values
    }


_PENDING_OPEN, _SENT, _OPEN = (
    Status.ORDER_STATUS_PENDING_OPEN,
    Status.ORDER_STATUS_ORDER_SENT,
    Status.ORDER_STATUS_OPEN,
)
_NAN, _MAX = (math.nan,), (UNSET_F64,)

KINDS: Final[dict[str, Values]] = {
    "path": {
        "path open": {"path": (_OPEN,)},
        "path pending open": {"path": (_PENDING_OPEN,)},
        "path sent": {"path": (_SENT,)},
        "path sent, pending, open": {"path": (_SENT, _PENDING_OPEN, _OPEN)},
    },
    "children": {
        "children pending open": {"child_path": (_PENDING_OPEN,)},
        "children sent": {"child_path": (_SENT,)},
        "children sent, then waiting": {"child_path": (_SENT, Status.ORDER_STATUS_PENDING_CHILD)},
    },
    "acknowledged": {f"acknowledged after {s:g} s": {"ack_s": s} for s in (0.1, 0.3, 0.6, 1.2)},
    "names": {f"names {value}": {"name": value} for value in ("first", "never", "short", "case")},
    "child numbers": {"child numbers late": {"child_numbers_late": True}},
    "replace": {f"replace {value}": {"replace": value} for value in ("renamed", "anonymous", "anew", "refused")},
    "parts": {
        "fills in 3 parts": {"parts": 3, "part_s": 0.15},
        "fills one by one": {"parts": 1_000, "part_s": 0.0},
    },
    "executions": {
        f"executions {value}": {"executions": value}
        for value in ("updates", "history", "differ", "none", "per_order", "per_query")
    },
    "fills": {
        "fills only listed": {"last_fill": False},
        "fills only in updates": {"fills_listed": False},
        "fills never told": {"last_fill": False, "fills_listed": False},
        "fills query refused": {"fills_refused": True},
    },
    "position": {
        **{f"position {value}": {"position": value} for value in ("before", "late", "never")},
        "position unset when flat": {"position_unset_when_flat": True},
    },
    "positions": {f"positions {value}": {"positions_listed": value} for value in ("none", "others")},
    "activation": {
        "children work after 0.4 s": {"child_s": 0.4},
        "children work after 2 s": {"child_s": 2.0},
        "children never work": {"child_s": math.inf},
        "stop rejected": {"child_rejected": ("stop",)},
        "target rejected": {"child_rejected": ("target",)},
        "both children rejected": {"child_rejected": ("stop", "target")},
    },
    "pairs": {
        "pairs linked after 0.3 s": {"link_s": 0.3},
        "pairs not linked": {"linked": False},
        "pairs ignored": {"pairs": "ignored"},
        "pairs refused": {"pairs": "refused"},
        "pairs not supported": {"pairs": "refused", "flags": (0, 0, 1)},
        "brackets not supported": {"pairs": "refused", "flags": (1, 0, 1)},
        "replace not supported": {"replace": "refused", "flags": (1, 1, 0)},
    },
    "cancel": {
        "cancels refused in part": {"cancel_refused": 0.4},
        "cancels silent in part": {"cancel_silent": 0.4},
    },
    "others": {f"others {value}": {"others_listed": value} for value in ("nameless", "named", "elsewhere", "ours")},
    "listing": {
        "done orders listed": {"done_listed": True},
        "no orders silent": {"empty_silent": True},
        "orders listed without status": {"listed_status": False},
    },
    "symbol": {
        "symbol blank": {"symbol": ""},
        "symbol other": {"symbol": "ESZ26-CME"},
        "symbol other case": {"symbol": "ESZ26_fut_cme"},
    },
    "account": {
        "account blank": {"account": ""},
        "account other": {"account": "Sim1 (simulated)"},
        "account other case": {"account": "sIM1"},
    },
    "times": {f"times {value}": {"times": value} for value in ("zero", "behind", "ahead", "day_ahead", "max", "nan")},
    "odd": {
        **_odd("OrderUpdate", Price1=_NAN, OrderQuantity=_NAN + _MAX, FilledQuantity=_NAN, AverageFillPrice=_NAN),
        **_odd("OrderUpdate", RemainingQuantity=_NAN, LastFillPrice=_NAN, LastFillQuantity=_NAN),
        **_odd("OrderUpdate", LastFillDateTime=(INT64_MAX,), OrderReceivedDateTime=(INT64_MAX,)),
        **_odd("OrderUpdate", GoodTillDateTime=(INT64_MAX,), LatestTransactionDateTime=_NAN + _MAX),
        **_odd("HistoricalOrderFillResponse", Price=_NAN + _MAX, Quantity=_NAN + _MAX, DateTime=(INT64_MAX,)),
        **_odd("PositionUpdate", Quantity=_NAN + _MAX, AveragePrice=_NAN + _MAX),
        **_odd("AccountBalanceUpdate", CashBalance=_NAN + _MAX, TransactionDateTime=(INT64_MAX,)),
    },
    "flatten": {
        **{f"flatten {value}": {"flatten": value} for value in ("nameless", "refused", "silent")},
        "exits refused": {"flatten": "refused", "exits_refused": True},
    },
    "reasons": {"reasons general": {"reasons": False}},
    "fill status": {"fills without status": {"fill_status": False}},
    "copies": {"updates twice": {"copies": 2}},
    "late": {"updates 0.3 s late": {"update_s": 0.3}, "updates 0.8 s late": {"update_s": 0.8}},
    "balance": {"balance refused": {"balance": "refused"}},
    "answers": {"answers after 0.2 s": {"answer_s": 0.2}, "answers after 0.5 s": {"answer_s": 0.5}},
    "prices": {"prices in hundredths": {"multiplier": 0.01}},
    "numbered": {"updates numbered": {"numbered": True}},
    "memory": {"numbers begin again": {"forgets": True}},
    "prices come": {"prices pause": {"quiet_s": 6.0}},
    "away": {"position closed while away": {"closed_while_away": True}},
}

CHANGES: Final = MappingProxyType({name: changes for values in KINDS.values() for name, changes in values.items()})
"""Every habit by its name."""

UNLISTED: Final = frozenset({
    "fills query refused", "fills never told", "fills only in updates", *KINDS["memory"],
})  # fmt: skip
"""Habits under which past executions can't be asked for, at least not after a crash of the server."""

EXECUTIONS_DIFFER: Final = frozenset({
    *(name for name in KINDS["executions"]),
    *(name for name in KINDS["fills"]),
    *(name for name in KINDS["odd"] if "Price" in name or "Quantity" in name),
    *KINDS["memory"],
})  # fmt: skip
"""Habits under which the journal can't have each execution as the server has it: contracts per order are compared."""

LONGER_BARE_S: Final = {
    "children work after 0.4 s": 0.4,
    "children work after 2 s": 1.5,  # children that wait are taken to work, for a second
    "children never work": 1.5,
    "pairs ignored": 1.5,  # for a second it may be a late acknowledgement
    "acknowledged after 0.6 s": 0.6,  # a refused child is told after that
    "acknowledged after 1.2 s": 1.2,
    "updates 0.3 s late": 0.3,
    "updates 0.8 s late": 0.8,
    "cancels refused in part": 1.5,  # an order that covers is cancelled before the next is sent
    "cancels silent in part": 3.0,
    "no orders silent": 1e6,  # no comparison ends, so a position that somebody else opens is never ours
    "answers after 0.2 s": 0.8,  # four answers, one after the other, before a stop is disproved
    "answers after 0.5 s": 2.0,
}
"""How much longer than `world.BARE_S` a position may be bare under a habit that hides it from the daemon so long."""

SLOW: Final = {"acknowledged after 0.6 s": 0.4, "acknowledged after 1.2 s": 0.25, "fills one by one": 0.1}
"""Habits that leave less time to trade: the share of the plain venue's contracts that is still to be filled."""

EXPECTED_HALT: Final = {
    "names never": "nothing of ours comes back under its name",
    "names short": "as above",
    "names case": "as above",
    "fills never told": "fills booked at the average price, without an execution",
    "fills query refused": "an interrupted fill can't be found out",
    "position unset when flat": "beyond what a server may do: the position is not known",
    "children never work": "protection that the server does not carry out",
    "stop rejected": "the same",
    "target rejected": "the same",
    "both children rejected": "the same",
    "pairs not linked": "two orders close one position",
    "pairs ignored": "brackets have no effect: broker.brackets = client is offered",
    "pairs refused": "the same",
    "pairs not supported": "the start is refused, or pairs are kept by us",
    "brackets not supported": "the same",
    "replace refused": "an exit can't be moved",
    "replace not supported": "the same",
    "cancels silent in part": "orders whose end is unknown",
    "others ours": "another daemon trades this account",
    "no orders silent": "no snapshot can be complete",
    "symbol blank": "the names differ from the settings",
    "symbol other": "the same",
    "symbol other case": "the same",
    "account blank": "the same",
    "account other": "the same",
    "account other case": "the same",
    "times nan": "beyond what a server may do",
    "flatten refused": "a position that the server refuses to close",
    "flatten silent": "the same",
    "exits refused": "the same",
    **dict.fromkeys(KINDS["odd"], "a value that makes no sense"),
}
"""Habits under which the daemon may stop trading, and what it has to say; under all others it has to trade."""


def names_of(rng: Random) -> tuple[str, ...]:
    """Draw the habits of one seed: 0 to `MOST`, of different kinds that do not contradict each other."""
    count = rng.randint(0, MOST)
    names: list[str] = []
    fields: set[str] = set()
    for kind in rng.sample(sorted(KINDS), count):
        name = rng.choice(sorted(KINDS[kind]))
        if {"child_s", "child_path"} <= fields | CHANGES[name].keys():
            continue  # told as pending open, a child that never works can't be told from one that works
        if fields.isdisjoint(CHANGES[name]):
            names.append(name)
            fields |= CHANGES[name].keys()
    return tuple(sorted(names))


def habits_of(names: tuple[str, ...]) -> Habits:
    """The behaviour with the habits of these names. Raises KeyError for one that does not exist."""
    habits = Habits()
    for name in names:
        habits = replace(habits, **CHANGES[name])
    return habits
