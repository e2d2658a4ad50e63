"""What an operator asks of a running daemon is carried out, and journaled with who asked."""

import pytest

from mia_daemon.clock import EventClock
from mia_daemon.daemon.commands import Commands
from mia_daemon.errors import UsageError
from mia_daemon.ops.alert_manager import AlertManager
from mia_daemon.ops.control import Peer
from mia_daemon.ops.logs import make_logger
from mia_daemon.records import Alert, Priority

PEER = Peer(pid=77, uid=1000, gid=1000)


@pytest.fixture
def alerts(tmp_path):
    log = make_logger(lambda _line: None, EventClock(), "info")
    return AlertManager(tmp_path / "var", log, repeat_after_s=60, per_minute=30)


@pytest.fixture
def ask(make_rig, alerts):
    """Carry out a command; `ask.journal` is the journal it is recorded in."""
    rig = make_rig()
    log = make_logger(lambda _line: None, EventClock(), "info")
    commands = Commands(
        rig.account, alerts, None, EventClock(5), log, status=dict, stop=lambda _how: None, say=lambda _text: None
    )

    def carry_out(command, **request):
        return commands.handlers()[command](request, PEER)["text"]

    carry_out.journal = rig.journal
    return carry_out


def test_urgent_alerts_are_acknowledged_by_name_or_all_and_the_journal_has_who_did(ask, alerts):
    for code in ("first", "second", "third"):
        alerts.handle(Alert(1, code, Priority.URGENT, "look at the account"), 1)
    assert ask("acknowledge", name="1-second") == "acknowledged 1-second"
    with pytest.raises(UsageError, match=r"nothing is no urgent alert that waits .*: 1-first, 1-third$"):
        ask("acknowledge", name="nothing")
    assert [record["id"] for record in alerts.unacknowledged] == ["1-first", "1-third"]
    assert ask("acknowledge", name="all") == "acknowledged 1-first, 1-third"
    assert ask("acknowledge") == "no urgent alert waits to be acknowledged"
    recorded = ask.journal._query("SELECT ts_ns, command, by, result FROM commands ORDER BY number").fetchall()
    assert recorded == [
        (5, "acknowledge", "uid 1000 pid 77", said)
        for said in (
            "acknowledged 1-second",
            "acknowledged 1-first, 1-third",
            "no urgent alert waits to be acknowledged",
        )
    ]
