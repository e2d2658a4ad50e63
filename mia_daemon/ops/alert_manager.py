"""Alerts: each told once, repeats counted, floods held back, urgent ones kept until a person acknowledges them.

The manager is told the time with every alert, so a replay alerts as the live session did. Where alerts go now: the log,
var/logs/alerts.jsonl, and for urgent ones var/alerts/unacknowledged.jsonl; channels over the network belong to the
observer, which reads these files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mia_daemon.appended_file import NOT_WRITTEN, FileNotice, set_aside
from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import UsageError
from mia_daemon.ops.logs import LineFile, Logger, json_line, redact
from mia_daemon.private_file import replace_file
from mia_daemon.records import Alert, Priority
from mia_daemon.service_stderr import report_on_stderr

ALERTS_PATH: Final = Path("logs", "alerts.jsonl")
UNACKNOWLEDGED_PATH: Final = Path("alerts", "unacknowledged.jsonl")
"""Below var/."""

LIST_SET_ASIDE: Final = "unacknowledged_set_aside"
"""Code of the notice that the list of urgent alerts could not be read."""
SHOWN: Final = 10
"""Alerts that wait to be acknowledged, in a status."""

_MINUTE_NS: Final = 60 * NS_PER_S
_LOG_METHOD: Final = {
    Priority.INFO: "info",
    Priority.WARNING: "warning",
    Priority.ERROR: "error",
    Priority.CRITICAL: "critical",
    Priority.URGENT: "critical",
}


@dataclass(slots=True)
class _Told:
    """What was last told under one code, and what has been held back since."""

    at_ns: int
    alert: Alert
    repeats: int = 0


class AlertFilter:
    """Which alerts pass: pure, so that its rules can be tested without files.

    An alert passes unless the same code passed less than `repeat_after_s` ago with at least its priority, or
    `per_minute` alerts passed within the last minute. Critical and urgent ones are not subject to the second rule.
    An alert that passes carries the number of repeats held back since its code was last told.
    """

    def __init__(self, repeat_after_s: float, per_minute: int) -> None:
        self._repeat_after_ns = round(repeat_after_s * NS_PER_S)
        self._per_minute = per_minute
        self._told: dict[str, _Told] = {}
        self._passed_ns: list[int] = []
        self._over_rate = 0

    def offer(self, alert: Alert, now_ns: int) -> Alert | None:
        """The alert to tell now, or None when it is held back."""
        told = self._told.get(alert.code)
        if told is not None and self._is_repeat(told, alert, now_ns):
            told.repeats += 1
            told.alert = alert
            return None
        if alert.priority < Priority.CRITICAL and not self._has_room(now_ns):
            self._over_rate += 1
            return None
        self._passed_ns.append(now_ns)
        self._told[alert.code] = _Told(now_ns, alert)
        return alert if told is None or not told.repeats else _with_repeats(alert, told.repeats)

    def _is_repeat(self, told: _Told, alert: Alert, now_ns: int) -> bool:
        # A clock set back must not silence a code until it has caught up: only 0 <= age counts.
        return alert.priority <= told.alert.priority and 0 <= now_ns - told.at_ns < self._repeat_after_ns

    def _has_room(self, now_ns: int) -> bool:
        self._passed_ns = [at for at in self._passed_ns if 0 <= now_ns - at < _MINUTE_NS]
        return len(self._passed_ns) < self._per_minute

    def due(self, now_ns: int) -> list[Alert]:
        """What has to be told because time passed: repeats whose period is over, and what the rate limit dropped."""
        due = []
        for code, told in list(self._told.items()):
            if 0 <= now_ns - told.at_ns < self._repeat_after_ns:
                continue
            if told.repeats:
                due.append(_with_repeats(told.alert, told.repeats))
                self._told[code] = _Told(now_ns, told.alert)
            else:
                del self._told[code]
        if self._over_rate and self._has_room(now_ns):
            text = f"{self._over_rate} alerts were held back by the limit of {self._per_minute} per minute: see the log"
            due.append(Alert(now_ns, "alerts_held_back", Priority.WARNING, text, {"count": self._over_rate}))
            self._over_rate = 0
        return due


def _with_repeats(alert: Alert, repeats: int) -> Alert:
    return replace(alert, context={**alert.context, "repeats": repeats})


class AlertManager:
    """Tells alerts to the log, to alerts.jsonl, and keeps urgent ones until they are acknowledged.

    Args:
        var: the daemon's directory.
        log: takes every alert that passes, and at level debug those held back.
        repeat_after_s, per_minute: see AlertFilter.
        tell: called with every alert that passes, e.g. to show it on the console.
        notify: called with notices of files that were set aside or can't be written.
    """

    def __init__(
        self,
        var: Path,
        log: Logger,
        *,
        repeat_after_s: float,
        per_minute: int,
        tell: Callable[[Alert], None] = lambda _alert: None,
        notify: FileNotice = report_on_stderr,
    ) -> None:
        self._log = log
        self._tell = tell
        self._filter = AlertFilter(repeat_after_s, per_minute)
        self._file = LineFile(var / ALERTS_PATH, notify)
        self._unacknowledged = _Unacknowledged(var / UNACKNOWLEDGED_PATH, notify)

    def handle(self, alert: Alert, now_ns: int) -> None:
        """Take one alert at `now_ns`. About 30 µs when it passes, 1 µs when it is held back."""
        passed = self._filter.offer(alert, now_ns)
        if passed is None:
            self._log.debug("alert_held_back", code=alert.code, text=alert.text)
        else:
            self._publish(passed)

    def tick(self, now_ns: int) -> None:
        """Tell what has become due; to be called about once a second."""
        for alert in self._filter.due(now_ns):
            self._publish(alert)

    def _publish(self, alert: Alert) -> None:
        record = _as_record(alert)
        self._file.write(json_line(record))
        if alert.priority == Priority.URGENT:
            self._unacknowledged.add(record)
        method = getattr(self._log, _LOG_METHOD[alert.priority])
        method("alert", code=alert.code, priority=int(alert.priority), text=alert.text, **_facts(alert))
        self._tell(alert)

    @property
    def files(self) -> tuple[LineFile, ...]:
        """Those it writes."""
        return self._file, self._unacknowledged.file

    @property
    def unacknowledged(self) -> list[dict[str, Any]]:
        """Urgent alerts nobody has acknowledged yet, oldest first, also those of earlier runs."""
        return self._unacknowledged.records

    def acknowledge(self, name: str | None, by: str, now_ns: int) -> list[str]:
        """Take urgent alerts off the list, and keep in alerts.jsonl and in the log who did; returns their ids.

        Args:
            name: an id or a code; None for all.
            by: who did it.
            now_ns: wall clock.

        Raises:
            UsageError: none of this name is on the list.
        """
        taken = [record["id"] for record in self._unacknowledged.remove(name)]
        if name is not None and not taken:
            listed = ", ".join(record["id"] for record in self.unacknowledged) or "none"
            raise UsageError(f"{name} is no urgent alert that waits to be acknowledged; those that do: {listed}")
        for one in taken:
            self._file.write(json_line({"ts": iso_utc(now_ns), "acknowledged": one, "by": by}))
            self._log.info("alert_acknowledged", id=one, by=by)
        return taken

    def close(self) -> None:
        self._file.close()


def unacknowledged_text(records: list[dict[str, Any]]) -> str:
    """Urgent alerts that wait to be acknowledged, a line each, the newest `SHOWN` of them; "" where there are none."""
    shown = [f"urgent {one['ts']}  {one['text']}; `mia-daemon acknowledge {one['id']}`" for one in records[-SHOWN:]]
    if len(records) > SHOWN:
        shown.insert(0, f"{len(records)} urgent alerts wait for `mia-daemon acknowledge`; the newest {SHOWN}:")
    return "".join(f"\n{line}" for line in shown)


def _facts(alert: Alert) -> dict[str, Any]:
    """The context under names that do not collide with the log line's own."""
    own = {"event", "code", "priority", "text", "ts", "level"}
    return {f"context_{key}" if key in own else key: value for key, value in alert.context.items()}


def _as_record(alert: Alert) -> dict[str, Any]:
    return {
        "id": f"{alert.ts_ns}-{alert.code}",
        "ts": iso_utc(alert.ts_ns),
        "code": alert.code,
        "priority": int(alert.priority),
        "text": alert.text,
        "context": redact(alert.context),
    }


class _Unacknowledged:
    """The urgent alerts on file. Adding appends a line; acknowledging replaces the file in one step.

    A list that can't be read is set aside.
    """

    def __init__(self, path: Path, notify: FileNotice) -> None:
        self._path = path
        self._notify = notify
        self.records: list[dict[str, Any]] = []
        try:
            self.records, torn = _read_list(path)
        except (OSError, ValueError, RecursionError) as error:
            torn = False
            self._set_aside(error)
        self.file = LineFile(path, notify)
        if torn:  # by a power cut
            self._keep(self.records)

    def _set_aside(self, error: Exception) -> None:
        try:
            aside = set_aside(self._path, "can't be read", lambda _code, _text: None)
        except OSError:
            self._notify(NOT_WRITTEN, f"{self._path} can't be read ({error}); move it away")
            return
        self._notify(
            LIST_SET_ASIDE,
            f"{self._path} can't be read ({error}): it was set aside as {aside.name}; see whether its alerts were "
            "dealt with",
        )

    def add(self, record: dict[str, Any]) -> None:
        self.records.append(json.loads(json_line(record)))
        self.file.write(json_line(record))

    def remove(self, name: str | None) -> list[dict[str, Any]]:
        taken = [record for record in self.records if name is None or name in {record["id"], record["code"]}]
        kept = [record for record in self.records if record not in taken]
        self._keep(kept)
        return taken

    def _keep(self, records: list[dict[str, Any]]) -> None:
        """Have exactly these on file."""
        self.records = records
        try:
            replace_file(self._path, map(json_line, records))
        except OSError as error:
            self._notify(NOT_WRITTEN, f"{self._path} can't be written: {error.strerror}; make room or check its owner")
            return
        self.file.reopen()


def _read_list(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The alerts in a file, and whether its last line is torn; none where there is no file.

    Raises:
        OSError, ValueError: it can't be read, or is no list of alerts.
    """
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], False
    records = [json.loads(line) for line in lines]
    if not all(isinstance(record, dict) and {"id", "code"} <= record.keys() for record in records):
        raise ValueError("a line is no alert")
    if torn and not torn.startswith(b'{"id":'):
        raise ValueError("its last line is no alert")
    return records, bool(torn)
