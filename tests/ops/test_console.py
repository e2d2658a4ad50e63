"""The console: readable lines, a status line redrawn in place, and never a wait for whoever holds the terminal."""

import dataclasses
import os
import pty
import select
import tty

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.ops.console import Console, StatusLine
from mia_daemon.records import (
    Action,
    Alert,
    Decision,
    Fill,
    Order,
    OrderRole,
    OrderType,
    Prediction,
    Priority,
    RegimeProbs,
    Side,
    Trade,
)

T0 = 1_700_000_000 * NS_PER_S
PROBS = RegimeProbs(0.7, 0.2, 0.1)
STATUS = StatusLine("warming up", T0, "ESZ26", 6000.25, -1, -12.5, PROBS, 4.04, 0.000312)


def decision(action=Action.BUY, reason="signal", **context):
    prediction = Prediction(PROBS, 0.62, 0.58, "sac", 0.0, "ab")
    return Decision("1-7", 7, T0, action, 1, reason, prediction, 6000.0, 6000.25, context)


ORDER = Order("1-7E", "ESZ26", "Sim1", Side.BUY, 1, OrderType.LIMIT, OrderRole.ENTRY, "1-7", price=6000.5)
FILL = Fill(T0, "x1", "1-7E", "s1", "ESZ26", "Sim1", Side.BUY, 1, 6000.25)
TRADE = Trade("1-7", "ESZ26", Side.BUY, 1, T0, T0 + 75 * NS_PER_S, 6000.25, 6002.25, 100.0, 2.0, PROBS, "1-7", "target")


class Pipe:
    """The reading end of a console that writes to a pipe."""

    def __init__(self, **options):
        self.fd, write = os.pipe()
        self.stream = os.fdopen(write, "w")
        self.console = Console(self.stream, environ={}, **options)

    def text(self):
        return os.read(self.fd, 1 << 20).decode() if select.select([self.fd], [], [], 0)[0] else ""

    def close(self):
        os.close(self.fd)
        self.stream.close()


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def terminal():
    """A console on a pseudo-terminal, and a function that reads what it shows."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    stream = os.fdopen(slave, "w")

    def shown():
        return os.read(master, 1 << 20).decode() if select.select([master], [], [], 1)[0] else ""

    yield Console(stream, environ={"NO_COLOR": "1"}), shown, stream
    os.close(master)
    stream.close()


def test_lines_for_people(pipe):
    console = pipe.console
    console.decision(decision(spread=1.0, streak=2))
    console.order(T0, ORDER, "sent")
    console.fill(FILL)
    console.trade(TRADE)
    console.alert(Alert(T0, "feed_stale", Priority.ERROR, "no prices for 12 s: look at Sierra Chart", {"repeats": 3}))
    console.say("bye")
    assert pipe.text().splitlines() == [
        "22:13:20Z  decide buy  target +1  signal  6000.00/6000.25  action +0.62 p 0.58 range 70%  spread=1 streak=2",
        "22:13:20Z  order  entry  buy  1 limit @ 6000.50  sent  1-7E",
        "22:13:20Z  fill   buy  1 @ 6000.25  1-7E",
        "22:14:35Z  trade  long 1  6000.25 → 6002.25  +98.00 after 2.00 costs  1 min 15 s  target",
        "22:13:20Z  alert  error: no prices for 12 s: look at Sierra Chart (3 more times)",
        "bye",
    ]


def test_a_decision_to_hold_is_not_shown(pipe):
    pipe.console.decision(decision(Action.HOLD))
    assert pipe.text() == ""


def test_quiet_shows_what_matters_only():
    pipe = Pipe(quiet=True)
    console = pipe.console
    console.decision(decision())
    console.fill(FILL)
    console.say("hello")
    console.status(STATUS, 0)
    console.alert(Alert(T0, "a", Priority.WARNING, "minor"))
    console.alert(Alert(T0, "b", Priority.ERROR, "major"))
    console.say("that was it", always=True)
    assert pipe.text() == "22:13:20Z  alert  error: major\nthat was it\n"
    pipe.close()


def test_without_a_terminal_the_status_is_a_line_every_ten_seconds(pipe):
    for second in range(25):
        pipe.console.status(STATUS, 100 + second)
    lines = pipe.text().splitlines()
    assert len(lines) == 3
    assert lines[0] == (
        "warming up  22:13:20Z  ESZ26 6000.25  position -1  profit -12.50  range 70%  4.0 decisions/s"
        "  tick-to-order 312 µs"
    )


def test_status_shows_what_is_not_known_yet(pipe):
    pipe.console.status(StatusLine("active", 0, "ESZ26", None, 0, 0.0, None, 0.0, None), 0)
    assert pipe.text() == (
        "active  --:--:--Z  ESZ26 -  position +0  profit +0.00  regime -  0.0 decisions/s  tick-to-order -\n"
    )


def test_on_a_terminal_the_status_is_redrawn_below_the_lines(terminal):
    console, shown, _ = terminal
    console.status(STATUS, 0)
    first = shown()
    assert first == "\r\x1b[2Kwarming up  22:13:20Z  ESZ26 6000.25  position -1  profit -12.50  range 70%"
    assert len(first.removeprefix("\r\x1b[2K")) <= 79  # fits a terminal of unknown width
    console.fill(FILL)
    assert shown() == "\r\x1b[2K22:13:20Z  fill   buy  1 @ 6000.25  1-7E\n" + first.removeprefix("\r\x1b[2K")
    console.close()
    assert shown() == "\n"


def test_state_and_latches_come_first_whatever_the_width(terminal):
    console, shown, _ = terminal
    state = "halted: killed, daily_loss, position_drift"
    console.status(dataclasses.replace(STATUS, state=state), 0)
    assert shown() == f"\r\x1b[2K{state}  22:13:20Z  ESZ26 6000.25"
    console.status(dataclasses.replace(STATUS, state=f"{state}, " + "consecutive_losses, " * 3 + "drawdown"), 0)
    (line,) = shown().removeprefix("\r\x1b[2K").splitlines()
    assert line == f"{state}, consecutive_losses, ..."


def test_colours_only_where_they_are_welcome():
    for environ, coloured in [({}, True), ({"NO_COLOR": "1"}, False)]:
        master, slave = pty.openpty()
        stream = os.fdopen(slave, "w")
        Console(stream, environ=environ).trade(TRADE)
        assert ("\x1b[32m" in os.read(master, 4096).decode()) == coloured
        os.close(master)
        stream.close()


def test_a_reader_that_does_not_read_never_holds_up_the_daemon(pipe):
    for _ in range(20_000):  # far beyond what a pipe holds: would wait for ever
        pipe.console.say("x" * 100)
    lost = pipe.console.lost
    assert lost > 0
    got = pipe.text()
    pipe.console.say("after")
    assert pipe.text() == f"({lost} lines left out while nobody read)\nafter\n"
    assert got.count("\n") + lost == 20_000
    assert pipe.console.lost == 0


def test_a_held_terminal_never_holds_up_the_daemon(terminal):
    console, shown, _ = terminal
    for _ in range(5_000):
        console.say("x" * 100)
    assert console.lost > 0
    assert shown().startswith("xxx")


def test_a_reader_that_went_away_ends_the_output_only(pipe):
    os.close(pipe.fd)
    pipe.console.say("a")
    pipe.console.say("b")
    assert pipe.console.lost == 0
    pipe.fd = os.open(os.devnull, os.O_RDONLY)


def test_long_lines_are_cut_so_that_a_pipe_takes_them_at_once(pipe):
    pipe.console.say("é" * 10_000)
    assert len(pipe.text()) == 2049


def test_no_text_moves_the_cursor_or_becomes_two_lines(pipe):
    pipe.console.say("gone\x1b[2J")
    pipe.console.alert(Alert(T0, "code", Priority.URGENT, "one\nalert  urgent: two"))
    pipe.console.order(T0, ORDER, "rejected: \x9b31m\r")
    shown = pipe.text()
    assert len(shown.splitlines()) == 3
    assert all(line.isprintable() for line in shown.splitlines())
