"""When to look at files again: the kernel says so, or a clock does where it can't."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from asyncinotify import Inotify, Mask

POLL_FIRST_S: Final = 0.001
"""Wait after a change that was found by polling; doubled in silence, up to the poll interval."""

LOOK_ANYWAY_S: Final = 0.25
"""Between two looks while inotify is relied upon: it has nothing to say of a mapped file or a remote writer."""

_UNANNOUNCED: Final = 5  # changes in a row that inotify missed, before somebody is told
_OF_FILE: Final = Mask.MODIFY
_OF_DIRECTORY: Final = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE | Mask.MOVED_FROM


class FileWatch:
    """Waits until one of some files may have changed.

    inotify announces what is written on this machine, by Wine too, within 0.1 ms; it is silent about writes that
    another machine makes to a network share. So it has to earn trust: files are polled until it has announced a change,
    and again after a change that it missed. A context manager, to be entered in a running loop.

    Args:
        poll_interval_s: longest wait between two looks when polling.
        inotify: False polls always.
        say: is told, in a sentence and once, when polling has to stand in for inotify.
    """

    def __init__(self, poll_interval_s: float, say: Callable[[str], None], *, inotify: bool = True) -> None:
        self._poll_interval_s = poll_interval_s
        self._say = say
        self._wanted = inotify
        self._inotify: Inotify | None = None
        self._watched: set[int] = set()  # watch descriptors
        self._stale = True  # files may have come or gone since the watches were set
        self._paths: tuple[Path, ...] = ()
        self._wake = asyncio.Event()
        self._announced = False  # since the last change that was found
        self._trusted = False
        self._missed = 0
        self._said = False
        self._delay_s = POLL_FIRST_S

    def __enter__(self) -> Self:
        if self._wanted:
            try:
                self._inotify = Inotify()
            except OSError as error:
                self._give_up(error)
            else:
                os.set_blocking(self._inotify.fd, False)  # the library (4.4.4) means to, but sets O_CLOEXEC instead
                asyncio.get_running_loop().add_reader(self._inotify.fd, self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    async def wait(self, paths: Iterable[Path], *, found: bool, at_most_s: float) -> None:
        """Return when `paths` should be looked at again.

        Args:
            paths: the files, which needn't exist.
            found: whether the last look found a change.
            at_most_s: return after this in any case.
        """
        self._judge(found=found)
        if self._renew(tuple(paths)):
            return  # what was written before the watch was set is not announced
        self._delay_s = POLL_FIRST_S if found else min(2 * self._delay_s, self._poll_interval_s)
        try:
            async with asyncio.timeout(min(LOOK_ANYWAY_S if self._trusted else self._delay_s, at_most_s)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def wake(self) -> None:
        """Make `wait` return."""
        self._wake.set()

    def _judge(self, *, found: bool) -> None:
        if self._announced:
            self._trusted, self._missed = True, 0
        elif found:
            self._trusted = False
            self._missed += 1
            if self._missed == _UNANNOUNCED and self._inotify is not None:
                self._tell("changes of the files are not announced by the system, as on a network share")
        if found:
            self._announced = False

    def _renew(self, paths: tuple[Path, ...]) -> bool:
        """Watch what is there, and its directories; whether something was not watched before."""
        if self._inotify is None or (not self._stale and paths == self._paths):
            return False
        self._stale, self._paths = False, paths
        known = len(self._watched)
        wanted = [(path.parent, _OF_DIRECTORY) for path in paths] + [(path, _OF_FILE) for path in paths]
        for path, mask in wanted:
            try:
                self._watched.add(self._inotify.add_watch(path, mask).wd)
            except FileNotFoundError:
                continue  # polling, or the watch of its directory, will see it come
            except OSError as error:
                self._give_up(error)
                return False
        return len(self._watched) > known

    def _listen(self) -> None:
        assert self._inotify is not None
        with contextlib.suppress(BlockingIOError):  # all were read
            while (event := self._inotify.sync_get()) is not None:
                if event.mask != _OF_FILE:
                    self._stale = True
                if event.mask & Mask.IGNORED and event.watch is not None:
                    self._watched.discard(event.watch.wd)
        self._announced = True
        self._wake.set()

    def _give_up(self, error: OSError) -> None:
        """Poll from now on: limits of inotify are reached, or it is not there."""
        self._tell(f"inotify can't be used ({error.strerror})")
        self.__exit__(None, None, None)
        self._trusted = False

    def _tell(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._say(f"{why}: looking every {self._poll_interval_s * 1e3:g} ms instead")
