"""Alerts in the journal of the service manager, with their priority."""

import os
import socket

import pytest

from mia_daemon.ops.service_journal import ServiceJournal, is_journal
from mia_daemon.records import Alert, Priority


@pytest.fixture
def stream():
    """Our end of the stream, the journal's, and the environment that names it."""
    ours, theirs = socket.socketpair()
    found = os.fstat(ours.fileno())
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def received(theirs):
    try:
        return theirs.recv(1 << 20).decode()
    except BlockingIOError:
        return ""


def alert(priority, text="prices\nstopped"):
    return Alert(1, "market_silent", priority, text)


@pytest.mark.parametrize(
    ("priority", "level"),
    [(Priority.WARNING, 4), (Priority.ERROR, 3), (Priority.CRITICAL, 2), (Priority.URGENT, 1)],
)
def test_an_alert_is_one_line_with_its_level(stream, priority, level):
    ours, theirs, environ = stream
    ServiceJournal(ours.fileno(), environ).alert(alert(priority))
    line = received(theirs)
    assert line.startswith(f"<{level}>market_silent: prices")
    assert line.count("\n") == 1


def test_what_is_no_warning_is_left_out(stream):
    ours, theirs, environ = stream
    ServiceJournal(ours.fileno(), environ).alert(alert(Priority.INFO))
    assert received(theirs) == ""


def test_elsewhere_nothing_is_written(stream):
    ours, theirs, environ = stream
    for other in ({}, {"JOURNAL_STREAM": "1:2"}):
        assert not is_journal(ours.fileno(), other)
        ServiceJournal(ours.fileno(), other).alert(alert(Priority.URGENT))
    assert received(theirs) == ""
    assert is_journal(ours.fileno(), environ)
    assert not is_journal(1_000_000, environ)


def test_a_journal_that_does_not_read_never_holds_up_the_daemon(stream):
    ours, theirs, environ = stream
    ours.setblocking(False)
    journal = ServiceJournal(ours.fileno(), environ)
    for _ in range(20_000):
        journal.alert(alert(Priority.ERROR, "x" * 200))
    while received(theirs):
        pass
    journal.alert(alert(Priority.ERROR))
    assert "lines before it were lost)" in received(theirs)
