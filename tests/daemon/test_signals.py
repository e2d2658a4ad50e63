"""Signals: what each asks for, and that none ends the process while it may hold a position."""

import getpass
import grp
import json
import os
import pty
import shutil
import signal
import subprocess

import pytest
from daemon_process import PROJECT, TRADES_AT_ONCE, status_of, until

from mia_daemon.daemon import signals

LOGROTATE = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin")
TRADING = {**TRADES_AT_ONCE, "simulator": {"speed": 60.0}}


class Loop:
    def __init__(self):
        self.handlers = {}

    def add_signal_handler(self, number, callback, name, /):
        self.handlers[number] = (callback, name)


def handled(*, hangup_stops):
    loop = Loop()
    signals.handle(loop, stop="stop", kill="kill", reopen="reopen", hangup_stops=hangup_stops)
    return loop.handlers


def test_a_hangup_stops_with_a_terminal_and_reopens_without():
    assert handled(hangup_stops=True)[signal.SIGHUP] == ("stop", "SIGHUP")
    assert handled(hangup_stops=False)[signal.SIGHUP] == ("reopen", "SIGHUP")
    for hangup_stops in (True, False):
        handlers = handled(hangup_stops=hangup_stops)
        assert handlers[signal.SIGUSR1] == ("reopen", "SIGUSR1")
        assert handlers[signal.SIGUSR2] == ("kill", "SIGUSR2")
        assert handlers[signal.SIGINT] == ("stop", "SIGINT")
        assert handlers[signal.SIGTERM] == ("stop", "SIGTERM")


def test_no_signal_that_can_be_handled_ends_the_process_by_default():
    """Asked of the kernel: a child process per signal that nothing handles, with its default action."""
    handlers = handled(hangup_stops=True)
    faults = {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
    for number in signal.valid_signals() - set(handlers) - faults - {signal.SIGKILL, signal.SIGSTOP}:
        child = os.fork()
        if not child:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(0)
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):  # suspended, as by Ctrl-Z: not ended
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        else:
            assert os.waitstatus_to_exitcode(status) == 0, number


def test_under_nohup_a_hangup_does_not_stop():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert not signals.hangup_stops()
    finally:
        signal.signal(signal.SIGHUP, before)


def rotation(var, pid, directory):
    """The shipped file for logrotate, with this user, this directory and this process instead of the unit's."""
    group = grp.getgrgid(os.getgid()).gr_name
    text = (PROJECT / "etc" / "logrotate.d" / "mia-daemon").read_text()
    replaced = {
        "/var/lib/mia-daemon/*": str(var),
        "su mia-daemon mia-daemon": f"su {getpass.getuser()} {group}",
        "systemctl kill --kill-who=main --signal=USR1 'mia-daemon@*.service'": f"kill -USR1 {pid}",
    }
    for shipped, own in replaced.items():
        assert shipped in text, shipped
        text = text.replace(shipped, own)
    path = directory / "rotation"
    path.write_text(text)
    path.chmod(0o644)
    return path


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
def test_logrotate_and_signals_lose_no_row_and_end_no_session(daemons, tmp_path):
    var = tmp_path / "var"
    daemon = daemons.start("--mode", "paper", "--config", daemons.config(**TRADING), "--var", var).ready()
    logs, decided = var / "logs", var / "logs" / "trading" / "decision_log.csv"
    until(lambda: len(decided.read_text().splitlines()) > 3, "decisions on file")
    words = [LOGROTATE, "--force", "--state", str(tmp_path / "state"), str(rotation(var, daemon.pid, tmp_path))]
    rotated = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (rotated.returncode, rotated.stderr) == (0, "")
    until(lambda: decided.exists() and len(decided.read_text().splitlines()) > 3, "decisions in the new file")
    scores = logs / "trading" / "alpha_scores.csv"
    scores.write_bytes(b"\xef\xbb\xbf" + scores.read_bytes().replace(b"\n", b"\r\n"))  # a spreadsheet saves it
    until(lambda: list(scores.parent.glob("alpha_scores.csv.2*Z")), "it is set aside")
    until(lambda: len(scores.read_text().splitlines()) > 1, "rows in the new file")
    daemon.signal(signal.SIGHUP)  # without a terminal
    by = until(lambda: len(reopened := reopened_by(logs)) == 2 and reopened, "both signals in the log")
    assert by == ["SIGUSR1", "SIGHUP"]
    assert status_of(var)["state"]
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0
    olds = [path for path in logs.rglob("*-2*") if path.is_file()]
    assert len(olds) == 11  # nine tables, the log and the alerts
    (old,) = decided.parent.glob("decision_log.csv-*")
    header, *before = old.read_text().splitlines()
    again, *after = decided.read_text().splitlines()
    exported = daemons.run("journal", "export", tmp_path / "export", "--var", var)
    assert exported.status == 0, exported.err
    rebuilt = (tmp_path / "export" / "logs" / "trading" / "decision_log.csv").read_text().splitlines()
    assert [header, *before, *after] == [again, *before, *after] == rebuilt
    alerts = [json.loads(line) for line in (logs / "alerts.jsonl").read_text().splitlines()]
    assert [alert["code"] for alert in alerts if alert["code"].startswith("file_")] == ["file_set_aside"]


def reopened_by(logs):
    lines = map(json.loads, (logs / "live_trading.log").read_text().splitlines())
    return [line["by"] for line in lines if line["event"] == "files_reopened"]


def test_a_terminal_that_goes_away_ends_the_session_flat(daemons, tmp_path):
    """The kernel sends SIGHUP to the session of a terminal that is closed."""
    var, (master, slave) = tmp_path / "var", pty.openpty()
    words = ("--mode", "paper", "--config", daemons.config(**TRADING), "--var", var)
    daemon = daemons.start(*words, terminal=os.ttyname(slave)).ready()
    os.close(slave)
    until(lambda: status_of(var).get("position"), "a position")
    os.close(master)
    ended = daemon.wait()
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].startswith("SIGHUP after ")
    assert "position +0" in ended.out.splitlines()[-1]
