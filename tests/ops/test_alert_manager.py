"""Alerts: told once, counted when repeated, held back in floods, urgent ones kept until acknowledged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S, EventClock
from mia_daemon.errors import UsageError
from mia_daemon.ops.alert_manager import SHOWN, AlertFilter, AlertManager, unacknowledged_text
from mia_daemon.ops.logs import make_logger
from mia_daemon.records import Alert, Priority

T0 = 1_700_000_000 * NS_PER_S


def at(seconds):
    return T0 + round(seconds * NS_PER_S)


def alert(code="feed_stale", priority=Priority.ERROR, seconds=0.0, **context):
    return Alert(at(seconds), code, priority, f"{code} happened: do something", context)


# ------------------------------------------------------------------------------------------------ the filter


def test_repeats_are_held_back_and_counted():
    filter_ = AlertFilter(60, 30)
    assert filter_.offer(alert(), at(0)) is not None
    assert filter_.offer(alert(), at(1)) is None
    assert filter_.offer(alert(), at(59.9)) is None
    assert filter_.offer(alert(), at(60)).context == {"repeats": 2}
    assert filter_.offer(alert(code="other"), at(60)).context == {}


def test_a_higher_priority_passes_at_once():
    filter_ = AlertFilter(60, 30)
    filter_.offer(alert(priority=Priority.WARNING), at(0))
    filter_.offer(alert(priority=Priority.WARNING), at(1))
    worse = filter_.offer(alert(priority=Priority.CRITICAL), at(2))
    assert worse.context == {"repeats": 1}
    assert filter_.offer(alert(priority=Priority.WARNING), at(3)) is None


def test_repeats_are_told_when_their_period_is_over_even_if_nothing_comes_after():
    filter_ = AlertFilter(60, 30)
    filter_.offer(alert(n=1), at(0))
    filter_.offer(alert(n=2), at(1))
    assert filter_.due(at(59)) == []
    (told,) = filter_.due(at(60))
    assert told.context == {"n": 2, "repeats": 1}
    assert filter_.due(at(61)) == []
    assert filter_.offer(alert(), at(70)) is None  # still within the new period
    filter_.due(at(121))
    assert filter_.due(at(200)) == []
    assert filter_.offer(alert(), at(201)).context == {}


def test_rate_limit_holds_back_but_never_what_is_critical():
    filter_ = AlertFilter(0.001, 3)
    passed = [filter_.offer(alert(code=f"c{n}"), at(n)) for n in range(5)]
    assert [told is not None for told in passed] == [True, True, True, False, False]
    for priority in (Priority.CRITICAL, Priority.URGENT):
        assert filter_.offer(alert(code=f"p{priority}", priority=priority), at(5)) is not None
    assert filter_.due(at(6)) == []  # no room yet
    (told,) = filter_.due(at(66))
    assert (told.code, told.context) == ("alerts_held_back", {"count": 2})
    assert filter_.offer(alert(code="later"), at(67)) is not None


def test_a_clock_set_back_silences_nothing():
    filter_ = AlertFilter(60, 1)
    filter_.offer(alert(), at(3600))
    assert filter_.offer(alert(), at(0)) is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(list(Priority))),
        max_size=60,
    )
)
def test_nothing_vanishes(offers):
    """Every alert is told, counted as a repeat of one that is told, or counted as held back by the rate."""
    filter_ = AlertFilter(20, 4)
    now, passed, due = 0, [], []
    for step, code, priority in offers:
        now += step
        told = filter_.offer(alert(code=code, priority=priority, seconds=now), at(now))
        if told is not None:
            passed.append(told)
        elif priority >= Priority.CRITICAL:
            assert code in {earlier.code for earlier in passed}
        due += filter_.due(at(now))
    for _ in range(3):
        now += 61
        due += filter_.due(at(now))
    repeats = sum(told.context.get("repeats", 0) for told in passed + due)
    held_back = sum(told.context.get("count", 0) for told in due)
    assert len(passed) + repeats + held_back == len(offers)


# ------------------------------------------------------------------------------------------------ the manager


@pytest.fixture
def lines():
    return []


@pytest.fixture
def make(tmp_path, lines):
    managers = []

    def build(**more):
        options = {"repeat_after_s": 60, "per_minute": 30, **more}
        log = make_logger(lines.append, EventClock(T0), "debug")
        managers.append(AlertManager(tmp_path, log, **options))
        return managers[-1]

    yield build
    for manager in managers:
        manager.close()


def logged(tmp_path):
    return [json.loads(line) for line in (tmp_path / "logs" / "alerts.jsonl").read_text().splitlines()]


def test_alert_goes_to_log_file_and_teller(tmp_path, lines, make):
    told = []
    manager = make(tell=told.append)
    manager.handle(alert(path="x.scid", level="odd", password="p"), at(0))
    manager.handle(alert(), at(1))
    (record,) = logged(tmp_path)
    assert record == {
        "id": f"{T0}-feed_stale",
        "ts": "2023-11-14T22:13:20.000000Z",
        "code": "feed_stale",
        "priority": 3,
        "text": "feed_stale happened: do something",
        "context": {"path": "x.scid", "level": "odd", "password": "[redacted]"},
    }
    line = json.loads(lines[0])
    assert (line["event"], line["level"], line["code"], line["path"]) == ("alert", "error", "feed_stale", "x.scid")
    assert line["context_level"] == "odd"
    assert json.loads(lines[1])["event"] == "alert_held_back"
    assert [a.code for a in told] == ["feed_stale"]


def test_tick_tells_what_is_due(tmp_path, make):
    manager = make()
    manager.handle(alert(), at(0))
    manager.handle(alert(), at(1))
    manager.tick(at(61))
    assert [record["context"] for record in logged(tmp_path)] == [{}, {"repeats": 1}]


def test_urgent_alerts_are_kept_until_acknowledged(tmp_path, make):
    manager = make()
    manager.handle(alert(code="naked_position", priority=Priority.URGENT), at(0))
    manager.handle(alert(code="kill", priority=Priority.URGENT, seconds=1), at(1))
    manager.handle(alert(code="feed_stale", priority=Priority.CRITICAL), at(1))
    assert [record["code"] for record in manager.unacknowledged] == ["naked_position", "kill"]
    again = make()  # a restart
    assert again.unacknowledged == manager.unacknowledged
    (first, second) = (record["id"] for record in manager.unacknowledged)
    assert again.acknowledge("kill", "uid 1000", at(9)) == [second]
    with pytest.raises(UsageError, match=f"kill is no urgent alert that waits .*; those that do: {first}$"):
        again.acknowledge("kill", "uid 1000", at(9))
    assert [record["id"] for record in make().unacknowledged] == [first]
    assert again.acknowledge(first, "uid 1000", at(10)) == [first]
    assert make().unacknowledged == again.acknowledge(None, "uid 1000", at(11)) == []
    assert logged(tmp_path)[-1] == {
        "ts": "2023-11-14T22:13:30.000000Z",
        "acknowledged": f"{T0}-naked_position",
        "by": "uid 1000",
    }


def test_a_status_lists_the_newest_urgent_alerts_and_how_to_acknowledge_each(make):
    manager = make()
    assert unacknowledged_text(manager.unacknowledged) == ""
    for number in range(SHOWN):
        manager.handle(alert(code=f"c{number}", priority=Priority.URGENT), at(number))
    lines = unacknowledged_text(manager.unacknowledged).splitlines()
    assert lines[0] == ""
    assert (
        lines[1] == f"urgent 2023-11-14T22:13:20.000000Z  c0 happened: do something; `mia-daemon acknowledge {T0}-c0`"
    )
    assert len(lines) == 1 + SHOWN
    manager.handle(alert(code="last", priority=Priority.URGENT), at(99))
    lines = unacknowledged_text(manager.unacknowledged).splitlines()
    assert lines[1] == f"{SHOWN + 1} urgent alerts wait for `mia-daemon acknowledge`; the newest {SHOWN}:"
    assert lines[2].endswith("-c1`")
    assert lines[-1].endswith("-last`")


def test_urgent_after_acknowledging_is_kept_again(tmp_path, make):
    manager = make(repeat_after_s=1)
    manager.handle(alert(priority=Priority.URGENT), at(0))
    manager.acknowledge(None, "uid 0", at(1))
    manager.handle(alert(priority=Priority.URGENT, seconds=2), at(2))
    assert len(make().unacknowledged) == 1


def test_torn_tail_of_the_list_is_cut(tmp_path, make):
    path = tmp_path / "alerts" / "unacknowledged.jsonl"
    path.parent.mkdir()
    path.write_text('{"id": "1-a", "code": "a"}\n{"id": "2-')
    assert [record["id"] for record in make().unacknowledged] == ["1-a"]
    assert path.read_text() == '{"id": "1-a", "code": "a"}\n'.replace(": ", ":").replace(", ", ",")


@pytest.mark.parametrize(
    "content",
    [b"nonsense\n", b"nonsense", b'{"id": "1-a"}\nnonsense', b"[1]\n", b"7\n", b"\xff\n", b"[" * 5000 + b"\n"],
)
def test_a_damaged_list_is_set_aside_whole_and_reported_as_urgent(tmp_path, make, content):
    path = tmp_path / "alerts" / "unacknowledged.jsonl"
    path.parent.mkdir()
    path.write_bytes(content)
    notices = []
    manager = make(notify=lambda *notice: notices.append(notice))
    ((code, text),) = notices
    (aside,) = path.parent.glob("unacknowledged.jsonl.*")
    assert code == "unacknowledged_set_aside"
    assert f"set aside as {aside.name}; see whether its alerts were dealt with" in text
    assert aside.read_bytes() == content
    manager.handle(alert(priority=Priority.URGENT), at(0))
    assert len(make().unacknowledged) == 1


def test_an_acknowledgement_that_the_disk_refuses_is_reported_and_stops_nothing(tmp_path, make, monkeypatch):
    notices = []
    manager = make(notify=lambda *notice: notices.append(notice))
    manager.handle(alert(priority=Priority.URGENT), at(0))

    def refuse(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mia_daemon.ops.alert_manager.replace_file", refuse)
    (waiting,) = [one["id"] for one in manager.unacknowledged]
    assert manager.acknowledge(None, "uid 0", at(1)) == [waiting]
    assert manager.unacknowledged == []
    assert [code for code, _ in notices] == ["file_not_written"]
