"""`mia-daemon init`: what it writes is private, keeps the comments, passes `check`, and overwrites nothing."""

import re
import stat
import tomllib

import pytest
from conftest import PROJECT

from mia_daemon import cli, config

SHIPPED = PROJECT / "etc" / "mia.toml"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    return tmp_path


@pytest.fixture
def answers(monkeypatch):
    """Sit at a terminal and give these answers; the questions that were asked."""
    asked = []

    def sit_down(*given):
        left = iter(given)

        def answer(question):
            asked.append(question)
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        return asked

    return sit_down


def written(path):
    return tomllib.loads(path.read_text())


def test_without_options_and_terminal_it_writes_the_shipped_configuration_where_it_is_found(here, capsys):
    assert cli.main(["init"]) == 0
    path = here / "etc" / "mia.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found, shipped = written(path), written(SHIPPED)
    assert re.fullmatch("ES[HMUZ][0-9]{2}_FUT_CME", found["instrument"].pop("symbol"))  # that in force today
    del shipped["instrument"]["symbol"]
    assert found == shipped
    assert "mia-daemon --mode paper --config etc/mia.toml --var var" in capsys.readouterr().out
    assert cli.main(["check"]) == 0


def test_options_become_settings_and_every_comment_stays(here, capsys):
    words = ["--source", "scid", "--symbol", "NQH27_FUT_CME", "--account", "Sim2", "--scid-path", "data {symbol}.scid"]
    more = ["--host", "10.0.0.5", "--port", "11100", "--mode", "live", "--var", "/var/lib/mia 1"]
    assert cli.main(["init", "my.toml", *words, *more]) == 0
    found = config.load(here / "my.toml", environ={})
    assert (found.feed.source, str(found.feed.scid_path)) == ("scid", "data {symbol}.scid")
    assert (found.instrument.symbol, found.instrument.trade_account) == ("NQH27_FUT_CME", "Sim2")
    assert (found.dtc.host, found.dtc.port) == ("10.0.0.5", 11100)
    comments = [
        [line.partition("#")[2].strip() for line in path.read_text().splitlines() if "scid_path = " not in line]
        for path in (here / "my.toml", SHIPPED)
    ]
    assert comments[0] == comments[1]
    assert "mia-daemon check --mode live --config my.toml --var '/var/lib/mia 1'" in capsys.readouterr().out


def test_on_a_terminal_it_asks_and_asks_again_until_an_answer_is_one(here, answers, capsys):
    asked = answers("dtc", "XYF27", "ESH27_FUT_CME", "", "sierra.lan", "no port", "11100", "", "")
    assert cli.main(["init"]) == 0
    found = config.load(here / "etc" / "mia.toml", environ={})
    assert (found.feed.source, found.instrument.symbol, found.instrument.trade_account) == (
        "dtc", "ESH27_FUT_CME", "Sim1",
    )  # fmt: skip
    assert (found.dtc.host, found.dtc.port) == ("sierra.lan", 11100)
    assert len(asked) == 9
    said = capsys.readouterr().out
    assert "'XYF27'" in said
    assert "'no port' is no port" in said


def test_with_an_option_nothing_is_asked(here, answers):
    asked = answers()
    assert cli.main(["init", "--account", "Sim3"]) == 0
    assert asked == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "scid"], "--source scid needs --scid-path"),
        (["--mode", "live"], "live needs prices of a market: --source scid or --source dtc"),
        (["--symbol", "XYF27"], "'XYF27'"),
        (["--source", "dtc", "--port", "0"], "no server listens at port 0"),
        (["--source", "scid", "--scid-path", "{contract}.scid"], "{contract} stands for nothing here"),
        (["--host", "a\nb"], "has characters that can't be printed"),
    ],
)
def test_what_makes_no_configuration_is_refused_and_nothing_is_written(here, capsys, words, says):
    assert cli.main(["init", *words]) == 2
    assert says in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_unanswered_questions_write_nothing(here, answers, capsys):
    answers("simulator")
    assert cli.main(["init"]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_file_that_is_there_is_left_alone(here, capsys, dangling):
    path = here / "mia.toml"
    path.symlink_to("nowhere") if dangling else path.write_text("mine")
    assert cli.main(["init", "mia.toml"]) == 2
    assert "mia.toml is there already and is not overwritten" in capsys.readouterr().err
    assert path.is_symlink() if dangling else path.read_text() == "mine"
    assert not (here / "nowhere").exists()
