"""The log: whole JSON lines, no secrets, cheap, and never the reason trading stops."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mia_daemon.clock import EventClock
from mia_daemon.ops.logs import LineFile, StdlibHandler, make_logger
from mia_daemon.records import Priority, RegimeProbs, Side, TimeInForce

T0 = 1_700_000_000_000_123_000


@pytest.fixture
def lines():
    return []


@pytest.fixture
def log(lines):
    return make_logger(lines.append, EventClock(T0), "debug")


def last(lines):
    assert lines[-1].endswith(b"\n")
    assert lines[-1].count(b"\n") == 1
    return json.loads(lines[-1])


def test_line_is_time_level_event_and_facts(log, lines):
    log.info("order_sent", quantity=2, side=Side.BUY)
    assert list(last(lines).items()) == [
        ("ts", "2023-11-14T22:13:20.000123Z"),
        ("level", "info"),
        ("event", "order_sent"),
        ("quantity", 2),
        ("side", 1),
    ]


def test_bound_facts_travel_with_the_logger(log, lines):
    log.bind(task="feed").warning("gap", text="line one\nline two é")
    assert last(lines)["task"] == "feed"
    assert last(lines)["text"] == "line one\nline two é"


def test_level_holds_back(lines):
    log = make_logger(lines.append, EventClock(T0), "warning")
    log.debug("a")
    log.info("b")
    assert lines == []
    log.error("c")
    assert last(lines)["level"] == "error"


def test_values_of_the_house_become_json(log, lines):
    log.info(
        "x",
        probs=RegimeProbs(0.5, 0.25, 0.25),
        number=np.float32(0.5),
        row=np.array([1, 2]),
        path=Path("var"),
        names={"b", "a"},
        priority=Priority.URGENT,
        tif=TimeInForce.DAY,
        none=None,
    )
    found = last(lines)
    assert found["probs"] == [0.5, 0.25, 0.25]
    assert (found["number"], found["row"], found["path"]) == (0.5, [1, 2], "var")
    assert (found["names"], found["priority"], found["tif"], found["none"]) == (["a", "b"], 5, 1, None)


def test_secrets_never_reach_the_line(log, lines):
    log.info(
        "config",
        password="hunter2",
        dtc={"username": "hunter2", "port": 1, "deep": [{"api_key": "hunter2"}]},
        secret=SecretStr("hunter2"),
        plain=SecretStr("hunter2"),
    )
    assert b"hunter2" not in lines[-1]
    assert last(lines)["dtc"]["port"] == 1


def test_a_line_has_nothing_that_a_terminal_obeys(log, lines):
    text = "\x1b[2J \x9b31m \x7f \u202e \u2028 \ud800\n"
    log.info("x", text=text)
    assert lines[-1].decode().removesuffix("\n").isprintable()
    assert last(lines)["text"] == text


def test_exceptions_carry_their_traceback(log, lines):
    try:
        raise ValueError("the reason")
    except ValueError:
        log.exception("failed")
    assert last(lines)["level"] == "error"
    assert "ValueError: the reason" in last(lines)["exception"]


def test_what_libraries_say_is_logged(log, lines):
    library = logging.getLogger("some.library")
    handler = StdlibHandler(log)
    library.addHandler(handler)
    try:
        library.info("not this")
        library.error("broke %s", "here", exc_info=ValueError("why"))
    finally:
        library.removeHandler(handler)
    assert len(lines) == 1
    found = last(lines)
    assert (found["event"], found["logger"], found["text"]) == ("library_said", "some.library", "broke here")
    assert "ValueError: why" in found["exception"]


facts = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key not in {"event", "ts", "level", "exc_info", "self"}),
    st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.lists(st.text()) | st.binary(),
    max_size=4,
)


@given(facts)
def test_any_facts_make_one_line(values):
    lines = []
    log = make_logger(lines.append, EventClock(T0))
    log.info("x", **values)
    assert last(lines).keys() == {"ts", "level", "event", *values}


def test_nan_stays_valid_json(log, lines):
    log.info("x", price=float("nan"), inner={"limit": float("-inf"), "size": np.float32("nan")}, fine=1.5)
    assert json.loads(lines[-1], parse_constant=pytest.fail)["inner"] == {"limit": "-inf", "size": "nan"}
    assert last(lines)["price"] == "nan"
    assert last(lines)["fine"] == 1.5


def test_surrogates_do_not_break_the_log(log, lines):
    log.info("x", path="bad-\udcff-name")
    assert "bad-" in last(lines)["path"]


# ------------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize("before", [b"", b"one\n", b"x", b"one\ny", b"\x00\xff" * 100_000])
def test_nothing_that_is_in_the_file_is_cut_and_a_new_line_is_whole(tmp_path, before):
    path = tmp_path / "x.log"
    path.write_bytes(before)
    LineFile(path).close()
    file = LineFile(path)
    file.write(b"two\n")
    file.write(b"three\n")
    file.close()
    left = path.read_bytes()
    assert left.startswith(before)
    assert left[len(before) :] in {b"two\nthree\n", b"\ntwo\nthree\n"}
    assert left.splitlines()[-2:] == [b"two", b"three"]


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"torn")
    (tmp_path / "x.log").symlink_to(tmp_path / "target")
    file = LineFile(tmp_path / "x.log")
    file.write(b"line\n")
    file.close()
    assert (tmp_path / "target").read_bytes() == b"torn"
    assert (tmp_path / "x.log").read_bytes() == b"line\n"


def test_full_disk_loses_lines_not_the_daemon(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.log"
    file = LineFile(path)
    file.write(b"one\n")
    real_write = os.write

    def refuse(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    file.write(b"lost\n")
    file.write(b"lost\n")
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:3]))
    file.write(b"torn line\n")
    monkeypatch.setattr(os, "write", real_write)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntor\ntwo\n"
    assert file.lost == 3
    said = capsys.readouterr().err
    assert said.count("can't be written: No space left") == 1
    assert said.count("can be written again") == 1


def test_an_unwritable_place_is_reported_and_tried_again(tmp_path):
    (tmp_path / "file").touch()
    notices = []
    file = LineFile(tmp_path / "file" / "logs" / "x.log", lambda *notice: notices.append(notice))
    file.write(b"lost\n")
    file.check()
    ((code, text),) = notices
    assert (code, file.lost) == ("file_not_written", 1)
    assert "file/logs/x.log can't be written: Not a directory; make room or check its owner" in text
    (tmp_path / "file").unlink()
    file.check()
    file.write(b"line\n")
    file.close()
    assert (tmp_path / "file" / "logs" / "x.log").read_bytes() == b"line\n"
    assert [code for code, _ in notices] == ["file_not_written", "file_reopened"]


def test_killed_writer_leaves_whole_lines(tmp_path):
    code = textwrap.dedent(
        """
        import sys, pathlib
        from mia_daemon.clock import WallClock
        from mia_daemon.ops.logs import LineFile, make_logger
        log = make_logger(LineFile(pathlib.Path(sys.argv[1])).write, WallClock())
        for n in range(1_000_000_000):
            log.info("line", n=n, filler="x" * 300)
            if n == 50: print("going", flush=True)
        """
    )
    path = tmp_path / "x.log"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"going\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    content = path.read_bytes()
    assert content.endswith(b"\n")
    assert [json.loads(line)["n"] for line in content.splitlines()] == list(range(content.count(b"\n")))
