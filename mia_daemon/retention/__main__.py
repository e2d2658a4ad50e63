"""The daemon's housekeeper: a child process at low priority that does a round every hour.

It prints a line of JSON after each round, and ends when its standard input does, so also when the daemon is killed.
"""

import json
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from mia_daemon import lock_file
from mia_daemon.clock import WallClock
from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.lock_file import InUse
from mia_daemon.private_file import restrict_umask
from mia_daemon.retention.rounds import Round, choose_removals, measure_disk, pack_segments, remove_all

_FIRST_AFTER_S: Final = 60.0  # a start has other things to do
_EVERY_S: Final = 3600.0
_NAMED: Final = 10  # of a kind, in a report that has to stay one short line


def main(var: Path, settings: RetentionSettings) -> None:
    """Do rounds until standard input ends."""
    restrict_umask()
    lower_priority()
    wait_s = _FIRST_AFTER_S
    while not _asked_to_end(wait_s):
        print(json.dumps(do_round(VarPaths(var), settings)), flush=True)  # noqa: T201  to the daemon
        wait_s = _EVERY_S


def do_round(paths: VarPaths, settings: RetentionSettings) -> dict[str, Any]:
    """One round; what came of it, for JSON."""
    done = Round()
    try:
        lock = lock_file.hold(paths.prune_lock)
    except InUse:  # `mia-daemon prune` does the same at the moment
        pass
    except OSError as error:
        done.problems.append(f"{paths.prune_lock} can't be written: {error.strerror}; check the directory")
    else:
        for _ in pack_segments(paths, done):
            pass
        remove_all(choose_removals(paths, settings, WallClock().now_ns()), done)
        os.close(lock)
    return {
        "packed": len(done.packed),
        "saved_bytes": sum(done.packed.values()),
        "removed": len(done.removed),
        "removed_first": [f"{removal.stored.path}: {removal.why}" for removal in done.removed[:_NAMED]],
        "freed_bytes": done.freed_bytes,
        "problems": len(done.problems),
        "problems_first": done.problems[:_NAMED],
        "disk": measure_disk(paths, settings, WallClock().now_ns()).facts(),
    }


def lower_priority() -> None:
    """Run where nobody else wants the processor or the disk, and be the first to go when memory is short.

    A daemon at real-time priority passes that on to its children, and its unit makes it the last to be killed.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    with suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def _asked_to_end(wait_s: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(ready)


if __name__ == "__main__":
    main(Path(sys.argv[1]), RetentionSettings.model_validate_json(sys.argv[2]))
