"""`mia-daemon replay`: which of its options go with the repetition of a recorded session."""

import pytest

from mia_daemon.cli import main
from mia_daemon.execution.tape_file import TapeFile


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A recording with inputs, whose beginning is empty, and no configuration anywhere near."""
    TapeFile(tmp_path, {}).close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replay(session, *words):
    return main(["replay", str(session), *words, "--var", str(session / "var")])


def test_a_session_is_repeated_also_where_no_configuration_is_found(session, capsys):
    assert replay(session)
    said = capsys.readouterr().err
    assert "inputs.bin was written by another version" in said  # it was the tape that was read
    assert "no configuration found" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["--from", "2026-11-03"],
        ["--to", "2026-11-03"],
        ["--research"],
        ["--symbol", "NQZ26_FUT_CME"],
        ["--depth", "a.depth"],
        ["--reference", "NQ.scid"],
    ],
)
def test_what_would_change_a_sessions_decisions_needs_new_fills(session, words, capsys):
    assert replay(session, *words) == 2
    said = capsys.readouterr().err
    assert f"which {words[0]} would change: add --refill" in said


def test_with_refill_these_options_are_taken(session, capsys):
    assert replay(session, "--refill", "--research")
    assert "add --refill" not in capsys.readouterr().err
