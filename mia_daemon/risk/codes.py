"""The reasons to refuse new risk, one code per control; verdicts and latches.

The identifiers in brackets are those of the controls in docs/risk.md, which is generated from `RiskCode`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from mia_daemon.clock import iso_utc

_AT_THE_LIMIT: Final = "risk/test_risk_controller.py::test_a_control_passes_its_limit_and_refuses_what_is_beyond"
_SENSELESS: Final = "risk/test_risk_controller.py::test_a_bracket_that_makes_no_sense_or_protects_nothing_is_refused"
_EXITS: Final = "risk/test_risk_controller.py::test_an_exit_that_makes_no_sense_is_refused"


class RiskCode(StrEnum):
    """A control's verdict, what it means, and the test that proves it (below tests/)."""

    meaning: str
    test: str

    def __new__(cls, value: str, meaning: str = "", test: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.test = test
        return member

    OK = "ok", "nothing stands against it", "risk/test_risk_controller.py::test_an_ordinary_entry_passes"

    # malformed orders: refused even where the order would reduce the position
    NOT_FINITE = "not_finite", "an order's price is NaN or infinite, or a fact a limit needs is (P3, P14)", _SENSELESS
    ORDER_INVALID = (
        "order_invalid",
        "no quantity, no price, a price off the tick grid, or a role that does not fit (P16)",
        _SENSELESS,
    )
    UNKNOWN_SYMBOL = "unknown_symbol", "the order's symbol is not the configured one (P11)", _SENSELESS
    UNKNOWN_ACCOUNT = "unknown_account", "the order's account is not the configured one (P11)", _SENSELESS
    DUPLICATE_ORDER = (
        "duplicate_order",
        "the client order id was used, or the same entry was just approved (P6)",
        "risk/test_risk_controller.py::test_the_same_entry_told_twice_within_a_second_is_sent_once",
    )
    NOT_REDUCING = "not_reducing", "an order meant to close is larger than the position or on its own side", _EXITS

    # limits on an order
    MARKET_ORDER = (
        "market_order",
        "entries are limit orders with a maximum slippage, never market orders (P16)",
        _SENSELESS,
    )
    UNPROTECTED = "unprotected", "an entry without a stop and a target that close exactly what it opens", _SENSELESS
    ORDER_SIZE = "order_size", "more contracts than max_order_contracts (P1)", _AT_THE_LIMIT
    ORDER_NOTIONAL = (
        "order_notional",
        "contracts x price x point value exceed max_order_notional (P2)",
        "risk/test_risk_limits.py::test_an_order_is_worth_no_more_than_the_limit",
    )
    PRICE_COLLAR = "price_collar", "further from the touch than max_price_deviation_ticks (P3)", _AT_THE_LIMIT
    POSITION_LIMIT = (
        "position_limit",
        "position and all working orders of that side exceed max_position_contracts (P7, P8)",
        _AT_THE_LIMIT,
    )
    SELF_MATCH = (
        "self_match",
        "it could trade with an order of ours that rests on the other side (P15)",
        "risk/test_risk_limits.py::test_an_entry_never_meets_an_order_of_our_own",
    )
    ORDER_RATE = (
        "order_rate",
        "max_orders_per_minute reached; cancels are never counted against it (P4)",
        "risk/test_risk_controller.py::test_the_throttle_lets_the_nth_order_of_a_minute_pass_and_no_other",
    )
    MESSAGE_RATE = (
        "message_rate",
        "max_messages_per_second or max_messages_per_day, less what is reserved for cancels and exits, is used up (P4)",
        "risk/test_throttle.py::test_entries_never_take_what_is_reserved_however_bursts_fall",
    )

    # market, prediction and account state
    LINK_DOWN = "link_down", "the order connection is down (A3, A4)", _AT_THE_LIMIT
    UNKNOWN_ORDERS = (
        "unknown_orders",
        "the fate of an order is unknown, or the last reconciliation failed (P17)",
        _AT_THE_LIMIT,
    )
    POSITION_DIFFERS = (
        "position_differs",
        "the position that the server reports has not been ours for more than a second (P17, A7)",
        "execution/test_position_evidence.py::test_no_entry_while_the_server_reports_another_position",
    )
    NO_PRICE = "no_price", "there is no two-sided touch (P3, P13)", _AT_THE_LIMIT
    STALE_PRICE = "stale_price", "the touch is older than max_price_age_s (P3, P13)", _AT_THE_LIMIT
    CROSSED_MARKET = "crossed_market", "the bid is not below the ask (P13)", _AT_THE_LIMIT
    WIDE_SPREAD = "wide_spread", "the spread exceeds max_spread_ticks (P13)", _AT_THE_LIMIT
    PRICE_JUMP = (
        "price_jump",
        "the price moved by more than max_price_jump_ticks at once, less than market_pause_s ago (P13)",
        "risk/test_market_watch.py::test_a_jump_is_the_same_however_events_are_cut",
    )
    OFF_TICK = (
        "off_tick",
        "a price is off the product's tick, less than market_pause_s ago or still: the price multiplier is wrong (P13)",
        "risk/test_market_watch.py::test_a_price_off_the_tick_stops_entries_while_it_stands",
    )
    FEED_GAP = (
        "feed_gap",
        "events may be missing from the last market_pause_s (P13)",
        "risk/test_market_watch.py::test_a_gap_pauses_entries",
    )
    CLOCK_SKEW = (
        "clock_skew",
        "an event lies further in our future than max_clock_skew_s: a clock is wrong (P13)",
        "trading/test_entry_gate.py::test_nothing_is_opened_on_an_event_from_the_future",
    )
    NOT_TRADING = (
        "not_trading",
        "the exchange says that the symbol is not open: halted, in pre-open or closed (P12)",
        "risk/test_market_watch.py::test_only_an_open_market_is_traded",
    )
    NO_PREDICTION = "no_prediction", "an entry without the prediction that asked for it (P14)", _AT_THE_LIMIT
    ACTION_RANGE = "action_range", "the policy's action or the probability lies outside its range (P14)", _AT_THE_LIMIT
    OUT_OF_TRAINING_RANGE = (
        "out_of_training_range",
        "too many inputs lie beyond what the model has seen (P14)",
        _AT_THE_LIMIT,
    )
    SLOW_INFERENCE = "slow_inference", "inference took longer than max_inference_ms (P14)", _AT_THE_LIMIT
    LATE_DECISION = (
        "late_decision",
        "the decision is older than max_decision_age_ms: it is dropped, not sent late (A10)",
        "trading/test_late_decisions.py::test_a_decision_that_waited_too_long_is_dropped",
    )

    # latches: they stay set until an operator lifts them
    DAILY_LOSS = (
        "daily_loss",
        "realised and unrealised loss of the trading day reached max_daily_loss (P9)",
        "risk/test_latches.py::test_a_daily_loss_is_lifted_within_its_day_only_by_name",
    )
    DRAWDOWN = (
        "drawdown",
        "drawdown from peak equity reached max_drawdown_share (P10)",
        "execution/test_circuit_breakers.py::test_a_drawdown_is_latched_over_restarts_and_measured_anew_when_lifted",
    )
    CONSECUTIVE_LOSSES = (
        "consecutive_losses",
        "max_consecutive_losses trades in a row lost (P10)",
        "risk/test_risk_controller.py::test_losses_in_a_row_pause_entries_and_a_win_starts_the_count_anew",
    )
    CONSECUTIVE_REJECTS = (
        "consecutive_rejects",
        "max_consecutive_rejects orders in a row were refused (P10)",
        "risk/test_risk_controller.py::test_rejects_in_a_row_pause_entries",
    )
    SLIPPAGE = (
        "slippage",
        "a fill was worse than its order's price by more than max_fill_slippage_ticks (A6)",
        "execution/test_circuit_breakers.py::test_a_bad_fill_pauses_entries",
    )
    POSITION_BREACH = (
        "position_breach",
        "the position is beyond max_position_contracts, whoever made it (T3)",
        "execution/test_circuit_breakers.py::test_a_position_beyond_the_limit_without_an_order_is_withdrawn",
    )
    REPEATED_EXECUTION = (
        "repeated_execution",
        "max_executions entries were sent since a person last looked (P5)",
        "execution/test_circuit_breakers.py::test_after_so_many_entries_a_person_has_to_look",
    )
    HALTED = (
        "halted",
        "an operator or a failure halted trading (A1)",
        "trading/test_trade_executor.py::test_halt_stops_entries_keeps_protection_and_survives_a_restart",
    )
    KILLED = (
        "killed",
        "trading was killed by command, signal, file or watchdog (A1)",
        "execution/test_kill.py::test_a_kill_outlives_a_restart_and_a_bare_resume",
    )
    CONTRADICTED = (
        "contradicted",
        "the server contradicts what is known of orders, position, names or prices; the alert says what (P17)",
        "execution/test_circuit_breakers.py::test_a_contradiction_stops_entries_until_resumed",
    )
    POSITION_DRIFT = (
        "position_drift",
        "live, the server's position is not ours: lifting it takes the server's position over (A7)",
        "execution/test_drift.py::test_live_takes_over_a_position_only_when_told",
    )
    ORDER_COUNT = (
        "order_count",
        "more orders left than were approved: something else sends them (A8)",
        "execution/test_kill.py::test_an_order_that_nobody_approved_kills",
    )

    # trade windows
    MARKET_CLOSED = (
        "market_closed",
        "the exchange is closed (P12)",
        "risk/test_trade_window_filter.py::test_all_sessions",
    )
    OUTSIDE_SESSION = (
        "outside_session",
        "outside the configured sessions (P12)",
        "risk/test_trade_window_filter.py::test_regular_hours",
    )
    CONTRACT_END = (
        "contract_end",
        "the contract rolls or expires, now or within flat_before_roll_s (P12)",
        "risk/test_trade_window_filter.py::test_nothing_is_opened_in_a_contract_that_ends",
    )
    NEAR_CLOSE = (
        "near_close",
        "the session closes within no_entry_before_close_s (P12)",
        "risk/test_trade_window_filter.py::test_all_sessions",
    )
    MACRO_EVENT = (
        "macro_event",
        "an announcement of high impact is near (P12)",
        "risk/test_trade_window_filter.py::test_announcements_of_high_impact_block_what_is_near_them",
    )


_BY_NAME: Final = {
    code: f"mia-daemon resume {code}"
    for code in (RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN, RiskCode.KILLED, RiskCode.ORDER_COUNT, RiskCode.POSITION_DRIFT)
} | {RiskCode.REPEATED_EXECUTION: "mia-daemon rearm"}
"""Latches that a bare resume leaves set, and the command that lifts each."""

LATCHING: Final = frozenset(_BY_NAME) | {
    RiskCode.CONSECUTIVE_LOSSES,
    RiskCode.CONSECUTIVE_REJECTS,
    RiskCode.SLIPPAGE,
    RiskCode.POSITION_BREACH,
    RiskCode.HALTED,
    RiskCode.CONTRADICTED,
}
"""Codes that, once raised, hold until an operator lifts them, restarts included."""

HALTING: Final = frozenset(
    {RiskCode.HALTED, RiskCode.KILLED, RiskCode.ORDER_COUNT, RiskCode.CONTRADICTED, RiskCode.POSITION_DRIFT}
)
"""Latches set to stop trading on purpose; the others are limits that were hit."""


def is_lifted_by_name(code: RiskCode) -> bool:
    """Whether a bare `resume` leaves it set."""
    return code in _BY_NAME


def lifted_by(code: RiskCode) -> str:
    """The command that lifts a latch."""
    return _BY_NAME.get(code, "mia-daemon resume")


class TradingState(StrEnum):
    """What is allowed. Orders that reduce the position, and cancels, are allowed in every state."""

    ACTIVE = "active"
    REDUCING = "reducing"  # a limit was hit or something is unknown: no new risk
    HALTED = "halted"  # stopped on purpose: no new risk until an operator resumes


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed, or the code of the control that refuses, with the facts it is based on."""

    code: RiskCode
    context: dict[str, Any] = field(default_factory=dict)
    allowed: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed", self.code is RiskCode.OK)

    def __str__(self) -> str:
        return " ".join([self.code, *(f"{key}={value}" for key, value in self.context.items())])


ALLOWED: Final = Verdict(RiskCode.OK)


def deny(code: RiskCode, **context: Any) -> Verdict:
    """A denial with its facts."""
    return Verdict(code, context)


@dataclass(frozen=True, slots=True)
class Latch:
    """A stop of trading. It is journaled, survives restarts, and is lifted by an operator's command."""

    code: RiskCode
    ts_ns: int
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One sentence for an alert."""
        facts = " ".join(f"{key}={value}" for key, value in self.context.items())
        until = lifted_by(self.code)
        return f"{self.code.meaning} at {iso_utc(self.ts_ns)} ({facts}): no new positions until `{until}`"


def markdown_table() -> str:
    """All codes as a Markdown table for the documentation."""
    rows = []
    for code in RiskCode:
        until = f"`{lifted_by(code)}`" if code in LATCHING else ""
        rows.append(f"| `{code}` | {code.meaning} | {until} | {link_to_test(code.test)} |")
    return "\n".join(["| code | meaning | latched until | test |", "|---|---|---|---|", *rows])


def link_to_test(test: str) -> str:
    """A test's name in Markdown, linked to its file as seen from docs/."""
    path, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{path})"
