"""When files are looked at again: at once where the system announces changes, and by the clock where it does not."""

import asyncio

import pytest

from mia_daemon.clock import WallClock
from mia_daemon.feed.tailing.file_watch import FileWatch

LONG = 5.0


@pytest.fixture
def said():
    return []


async def until_quiet(watch, path):
    """Let go by what setting a watch, or making a file, still announces."""
    for _ in range(4):
        await watch.wait([path], found=False, at_most_s=0.02)


async def waited_s(watch, path, *, found=False, at_most_s=LONG):
    clock = WallClock()
    started = clock.monotonic_ns()
    await watch.wait([path], found=found, at_most_s=at_most_s)
    return (clock.monotonic_ns() - started) / 1e9


async def test_a_write_ends_the_wait(tmp_path, said):
    path = tmp_path / "x"
    path.write_bytes(b"")
    with FileWatch(LONG, said.append) as watch:
        watch._delay_s = LONG
        await until_quiet(watch, path)
        watch._delay_s = LONG
        waiting = asyncio.create_task(waited_s(watch, path))
        await asyncio.sleep(0)
        with path.open("ab") as file:
            file.write(b"x")
        assert await waiting < 1.0
    assert said == []


@pytest.mark.parametrize("appear", ["write", "move"])
async def test_a_file_that_appears_ends_the_wait_and_is_watched(tmp_path, said, appear):
    path = tmp_path / "x"
    with FileWatch(LONG, said.append) as watch:
        await until_quiet(watch, path)
        watch._delay_s = LONG
        waiting = asyncio.create_task(waited_s(watch, path))
        await asyncio.sleep(0)
        if appear == "write":
            path.write_bytes(b"")
        else:
            (tmp_path / "y").write_bytes(b"")
            (tmp_path / "y").replace(path)
        assert await waiting < 1.0
        await until_quiet(watch, path)
        assert len(watch._watched) == 2


async def test_trust_is_earned_and_lost(tmp_path, said):
    """Polled every few ms until a change was announced, and again when one was not."""
    path = tmp_path / "x"
    path.write_bytes(b"")
    with FileWatch(0.004, said.append) as watch:
        await until_quiet(watch, path)
        assert await waited_s(watch, path) < 0.1
        with path.open("ab") as file:
            file.write(b"x")
        await watch.wait([path], found=False, at_most_s=LONG)
        await watch.wait([path], found=True, at_most_s=0.0)
        assert await waited_s(watch, path) > 0.1
        for _ in range(5):
            assert await waited_s(watch, path, found=True) < 0.1
    assert said == [
        "changes of the files are not announced by the system, as on a network share: looking every 4 ms instead"
    ]


async def test_polls_where_asked_or_where_inotify_is_not(tmp_path, said, monkeypatch):
    path = tmp_path / "x"
    with FileWatch(0.004, said.append, inotify=False) as watch:
        assert watch._inotify is None
        assert await waited_s(watch, path) < 0.1
    assert said == []

    def refuse(**_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("mia_daemon.feed.tailing.file_watch.Inotify", refuse)
    with FileWatch(0.004, said.append) as watch:
        assert await waited_s(watch, path) < 0.1
    assert said == ["inotify can't be used (Too many open files): looking every 4 ms instead"]


async def test_a_limit_of_watches_is_told_and_survived(tmp_path, said, monkeypatch):
    path = tmp_path / "x"
    with FileWatch(0.004, said.append) as watch:

        def refuse(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(type(watch._inotify), "add_watch", refuse)
        assert await waited_s(watch, path) < 0.1
        assert watch._inotify is None
    assert said == ["inotify can't be used (No space left on device): looking every 4 ms instead"]


async def test_waking_and_the_limit_end_the_wait(tmp_path, said):
    with FileWatch(LONG, said.append) as watch:
        await until_quiet(watch, tmp_path / "x")
        watch._delay_s = LONG
        assert await waited_s(watch, tmp_path / "x", at_most_s=0.01) < 1.0
        asyncio.get_running_loop().call_soon(watch.wake)
        assert await waited_s(watch, tmp_path / "x") < 1.0
