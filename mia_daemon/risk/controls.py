"""The industry's list of controls, and where each of them is in this daemon; for docs/risk.md.

Sources: SEC rule 15c3-5, EU RTS 6, FIA guides, CME rules, the Knight Capital order.
"""

from dataclasses import dataclass
from typing import Final

from mia_daemon.risk.codes import RiskCode, link_to_test


@dataclass(frozen=True, slots=True)
class Control:
    """One control of the list.

    Attributes:
        codes: that it denies or latches with; none where it works in another way.
        how: how it works, in a sentence, where codes do not tell or something is particular here.
        test: the test that proves it, where no code names one.
    """

    id: str
    name: str
    codes: tuple[RiskCode, ...] = ()
    how: str = ""
    test: str = ""


_C = RiskCode

CONTROLS: Final = (
    Control("P1", "Maximum order volume", (_C.ORDER_SIZE,)),
    Control("P2", "Maximum order value", (_C.ORDER_NOTIONAL,)),
    Control("P3", "Price collar", (_C.PRICE_COLLAR, _C.NO_PRICE, _C.STALE_PRICE, _C.NOT_FINITE)),
    Control(
        "P4",
        "Maximum messages",
        (_C.ORDER_RATE, _C.MESSAGE_RATE),
        "Orders, replaces and cancels are counted by the second and by the day; what reduces the position is counted "
        "and never refused, and entries leave it a share (cancel_reserve_share).",
    ),
    Control(
        "P5",
        "Repeated automated execution",
        (_C.REPEATED_EXECUTION,),
        "After max_executions entries a person has to look and say `mia-daemon rearm`; the count survives restarts.",
    ),
    Control("P6", "Duplicate order check", (_C.DUPLICATE_ORDER,)),
    Control("P7", "Maximum position", (_C.POSITION_LIMIT,), "The worst case, working and unknown orders included."),
    Control(
        "P8",
        "Gross exposure",
        (_C.POSITION_LIMIT,),
        "One process trades one symbol in one account by one strategy, and holds the journal's lock: the limit of "
        "the position is that of the sum. Margin is the broker's to check; max_order_notional bounds an order.",
    ),
    Control("P9", "Daily loss limit", (_C.DAILY_LOSS,), "Latched; it also closes the position."),
    Control(
        "P10",
        "Drawdown, losing and rejection streaks",
        (_C.DRAWDOWN, _C.CONSECUTIVE_LOSSES, _C.CONSECUTIVE_REJECTS),
    ),
    Control(
        "P11",
        "Permission, instruments, mode",
        (_C.UNKNOWN_SYMBOL, _C.UNKNOWN_ACCOUNT),
        "Live needs `--mode live`, its account named by --arm or an arm file, and a bundle of model.approved_bundles.",
        "daemon/test_arming.py::test_without_the_very_account_live_is_not_armed",
    ),
    Control(
        "P12",
        "Session and calendar gate",
        (_C.MARKET_CLOSED, _C.OUTSIDE_SESSION, _C.NEAR_CLOSE, _C.CONTRACT_END, _C.MACRO_EVENT, _C.NOT_TRADING),
    ),
    Control(
        "P13",
        "Market data reasonability",
        (
            _C.NO_PRICE,
            _C.STALE_PRICE,
            _C.CROSSED_MARKET,
            _C.WIDE_SPREAD,
            _C.PRICE_JUMP,
            _C.OFF_TICK,
            _C.FEED_GAP,
            _C.CLOCK_SKEW,
        ),
    ),
    Control(
        "P14",
        "Model sanity",
        (_C.NO_PREDICTION, _C.NOT_FINITE, _C.ACTION_RANGE, _C.OUT_OF_TRAINING_RANGE, _C.SLOW_INFERENCE),
        "A bundle that was altered, or made for other features, is refused at the start. A prediction that is not "
        "finite opens nothing: a position stays under its stop and is closed after decision.flat_without_prediction_s.",
        "daemon/test_preflight.py::test_live_trades_on_no_bundle_that_the_configuration_does_not_approve",
    ),
    Control(
        "P15",
        "Self-match prevention",
        (_C.SELF_MATCH,),
        "Entries only: before an exit leaves, entries are cancelled, and an exit is never refused.",
    ),
    Control("P16", "Order type policy", (_C.MARKET_ORDER, _C.ORDER_INVALID)),
    Control("P17", "Unknown-state block", (_C.UNKNOWN_ORDERS, _C.POSITION_DIFFERS, _C.CONTRADICTED)),
    Control(
        "P18",
        "Override procedure",
        (),
        "No single order is ever waved through. A daily loss or a drawdown that is still exceeded is lifted in two "
        "steps, by its name: `mia-daemon resume daily_loss` answers with a token, `--confirm TOKEN` within two minutes "
        "lifts it, until the trading day or the run ends. Both steps are in the journal with the uid.",
        "risk/test_override.py::test_an_override_takes_the_answer_to_the_first_step",
    ),
    Control(
        "A1",
        "Kill",
        (_C.KILLED, _C.HALTED),
        "`mia-daemon kill [--flatten]`, SIGUSR2, the kill file or the watchdog: what could add to the position is "
        "cancelled before anything is written; the position keeps its stop, or is closed; latched.",
        "execution/test_kill.py::test_cancels_leave_before_anything_is_written",
    ),
    Control(
        "A2",
        "Order attribution",
        (),
        "An order names its decision, the decision its run, the run its configuration, code and bundle by their "
        "hashes, and the `start` among its commands who started it (`mia-daemon journal explain`).",
        "journal/test_report.py::test_the_commands_as_typed",
    ),
    Control(
        "A3",
        "Cancel on disconnect",
        (_C.LINK_DOWN, _C.UNKNOWN_ORDERS),
        "On a lost connection every order is unknown; once reconciled, entries are cancelled.",
        "execution/test_kill.py::test_what_had_been_sent_before_the_connection_was_lost_is_cancelled_when_it_is_back",
    ),
    Control(
        "A4",
        "Heartbeat and dead man's switch",
        (_C.LINK_DOWN, _C.KILLED),
        "DTC heartbeats both ways; systemd's watchdog is fed only while every task gets on, and one that stays stuck "
        "kills.",
        "daemon/test_kill_switch.py::test_a_task_that_stays_stuck_is_told_of_and_then_kills",
    ),
    Control(
        "A5",
        "Monitoring and alerts",
        (),
        "An alert is in the log, on the terminal and in the journal when it is raised.",
        "ops/test_alert_manager.py::test_alert_goes_to_log_file_and_teller",
    ),
    Control("A6", "Slippage breaker", (_C.SLIPPAGE,), "Of an entry the limit itself bounds what is paid."),
    Control(
        "A7",
        "Continuous reconciliation",
        (_C.UNKNOWN_ORDERS, _C.POSITION_DIFFERS, _C.POSITION_DRIFT, _C.POSITION_BREACH),
        "Orders, fills and position are compared with the server's every broker.reconcile_every_s.",
        "trading/test_trade_executor.py::test_drift_seen_twice_takes_over_the_servers_position",
    ),
    Control("A8", "Orders at the wire against intents", (_C.ORDER_COUNT,), "Compared after every event."),
    Control("A10", "Loop lag and queue depth", (_C.LATE_DECISION, _C.STALE_PRICE), "Time in a queue is age, too."),
    Control(
        "T1",
        "Immediate post-trade reports",
        (),
        "Each fill is journaled in the commit that moves the position, then shown and counted.",
        "trading/test_trade_executor.py::test_a_target_hit_is_a_trade",
    ),
    Control(
        "T2",
        "Statement reconciliation",
        (),
        "`mia-daemon reconcile-statement` compares a day's executions, profit and position with an export of Sierra "
        "Chart's Trade Activity Log (docs/statement.md); a person starts it.",
        "statement/test_comparison.py::test_a_statement_made_of_the_journal_is_equal_and_any_change_of_it_is_found",
    ),
    Control(
        "T3",
        "Post-trade position control",
        (_C.POSITION_BREACH,),
        "Whoever made the position: incidents.on_position_breach closes it, or keeps it under a stop. A position "
        "without a working stop for a second is an incident as well (incidents.on_unprotected).",
        "execution/test_circuit_breakers.py::test_a_position_without_a_stop_is_an_incident_after_a_second",
    ),
    Control(
        "G1",
        "The same artifact everywhere",
        (),
        "`mia-daemon check` tells configuration and bundle by their hashes; live trades on an approved bundle only, "
        "and an arm file may name version and config_sha256: any other is refused.",
        "daemon/test_arming.py::test_a_file_that_does_not_fit_arms_nothing",
    ),
)


def markdown_table() -> str:
    """The list as a Markdown table for the documentation."""
    rows = [
        f"| {control.id} | {control.name} | {_codes(control)}{control.how} | {_tests(control)} |"
        for control in CONTROLS
    ]
    return "\n".join(["| id | control | here | test |", "|---|---|---|---|", *rows])


def proofs_of(control: Control) -> tuple[str, ...]:
    """The tests that prove it: those of its codes, and its own."""
    return tuple(dict.fromkeys([code.test for code in control.codes] + ([control.test] if control.test else [])))


def _codes(control: Control) -> str:
    named = " ".join(f"`{code}`" for code in control.codes)
    return f"{named}: " if named and control.how else named


def _tests(control: Control) -> str:
    return link_to_test(control.test) if control.test else "by code, below"
