"""What operators see while the server for orders is awaited."""

import json

import pytest

from mia_daemon.clock import WallClock
from mia_daemon.daemon.server_wait import ServerWait
from mia_daemon.ops.logs import make_logger
from mia_daemon.records import Priority


class Manager:
    """A service manager that notes what it is sent."""

    def __init__(self):
        self.sent = []

    def status(self, text):
        self.sent.append(("status", text))

    def ready(self, text):
        self.sent.append(("ready", text))


@pytest.fixture
def seen():
    """(alerts, log events, the manager, times waiting began), and the wait that fills them."""
    alerts, lines, manager, begun = [], [], Manager(), []
    clock = WallClock()
    log = make_logger(lines.append, clock)
    wait = ServerWait(alerts.append, log, manager, clock, lambda: begun.append(True))
    return wait, alerts, lines, manager, begun


def test_waiting_is_one_alert_with_a_log_line_for_each_new_reason(seen):
    wait, alerts, lines, manager, begun = seen
    for reason in ("nothing listens", "nothing listens", "no answer"):
        wait.on_waiting(reason)
        assert manager.sent[-1] == ("ready", f"waiting for the server for orders: {reason}")
    assert [(alert.code, alert.priority) for alert in alerts] == [("server_awaited", Priority.CRITICAL)]
    assert "nothing listens" in alerts[0].text
    assert [json.loads(line)["reason"] for line in lines] == ["nothing listens", "no answer"]
    assert len(begun) == 1
    assert (wait.reason, wait.text) == ("no answer", "waiting for the server for orders: no answer")
    wait.found()
    assert (wait.reason, alerts[-1].code) == ("", "server_found")


def test_a_server_that_is_there_is_no_alert(seen):
    wait, alerts, lines, manager, begun = seen
    wait.found()
    assert (alerts, lines, begun) == ([], [], [])
    assert manager.sent == [("status", "connecting for orders")]
