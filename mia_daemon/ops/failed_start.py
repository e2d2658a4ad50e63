"""A start that failed, on file: the daemon's own log and alerts are opened only later in a start."""

import contextlib

from mia_daemon.clock import WallClock
from mia_daemon.config import VarPaths
from mia_daemon.errors import MiaError, StartError
from mia_daemon.ops.alert_manager import AlertManager
from mia_daemon.ops.logs import LineFile, make_logger
from mia_daemon.printable import printable
from mia_daemon.records import Alert, Priority


def report_failed_start(paths: VarPaths, error: Exception) -> None:
    """Write the error to the log and to the alerts below `paths`, where that directory is there and can be written.

    The alert is not an urgent one: the list of those is the running daemon's, which may be what prevents the start.
    """
    if not paths.root.is_dir():
        return
    text = printable(str(error)) if isinstance(error, MiaError) else f"{type(error).__name__}: {printable(str(error))}"
    clock = WallClock()
    with contextlib.suppress(StartError), contextlib.ExitStack() as opened:  # the caller reports `error` in any case
        file = LineFile(paths.log)
        opened.callback(file.close)
        log = make_logger(file.write, clock)
        log.error("start_failed", text=text)
        alerts = AlertManager(paths.root, log, repeat_after_s=0.0, per_minute=1)
        opened.callback(alerts.close)
        now_ns = clock.now_ns()
        alerts.handle(Alert(now_ns, "start_failed", Priority.CRITICAL, f"the start failed: {text}"), now_ns)
