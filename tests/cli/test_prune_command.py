"""`mia-daemon prune`: what it would do, what it does, and when it does not."""

import os

import pytest
from run_headers import run_header

from mia_daemon.cli import main
from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode, VarPaths
from mia_daemon.feed.recorder import Recorder
from mia_daemon.journal.writer import Journal
from mia_daemon.lock_file import hold
from mia_daemon.records import Action, Decision, Prediction, RegimeProbs, empty_events

LONG_AGO_S = 1_000_000_000


@pytest.fixture
def paths(tmp_path):
    """An old recording and a new one, an old log, and a journal with an old decision to hold."""
    paths = VarPaths(tmp_path / "var")
    for name, age_s in (("old", LONG_AGO_S), ("new", None)):
        recorder = Recorder(paths.recordings / name, "ESZ26", 0, print)
        recorder.append(empty_events(1000))
        recorder.close()
        if age_s is not None:
            os.utime(recorder.path, (age_s, age_s))
    log = paths.root / "logs" / "live_trading.log.1"
    log.parent.mkdir()
    log.write_text("old\n")
    os.utime(log, (LONG_AGO_S, LONG_AGO_S))
    journal = Journal(paths.journal(Mode.PAPER), durable=False)
    run_id = journal.begin_run(run_header(LONG_AGO_S * NS_PER_S))
    prediction = Prediction(RegimeProbs(1.0, 0.0, 0.0), 0.0, 0.5, "test", 0.0, "")
    journal.record_decision(
        Decision(f"{run_id}-0", 0, LONG_AGO_S * NS_PER_S, Action.HOLD, 0, "x", prediction, 1.0, 1.25)
    )
    journal.close()
    return paths


def prune(paths, *words):
    return main(["prune", *words, "--var", str(paths.root)])


def tree(paths):
    files = (path for path in paths.root.rglob("*") if path.is_file())
    return {path: path.stat().st_size for path in files if not path.name.endswith(("-wal", "-shm"))}


def test_a_dry_run_says_what_goes_and_touches_nothing(paths, capsys):
    before = tree(paths)
    assert prune(paths, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "would pack 2 segments" in out
    assert f"would remove {paths.recordings / 'old'}  0.07 MB  older than 90 days" in out
    assert f"would remove {paths.root / 'logs' / 'live_trading.log.1'}" in out
    assert "would remove 2 files and recordings, 0.07 MB" in out
    assert "paper.db: would remove 1 decisions to hold and the features of 0 others" in out
    assert tree(paths) == before


def test_it_does_what_it_said_and_then_finds_nothing_more(paths, capsys):
    assert prune(paths) == 0
    out = capsys.readouterr().out
    assert "packed 2 segments of recordings" in out
    assert f"removed {paths.recordings / 'old'}" in out
    assert "removed 1 decisions to hold" in out
    names = sorted(path.name for path in tree(paths))
    assert "events-000001.packed" in names
    assert "live_trading.log.1" not in names
    assert prune(paths, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "would pack 0 segments" in out
    assert "would remove 0 files and recordings" in out
    assert "would remove 0 decisions to hold" in out


def test_a_journal_that_a_daemon_writes_is_left_to_it(paths, capsys):
    journal = Journal(paths.journal(Mode.PAPER), durable=False)
    assert prune(paths) == 0
    assert "paper.db: left to its daemon, which prunes it as it runs" in capsys.readouterr().out
    journal.close()


def test_one_prunes_at_a_time_and_only_what_is_there(paths, capsys, tmp_path):
    lock = hold(paths.prune_lock)
    assert prune(paths) == 1
    assert "is being pruned" in capsys.readouterr().err
    os.close(lock)
    assert main(["prune", "--var", str(tmp_path / "none")]) == 1
    assert "is not there: name the directory with --var DIR" in capsys.readouterr().err


def test_what_fails_is_a_sentence_and_a_status(paths, capsys):
    (paths.recordings / "new" / "events-000001.bin").write_bytes(b"x" * 10_000)
    assert prune(paths) == 1
    assert "events-000001.bin is not a recording" in capsys.readouterr().out
