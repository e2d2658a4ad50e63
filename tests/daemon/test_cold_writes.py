"""Files written beside the event loop: in order, whole, and none lost when the session ends."""

import asyncio
import os
import stat
import threading

import pytest

from mia_daemon.daemon.cold_writes import ColdWrites


@pytest.fixture
def notices():
    return []


@pytest.fixture
def writes(notices):
    return ColdWrites(lambda *notice: notices.append(notice))


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_written_on_the_loop_while_it_runs(writes, tmp_path, monkeypatch):
    threads, begun, loop = set(), asyncio.Event(), asyncio.get_running_loop()
    opened = os.open

    def noted(path, *more, **other):
        if str(path).endswith(".part"):
            threads.add(threading.get_ident())
            loop.call_soon_threadsafe(begun.set)
        return opened(path, *more, **other)

    monkeypatch.setattr(os, "open", noted)
    running = asyncio.create_task(writes.run())
    await asyncio.sleep(0)
    writes.write(tmp_path / "new" / "a.json", b"1")
    await asyncio.wait_for(begun.wait(), 10)
    await ended(running)
    assert (tmp_path / "new" / "a.json").read_bytes() == b"1"
    assert threading.get_ident() not in threads


async def test_all_is_on_file_when_the_session_has_ended_and_the_newest_content_wins(writes, tmp_path):
    path, others = tmp_path / "a.json", [tmp_path / f"{n}.json" for n in range(20)]
    running = asyncio.create_task(writes.run())
    await asyncio.sleep(0)
    writes.write(path, b"at the entry")
    for other in others:
        writes.write(other, b"x")
    await asyncio.sleep(0)  # the first one is under way
    writes.write(path, b"at the close")
    await ended(running)
    assert path.read_bytes() == b"at the close"
    assert [other.read_bytes() for other in others] == [b"x"] * 20
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])  # no part is left
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    writes.write(path, b"afterwards")  # at once
    assert path.read_bytes() == b"afterwards"


async def test_a_write_under_way_at_the_end_is_awaited(writes, tmp_path, monkeypatch):
    """Its thread goes on after the task was cancelled: it must not replace what is written after it."""
    begun, release, replace = threading.Event(), threading.Event(), os.replace

    def held_up(source, target):
        begun.set()
        assert release.wait(10)
        replace(source, target)

    monkeypatch.setattr("aiofiles.os.replace", _in_thread(held_up))
    path = tmp_path / "a.json"
    running = asyncio.create_task(writes.run())
    await asyncio.sleep(0)
    writes.write(path, b"older")
    await asyncio.to_thread(begun.wait, 10)
    writes.write(path, b"newer")
    ending = asyncio.create_task(ended(running))
    await asyncio.sleep(0)
    release.set()
    await ending
    assert path.read_bytes() == b"newer"


def _in_thread(function):
    async def called(*arguments):
        await asyncio.to_thread(function, *arguments)

    return called


async def test_what_cannot_be_written_is_reported_and_the_next_file_is_written(writes, tmp_path, notices):
    (tmp_path / "a.json").mkdir()
    running = asyncio.create_task(writes.run())
    await asyncio.sleep(0)
    writes.write(tmp_path / "a.json", b"1")
    writes.write(tmp_path / "b.json", b"2")
    await ended(running)
    ((code, text),) = notices
    assert (code, "a.json can't be written" in text) == ("file_not_written", True)
    assert (tmp_path / "b.json").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
