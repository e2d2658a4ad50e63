"""What the thread beside the loop makes of what it sees; tests/test_blocked_loop.py has processes that it ends."""

import asyncio
import threading

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.ops.stall_watch import Stall, StallTimer, StallWatch


@given(st.lists(st.floats(0.0, 100.0), max_size=50))
def test_a_loop_that_runs_between_any_two_looks_is_never_blocked(elapsed):
    timer = StallTimer(3.0, 10.0)
    assert {timer.look(beats, seconds) for beats, seconds in enumerate(elapsed)} <= {Stall.NONE}


def test_a_stall_is_reported_once_and_then_for_good():
    timer = StallTimer(3.0, 6.0)
    found = [timer.look(7, 1.0) for _ in range(8)]
    assert found == [Stall.NONE] * 3 + [Stall.FOUND] + [Stall.NONE] * 2 + [Stall.FOR_GOOD] * 2
    assert timer.silent_s == 7.0


def test_the_next_stall_is_reported_again():
    timer = StallTimer(2.0, 100.0)
    found = [timer.look(beats, 1.0) for beats in (1, 1, 1, 1, 2, 2, 2, 2)]
    assert found.count(Stall.FOUND) == 2


def test_time_in_which_the_thread_did_not_run_either_is_no_stall():
    """A stopped process, or a machine without a processor to spare."""
    timer = StallTimer(3.0, 6.0)
    assert [timer.look(7, 3600.0) for _ in range(2)] == [Stall.NONE] * 2
    assert timer.silent_s == 2.0


async def test_a_stall_that_ends_is_reported_to_the_loop(tmp_path, capfd):
    told, over = [], asyncio.Event()
    path = tmp_path / "logs" / "loop_stalls.txt"
    watch = StallWatch(path, WallClock(), 0.5, 3600.0, lambda text: (told.append(text), over.set()))
    released = threading.Event()
    watch.start()
    try:
        threading.Thread(target=lambda: (until_written(path), released.set())).start()
        released.wait()  # blocks the loop until the report is written
        async with asyncio.timeout(30):
            await over.wait()
    finally:
        watch.stop()
    (sentence,) = told
    assert sentence.startswith("the event loop has been blocked for ")
    assert f"{path} has the stacks" in sentence
    assert "test_stall_watch.py" in path.read_text()
    assert sentence in capfd.readouterr().err
    assert "stall watch" not in {thread.name for thread in threading.enumerate()}


def until_written(path):
    pause = threading.Event()
    for _ in range(3000):
        if path.exists() and b"File" in path.read_bytes():
            return
        pause.wait(0.01)


async def test_a_healthy_loop_is_not_reported_at_the_lowest_settings(tmp_path, capfd):
    path = tmp_path / "stalls.txt"
    watch = StallWatch(path, WallClock(), 1.0, 3.0, print)
    watch.start()
    try:
        for _ in range(500):
            await asyncio.sleep(0.01)
    finally:
        watch.stop()
    assert not path.read_text()
    assert not capfd.readouterr().err


async def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "stalls.txt").symlink_to(tmp_path / "elsewhere")
    notices = []
    _end(StallWatch(tmp_path / "stalls.txt", WallClock(), 1.0, 3.0, print, lambda *notice: notices.append(notice)))
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "stalls.txt").is_file()
    ((code, text),) = notices
    assert (code, "symbolic link" in text) == ("file_set_aside", True)


async def test_a_file_that_cannot_be_written_does_not_forbid_trading(tmp_path):
    (tmp_path / "logs").write_text("")
    notices = []
    path = tmp_path / "logs" / "below" / "stalls.txt"
    _end(StallWatch(path, WallClock(), 1.0, 2.0, print, lambda *notice: notices.append(notice)))
    assert [code for code, _ in notices] == ["file_not_written"]


def _end(watch):
    watch.start()
    watch.stop()
