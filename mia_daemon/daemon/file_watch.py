"""Watches the files for people: reopens those that were moved or changed, and reports what happened to them."""

from collections.abc import Callable, Iterable
from typing import Final

from mia_daemon.appended_file import NOT_WRITTEN, REOPENED, SET_ASIDE, AppendedFile
from mia_daemon.ops.alert_manager import LIST_SET_ASIDE
from mia_daemon.records import Priority
from mia_daemon.service_stderr import report_on_stderr

_PRIORITIES: Final = {
    REOPENED: Priority.INFO,
    SET_ASIDE: Priority.WARNING,
    NOT_WRITTEN: Priority.ERROR,
    LIST_SET_ASIDE: Priority.URGENT,
}


class FileWatch:
    """Collects the notices of files and reports them, those of one kind as one alert.

    A second alert of the same code would be held back as a repeat, and a notice may come from within the alert
    manager's own files: so they are reported by `check`, not at once.
    """

    def __init__(self) -> None:
        self._notices: dict[str, list[str]] = {}
        self._files: Callable[[], Iterable[AppendedFile]] = tuple
        self._report: Callable[[str, Priority, str], None] = _to_stderr

    def notify(self, code: str, text: str) -> None:
        """Keep a notice for the next report."""
        self._notices.setdefault(code, []).append(text)

    def watch(self, files: Callable[[], Iterable[AppendedFile]], report: Callable[[str, Priority, str], None]) -> None:
        """Watch these files, and report by code, priority and sentence from now on; what waits is reported."""
        self._files, self._report = files, report
        self._report_all()

    def check(self) -> None:
        """Continue in files that were moved, shortened or rewritten; to be called once a second."""
        for file in self._files():
            file.check()
        self._report_all()

    def reopen(self) -> None:
        """Open all files again, whether or not they seem changed."""
        for file in self._files():
            file.reopen()
        self._report_all()

    def close(self) -> None:
        """Report on standard error what was not reported yet: the start failed, or the files are closed."""
        self._report = _to_stderr
        self._report_all()

    def _report_all(self) -> None:
        notices, self._notices = self._notices, {}
        for code, texts in notices.items():
            self._report(code, _PRIORITIES[code], "; ".join(texts))


def _to_stderr(code: str, priority: Priority, text: str) -> None:
    if priority > Priority.INFO:
        report_on_stderr(code, text)
