"""Why new risk is refused: one code per control, and the values in which verdicts and latches travel.

The identifiers in brackets are those of the controls in docs/risk.md, which is generated from `RiskCode`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from mia_daemon.clock import iso_utc


class RiskCode(StrEnum):
    """A control's verdict. The text after each code is what its table in the documentation says."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = "ok", "nothing stands against it"

    # nonsense: refused even where the order would reduce the position
    NOT_FINITE = "not_finite", "an order's price is NaN or infinite, or a fact a limit needs is (P3, P14)"
    ORDER_INVALID = "order_invalid", "no quantity, no price, a price off the tick grid, or a role that does not fit"
    UNKNOWN_SYMBOL = "unknown_symbol", "the order's symbol is not the configured one (P11)"
    UNKNOWN_ACCOUNT = "unknown_account", "the order's account is not the configured one (P11)"
    DUPLICATE_ORDER = "duplicate_order", "the client order id was used, or the same entry was just approved (P6)"
    NOT_REDUCING = "not_reducing", "an order meant to close is larger than the position or on its own side"

    # the order itself
    MARKET_ORDER = "market_order", "entries are limit orders with a maximum slippage, never market orders (P16)"
    UNPROTECTED = "unprotected", "an entry without a stop and a target that close exactly what it opens"
    ORDER_SIZE = "order_size", "more contracts than max_order_contracts (P1)"
    PRICE_COLLAR = "price_collar", "further from the touch than max_price_deviation_ticks (P3)"
    POSITION_LIMIT = "position_limit", "position and all working orders of that side exceed max_position_contracts (P7)"
    ORDER_RATE = "order_rate", "max_orders_per_minute reached; cancels are never counted against it (P4)"

    # what is known of the world
    LINK_DOWN = "link_down", "the order connection is down"
    UNKNOWN_ORDERS = "unknown_orders", "the fate of an order is unknown, or the last reconciliation failed (P17)"
    NO_PRICE = "no_price", "there is no two-sided touch (P13)"
    STALE_PRICE = "stale_price", "the touch is older than max_price_age_s (P13)"
    CROSSED_MARKET = "crossed_market", "the bid is not below the ask (P13)"
    WIDE_SPREAD = "wide_spread", "the spread exceeds max_spread_ticks (P13)"
    NO_PREDICTION = "no_prediction", "an entry without the prediction that asked for it (P14)"
    ACTION_RANGE = "action_range", "the policy's action or the probability lies outside its range (P14)"
    OUT_OF_TRAINING_RANGE = "out_of_training_range", "too many inputs lie beyond what the model has seen (P14)"
    SLOW_INFERENCE = "slow_inference", "inference took longer than max_inference_ms (P14)"

    # latches: they stay until an operator's resume
    DAILY_LOSS = "daily_loss", "realised and unrealised loss of the trading day reached max_daily_loss (P9)"
    DRAWDOWN = "drawdown", "drawdown from peak equity reached max_drawdown_share (P10)"
    CONSECUTIVE_LOSSES = "consecutive_losses", "max_consecutive_losses trades in a row lost (P10)"
    CONSECUTIVE_REJECTS = "consecutive_rejects", "max_consecutive_rejects orders in a row were refused (P10)"
    HALTED = "halted", "an operator or a failure halted trading (A1)"

    # trade windows
    MARKET_CLOSED = "market_closed", "the exchange is closed (P12)"
    OUTSIDE_SESSION = "outside_session", "outside the configured sessions (P12)"
    NEAR_CLOSE = "near_close", "the session closes within no_entry_before_close_s (P12)"
    MACRO_EVENT = "macro_event", "an announcement of high impact is near (P12)"


LATCHING = frozenset(
    {
        RiskCode.DAILY_LOSS,
        RiskCode.DRAWDOWN,
        RiskCode.CONSECUTIVE_LOSSES,
        RiskCode.CONSECUTIVE_REJECTS,
        RiskCode.HALTED,
    }
)
"""Codes that, once raised, hold until an operator's resume."""


class TradingState(StrEnum):
    """What is allowed at all. Orders that reduce the position, and cancels, are allowed in every state."""

    ACTIVE = "active"
    REDUCING = "reducing"  # a limit was hit or something is unknown: no new risk
    HALTED = "halted"  # stopped on purpose: no new risk until an operator resumes


@dataclass(frozen=True, slots=True)
class Verdict:
    """May it be done, and if not, which control says so, with the facts it went by."""

    code: RiskCode
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        return self.code is RiskCode.OK

    def __str__(self) -> str:
        return " ".join([self.code, *(f"{key}={value}" for key, value in self.context.items())])


ALLOWED = Verdict(RiskCode.OK)


@dataclass(frozen=True, slots=True)
class Latch:
    """A breaker that has tripped. It is journaled, survives restarts, and ends with an operator's resume."""

    code: RiskCode
    ts_ns: int
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One sentence for an alert."""
        facts = " ".join(f"{key}={value}" for key, value in self.context.items())
        return f"{self.code.meaning} at {iso_utc(self.ts_ns)} ({facts}): no new positions until `mia-daemon resume`"


def markdown_table() -> str:
    """All codes as the documentation shows them."""
    rows = [f"| `{code}` | {code.meaning} | {'yes' if code in LATCHING else ''} |" for code in RiskCode]
    return "\n".join(["| code | meaning | until resume |", "|---|---|---|", *rows])
