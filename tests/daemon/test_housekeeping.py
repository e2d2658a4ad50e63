"""The daemon's housekeeping: what its child reports, how it ends, and the journal's pruning in small steps."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest

from mia_daemon.clock import EventClock
from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.daemon import housekeeping
from mia_daemon.daemon.housekeeping import Housekeeping, walk_slowly
from mia_daemon.journal.pruning import NOTHING, Chosen, Kept, Place, PrunedRows, Step

WAIT = "import sys; sys.stdin.read()"


def report(days_left=None, problems=()):
    disk = {"var_bytes": 10**9, "free_bytes": 10**10, "days_left": days_left, "lasts": False}
    return {"problems": len(problems), "problems_first": list(problems), "disk": disk}


@pytest.fixture
def run():
    alerts, alerted, reported = [], asyncio.Event(), asyncio.Event()

    def alert(raised):
        alerts.append(raised)
        alerted.set()

    return SimpleNamespace(
        settings=SimpleNamespace(retention=RetentionSettings()),
        clock=EventClock(5),
        log=SimpleNamespace(info=lambda *_args, **_facts: reported.set()),
        alert=alert,
        alerts=alerts,
        alerted=alerted,
        reported=reported,
        journal=None,
    )


@pytest.fixture
def start(run, tmp_path, monkeypatch):
    """Housekeeping whose child is a script."""

    async def started(script):
        monkeypatch.setattr(housekeeping, "_command", lambda *_: [sys.executable, "-c", script])
        keeper = Housekeeping(run, VarPaths(tmp_path))
        await keeper.start()
        return keeper

    return started


async def test_the_disk_is_known_after_a_round_and_stopping_ends_the_child(run, start):
    lines = f"print({json.dumps(report(99.0))!r}, flush=True)\n{WAIT}"
    keeper = await start(lines)
    assert keeper.disk is None
    await run.reported.wait()
    assert keeper.disk["days_left"] == 99.0
    await keeper.stop()
    assert keeper._child.returncode is not None
    assert run.alerts == []


async def test_a_disk_that_fills_is_one_alert_until_there_is_room_again(run, tmp_path):
    keeper = Housekeeping(run, VarPaths(tmp_path))
    for days in (99.0, 13.0, 12.0, None, 13.9):
        keeper._report(report(days))
    assert [alert.code for alert in run.alerts] == ["disk_days", "disk_days"]
    assert "full in about 13 days: make room" in run.alerts[0].text


async def test_problems_of_a_round_are_one_alert(run, tmp_path):
    Housekeeping(run, VarPaths(tmp_path))._report(report(problems=["this failed", "that too", "and this"]))
    assert [(alert.code, alert.text) for alert in run.alerts] == [
        ("housekeeping", "this failed; and 2 more, see the log")
    ]


@pytest.mark.parametrize("script", ["raise SystemExit('out of memory')", "print('out of memory'); " + WAIT])
async def test_a_child_that_fails_is_one_alert_and_no_end(run, start, script):
    keeper = await start(script)
    await run.alerted.wait()
    assert [alert.code for alert in run.alerts] == ["housekeeping_ended"]
    await keeper.stop()
    assert len(run.alerts) == 1


async def test_a_child_that_cannot_be_started_is_one_alert(run, tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "_command", lambda *_: [str(tmp_path / "no such program")])
    keeper = Housekeeping(run, VarPaths(tmp_path))
    await keeper.start()
    await keeper.stop()
    assert [alert.code for alert in run.alerts] == ["housekeeping_ended"]


async def test_a_walk_adds_up_its_steps_and_lets_the_loop_go_on_between_them():
    steps = [
        Step(Chosen(["a", "b"], [], [7]), Place(1, "b")),
        Step(NOTHING, Place(2)),
        Step(Chosen(["c"], [], []), None),
    ]
    asked = []
    others = asyncio.create_task(asyncio.sleep(0))

    def step(place, _kept, most):
        asked.append((place, most, others.done()))
        return steps[len(asked) - 1]

    assert await walk_slowly(step, Kept(1, 1), every_s=0) == PrunedRows(3, 1)
    assert [place for place, _, _ in asked] == [Place(), Place(1, "b"), Place(2)]
    assert [done for _, _, done in asked][::2] == [False, True]
    assert all(most <= 50 for _, most, _ in asked)
