"""The command line as it is typed: what it takes, and that everything wrong is said in one sentence."""

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import PROJECT, until

from mia_daemon import __version__
from mia_daemon.cli.options import duration_s, port, positive
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode_frames, encode
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import ExitStatus
from mia_daemon.model import bundle

pytestmark = pytest.mark.timeout(120)

SUBJECTS = [
    "instrument", "bundle", "risk", "kill file", "directories", "kernel cache", "control socket", "journal",
    "macro events", "clock", "feed", "orders",
]  # fmt: skip
OWN_TIME = {"source": "dtc", "max_event_age_s": 0}  # of a server whose contract may have expired by the machine's date


@pytest.fixture
def refused(daemons, tmp_path):
    """Run a command that can't be; the sentence, once it is sure that it is one and that nothing else was said."""

    def run(status, *words, quick=True):
        ended = daemons.run(*words, quick=quick)
        assert (ended.status, ended.out) == (status, ""), ended
        assert ended.sentence.startswith("mia-daemon: ")
        return ended.sentence.removeprefix("mia-daemon: ")

    return run


# ---------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120s", 120),
        ("120", 120),
        ("0.5", 0.5),
        ("1.5s", 1.5),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h5s", 3605),
    ],
)
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "0h0m", "5x", "m", "-5", "1.5h", "30m1h", "1e3", "nan", "inf", "5 s"])
def test_no_durations(text):
    with pytest.raises(argparse.ArgumentTypeError):
        duration_s(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", "", "1,5"])
def test_no_positive_numbers(text):
    with pytest.raises(argparse.ArgumentTypeError):
        positive(text)
    assert positive("2.5") == 2.5


@pytest.mark.parametrize("text", ["-1", "65536", "", "http", "1.0", "²"])
def test_no_ports(text):
    with pytest.raises(argparse.ArgumentTypeError):
        port(text)
    assert [port("0"), port("65535")] == [0, 65535]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "say what to do"),
        (["--var", "x"], "say what to do"),
        (["trade"], "invalid choice: 'trade'"),
        (["--mode", "real"], "invalid choice: 'real'"),
        (["--mode", "paper", "--for", "soon"], "'soon' is no duration"),
        (["--mode", "paper", "--for", "0s"], "longer than nothing"),
        (["--mode", "paper", "--speed", "0"], "'0' is not a number above 0"),
        (["--mode", "paper", "--speed", "nan"], "'nan' is not a number above 0"),
        (["--mode", "paper", "--seed", "x"], "invalid int value: 'x'"),
        (["--mode", "paper", "--nonsense"], "there is no option --nonsense; "),
        (["--mode", "paper", "--for", "99999999999h"], "a duration is a year at most"),
        (["--mode", "live", "--arm", "Sim1\n"], "'Sim1\\n' is no account"),
        (["replay", "x.scid", "--symbol", "ESZ26\n"], "'ESZ26\\n' is no symbol"),
        (["fetch", "../x", "--from", "2026-01-01", "--out", "x.scid"], "'../x' is no symbol"),
        (["--moode", "paper"], "there is no option --moode: did you mean --mode?"),
        (["--mode=paper", "--quite"], "there is no option --quite: did you mean --quiet?"),
        (["simulator", "--port", "70000"], "'70000' is no port"),
        (["simulator", "--accounts", "Sim1,,Sim2"], "'Sim1,,Sim2' has an empty name: write one name after the other"),
        (["simulator", "--display-multiplier", "0"], "'0' is not a number above 0"),
        (["simulator", "--symbol", "ESZ26", "--symbols", "NQZ26"], "not allowed with argument --symbol"),
        (["replay"], "required: file"),
        (["status", "now"], "unrecognized arguments: now; `mia-daemon status --help`"),
        (["scid", "to-parquet", "a.scid", "b.parquet"], "arguments: b.parquet; `mia-daemon scid to-parquet --help`"),
    ],
)
def test_wrong_words_are_one_sentence_with_what_to_do(refused, words, says):
    sentence = refused(2, *words)
    assert says in sentence
    assert "--help" in sentence or "write" in sentence or "say" in sentence or "longer" in sentence
    assert sentence.isprintable()


def test_help_and_version_are_no_errors(daemons):
    assert daemons.run("--version").out == f"mia-daemon {__version__}\n"
    told = daemons.run("--help")
    assert (told.status, told.err) == (0, "")
    for word in ("replay", "simulator", "check", "status", "halt", "resume", "flatten", "stop", "--mode", "--for"):
        assert word in told.out


def test_options_stand_before_or_after_a_command(refused, tmp_path):
    for words in (("--var", tmp_path / "here", "status"), ("status", "--var", tmp_path / "here")):
        assert str(tmp_path / "here") in refused(1, *words)


def test_the_console_script_is_the_same_command():
    script = Path(sys.executable).with_name("mia-daemon")
    if not script.exists():
        pytest.skip("the package is not installed here: there is no console script")
    told = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"mia-daemon {__version__}\n"


def test_a_reader_that_goes_away_leaves_no_traceback(daemons):
    """As `mia-daemon check | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mia_daemon", "check", "--config", str(daemons.config())]
    told = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=PROJECT, check=False)
    os.close(writing)
    assert (told.returncode, told.stderr) == (0, b"")


# ---------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[risk]\nmax_daily_los = 5\n", "unknown key risk.max_daily_los; did you mean max_daily_loss?"),
        (b"[feed]\nsource = 'teton'\n", "feed.source"),
        (b"[simulator\n", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[dtc]\npassword = 'x'\n", "MIA_DTC_PASSWORD"),
        (b"", "risk"),
    ],
    ids=["unknown key", "unknown value", "no TOML", "no text", "a secret", "no limits"],
)
@pytest.mark.parametrize("words", [["--mode", "paper"], ["check"], ["simulator", "--port", "0"]], ids=lambda w: w[-1])
def test_a_configuration_that_is_wrong_is_refused_by_every_command(refused, tmp_path, words, content, says):
    config = tmp_path / "wrong.toml"
    config.write_bytes(content)
    sentence = refused(2, *words, "--config", config, "--var", tmp_path / "var")
    assert says in sentence
    assert str(config) in sentence
    assert not (tmp_path / "var").exists()


def test_a_configuration_that_is_not_there(refused, tmp_path):
    assert "nowhere.toml can't be read: No such file" in refused(2, "--mode", "paper", "--config", "nowhere.toml")
    assert "Is a directory" in refused(2, "check", "--config", tmp_path)


@pytest.mark.parametrize(
    "words", [["--mode", "live", "--arm", "Sim1"], ["check", "--mode", "live"], ["probe", "--account", "Sim1"]]
)
def test_without_a_configuration_nothing_is_done_with_an_account(refused, words):
    sentence = refused(2, *words)  # none in this directory, none in /etc
    assert "no configuration found" in sentence
    assert "--config FILE" in sentence
    assert "`mia-daemon init`" in sentence


def test_without_a_configuration_paper_uses_the_one_that_ships_and_says_so(daemons):
    ended = daemons.run("check")
    assert ended.status == 0, ended.out
    assert ended.sentence.startswith("no configuration found: the one that ships with mia-daemon is used (")
    shipped = ended.sentence.split("(")[1].split(")")[0]
    assert Path(shipped).read_bytes() == (PROJECT / "etc" / "mia.toml").read_bytes()


def test_numbers_on_the_command_line_are_checked_like_those_in_the_file(refused, daemons):
    assert "simulator.seed" in refused(2, "--mode", "paper", "--config", daemons.config(), "--seed", "-1")


# ---------------------------------------------------------------------------------------------------- surroundings


def test_a_port_in_use(refused, daemons, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        config = daemons.config()
        command = ("simulator", "--config", config, "--port", number, "--state", tmp_path / "state")
        ended = daemons.run(*command)
    assert (ended.status, ended.out) == (1, "")
    assert f"127.0.0.1:{number}: Address already in use" in ended.sentence
    assert "--port" in ended.sentence


def test_a_simulator_state_in_use(refused, daemons, tmp_path):
    config = daemons.config()
    first, _ = daemons.simulator(config, tmp_path / "state")
    sentence = refused(1, "simulator", "--config", config, "--port", 0, "--state", tmp_path / "state")
    assert "another simulator uses it" in sentence
    first.signal(signal.SIGINT)
    assert first.wait().status == 0


def test_a_simulator_that_shall_watch_its_parent_needs_a_pipe(refused, daemons, tmp_path):
    words = ("simulator", "--config", daemons.config(), "--port", 0, "--state", tmp_path / "state", "--parent-watch")
    assert "needs a pipe" in refused(1, *words)


def test_a_simulator_of_an_unknown_contract(refused, daemons, tmp_path):
    words = ("simulator", "--config", daemons.config(), "--symbol", "XYF27", "--port", 0, "--state", tmp_path / "state")
    assert "'XYF27'" in refused(2, *words)


@pytest.mark.parametrize("command", [["--mode", "paper"], ["simulator", "--port", "0"]], ids=["daemon", "simulator"])
def test_a_var_that_is_a_file(refused, daemons, tmp_path, command):
    file = tmp_path / "file"
    file.write_text("mine")
    sentence = refused(2 if "--mode" in command else 1, *command, "--config", daemons.config(), "--var", file / "var")
    assert str(file) in sentence
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: no directory is closed to it")
def test_a_var_that_may_not_be_written(refused, daemons, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "can't be written by this user" in refused(
        1, "--mode", "paper", "--config", daemons.config(), "--var", closed
    )


@pytest.mark.parametrize("name", ["journal", "run", "recordings"])
def test_a_file_where_a_directory_of_var_belongs(daemons, tmp_path, name):
    """Also one that is needed late: nothing is traded."""
    var = tmp_path / "var"
    var.mkdir()
    (var / name).write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = daemons.config(feed=OWN_TIME, broker={"kind": "paper"}, dtc={"port": server.getsockname()[1]})
        daemon = daemons.start("--mode", "paper", "--config", config, "--var", var)
        ended = daemon.wait(20)
    assert ended.status == 1
    assert str(var / name) in ended.sentence
    assert (var / name).read_text() == "mine"


def test_a_journal_that_is_none(refused, daemons, tmp_path):
    journal = tmp_path / "var" / "journal" / "paper.db"
    journal.parent.mkdir(parents=True)
    journal.write_text("diary " * 1000)
    words = ("--mode", "paper", "--config", daemons.config(), "--var", tmp_path / "var")
    assert "no SQLite file" in refused(1, *words)
    journal.unlink()
    sqlite3.connect(journal).execute("CREATE TABLE cookbook (page)").connection.close()
    assert "no journal" in refused(1, *words)


def test_a_var_whose_control_socket_would_have_too_long_a_path(refused, daemons, tmp_path):
    deep = tmp_path / ("deep" * 30)
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = daemons.config(feed=OWN_TIME, broker={"kind": "paper"}, dtc={"port": server.getsockname()[1]})
        ended = daemons.run("--mode", "paper", "--config", config, "--var", deep)
    assert ended.status == 1
    assert "ops.control_socket" in ended.sentence
    assert "ops.control_socket" in refused(1, "status", "--var", deep)


@pytest.mark.parametrize("word", ["status", "halt", "resume", "flatten", "stop"])
def test_nobody_to_give_a_command_to(refused, tmp_path, word):
    assert "no daemon answers" in refused(1, word, "--var", tmp_path)


# ---------------------------------------------------------------------------------------------------- bundles, live


@pytest.fixture
def copy_of_bundle(tmp_path):
    """The shipped bundle, to be spoilt."""
    return Path(shutil.copytree(bundle.shipped(), tmp_path / "bundle"))


def altered(path):
    (path / "policy.onnx").write_bytes((path / "policy.onnx").read_bytes()[:-1] + b"\x00")


def incomplete(path):
    (path / "regime.json").unlink()


def of_another_catalogue(path):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "catalogue_sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (altered, "policy.onnx"),
        (incomplete, "regime.json"),
        (of_another_catalogue, "catalogue"),
        (shutil.rmtree, "bundle"),
        (lambda path: (path / "manifest.json").write_text("{"), "manifest.json"),
    ],
    ids=["altered", "incomplete", "other catalogue", "missing", "no manifest"],
)
def test_a_wrong_bundle(refused, daemons, tmp_path, copy_of_bundle, spoil, says):
    spoil(copy_of_bundle)
    config = daemons.config(model={"bundle": str(copy_of_bundle)})
    sentence = refused(ExitStatus.NO_INPUT, "--mode", "paper", "--config", config, "--var", tmp_path / "var")
    assert says in sentence
    assert not (tmp_path / "var").exists()


def test_live_has_to_be_armed_for_the_very_account(refused, daemons):
    words = ("--mode", "live", "--config", daemons.config())
    assert "--arm Sim1" in refused(2, *words)
    assert "--arm Sim1" in refused(2, *words, "--arm", "Sim2")


def test_live_refuses_a_bundle_for_research(refused, daemons, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = daemons.config(feed=OWN_TIME, dtc={"port": server.getsockname()[1]})
        words = ("--mode", "live", "--arm", "Sim1", "--config", config, "--var", tmp_path / "var")
        assert "research-only" in refused(ExitStatus.NO_INPUT, *words)
        server.setblocking(False)
        server.accept()[0].close()  # it was looked at ...
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()  # ... and no order connection was made
    assert not (tmp_path / "var").exists()


# ---------------------------------------------------------------------------------------------------- check


def test_check_says_a_line_for_each_subject(daemons, tmp_path):
    told = daemons.run("check", "--config", PROJECT / "etc" / "mia.toml", "--var", tmp_path / "var", quick=False)
    assert (told.status, told.err) == (0, "")
    lines = told.out.splitlines()
    assert [line[6:20].strip() for line in lines] == SUBJECTS
    assert {line[:4] for line in lines} == {"ok  "}
    assert not (tmp_path / "var").exists()


def test_check_says_all_that_is_wrong_at_once_and_what_to_do(daemons, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    config = daemons.config(
        instrument={"symbol": "XYF27"},
        model={"bundle": str(tmp_path / "none")},
        windows={"macro_events_csv": str(tmp_path / "none.csv")},
        feed=OWN_TIME,
        dtc={"port": free},
        ops={"kill_file": str(file)},
    )
    told = daemons.run("check", "--config", config, "--var", file)
    assert told.status == 1
    lines = [line for line in told.out.splitlines() if line.startswith("FAIL")]
    fit = {"risk", "kernel cache", "control socket", "journal", "clock"}
    assert [line[6:20].strip() for line in lines] == [subject for subject in SUBJECTS if subject not in fit]
    for line, wrong in zip(
        lines, ["XYF27", "none", str(file), str(file), "none.csv", str(free), str(free)], strict=True
    ):
        assert wrong in line
    assert daemons.run("--mode", "paper", "--config", config, "--var", file).status == ExitStatus.USAGE


def test_check_looks_at_live_with_other_eyes(daemons):
    told = daemons.run("check", "--mode", "live", "--config", daemons.config())
    assert told.status == 1
    wrong = [line[6:20].strip() for line in told.out.splitlines() if line.startswith("FAIL")]
    assert wrong == ["bundle", "feed", "arming"]


# ---------------------------------------------------------------------------------------------------- the simulator


def test_a_simulator_of_several_accounts_and_symbols_with_native_prices(daemons, tmp_path):
    options = {"accounts": "A1,A2", "symbols": "NQZ26_FUT_CME,ESZ26_FUT_CME", "display-multiplier": 0.01}
    _, number = daemons.simulator(daemons.config(), tmp_path / "state", **options)
    requests = (
        dtc.LogonRequest(HeartbeatIntervalInSeconds=10),
        dtc.TradeAccountsRequest(RequestID=1),
        *(
            dtc.SecurityDefinitionForSymbolRequest(RequestID=2, Symbol=name)
            for name in ("NQZ26_FUT_CME", "ESZ26_FUT_CME")
        ),
    )
    frames, answers = FrameReader(), []
    with socket.create_connection(("127.0.0.1", number), timeout=10) as connection:
        connection.sendall(b"".join(map(encode, requests)))
        while len(answers) < 5:
            answers += decode_frames(frames.feed(connection.recv(65_536)))
    assert [answer.TradeAccount for answer in answers[1:3]] == ["A1", "A2"]
    assert [(a.CurrencyValuePerIncrement, round(a.DisplayPriceMultiplier, 7)) for a in answers[3:]] == [
        (5.0, 0.01), (12.5, 0.01),
    ]  # fmt: skip


def test_the_simulator_alone_serves_until_it_is_stopped(daemons, tmp_path):
    process, number = daemons.simulator(daemons.config(), tmp_path / "state", speed=100, seed=3)
    with socket.create_connection(("127.0.0.1", number), timeout=10):
        until((tmp_path / "state" / "orders.jsonl").exists, "its record")
    process.signal(signal.SIGTERM)
    ended = process.wait(10)
    assert ended.status == 0
    assert json.loads(ended.out) == {"event": "listening", "host": "127.0.0.1", "port": number}
