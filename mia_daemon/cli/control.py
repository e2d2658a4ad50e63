"""`mia-daemon status | halt | resume | rearm | acknowledge | flatten | kill | stop`: words to a running daemon."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import CONFIG_PLACES, add_common, load_settings, var_paths
from mia_daemon.errors import StartError
from mia_daemon.printable import printable
from mia_daemon.private_file import open_file

KILL_PATIENCE_S = 2.0  # a daemon that does not take a kill within this is taken for dead

_WORDS = {
    "status": "what a running daemon is doing",
    "halt": "no new orders from now on; what works is cancelled, the position keeps its stop",
    "resume": "trade again: lifts the latch named, or all that need no name",
    "rearm": "entries were looked at: the count of repeated executions begins anew",
    "acknowledge": "urgent alerts were seen: status lists them no longer",
    "flatten": "close the position, cancel everything, then halt",
    "kill": "cancel at once, stay stopped until `resume killed`; with no daemon, keep any from starting",
    "stop": "stop the daemon as Ctrl-C does",
}


def add(commands: Any) -> None:
    for word, about in _WORDS.items():
        parser = commands.add_parser(word, help=about, description=about)
        add_common(parser)
        if word == "status":
            parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
        elif word == "resume":
            parser.add_argument("code", nargs="?", metavar="CODE", help="e.g. daily_loss, killed; status tells them")
            parser.add_argument("--confirm", metavar="TOKEN", help="the second step, where the first asked for one")
        elif word == "acknowledge":
            parser.add_argument(
                "name", nargs="?", metavar="ID", help="the one that status names, or a code; default: all"
            )
        elif word == "kill":
            parser.add_argument("--flatten", action="store_true", help="close the position too")
        parser.set_defaults(command=_kill if word == "kill" else _control, word=word)


def _control(options: argparse.Namespace) -> int:
    from mia_daemon.ops.control import ask

    socket, _ = _places(options)
    given = {name: value for name in ("code", "confirm", "name") if (value := getattr(options, name, None)) is not None}
    return _show(ask(socket, options.word, **given), as_json=getattr(options, "json", False))


def _kill(options: argparse.Namespace) -> int:
    from mia_daemon.ops.control import ask

    socket, kill_file = _places(options)
    try:
        answer = ask(socket, "kill", timeout_s=KILL_PATIENCE_S, flatten=options.flatten)
    except StartError as error:
        # Hung or gone: it finds the file when it comes to, and no other starts while it is there.
        _write(kill_file)
        raise StartError(
            f"{error}; {kill_file} was written: it kills a daemon that comes to, and keeps any from starting. Orders "
            "at the server are as they were: cancel them in Sierra Chart"
        ) from error
    return _show(answer)


def _write(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(file, b"mia-daemon kill\n")
        os.close(file)
    except FileExistsError:
        pass  # whatever it is: that it is there is what counts
    except OSError as error:
        raise StartError(
            f"no daemon took the kill, and {path} can't be written ({error.strerror}): cancel orders in Sierra Chart"
        ) from error


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """The control socket and the kill file, as configured where a configuration is found."""
    paths = var_paths(options)
    socket, kill_file = paths.control_socket, paths.kill_file
    if options.config is not None or any(place.is_file() for place in CONFIG_PLACES):
        ops = load_settings(options).ops
        socket, kill_file = ops.control_socket or socket, ops.kill_file or kill_file
    return socket, kill_file


def _show(answer: dict[str, Any], *, as_json: bool = False) -> int:
    if not answer.get("ok", False):
        raise StartError(str(answer.get("error", "the daemon refused without a reason")))
    print(json.dumps(answer["status"]) if as_json else "\n".join(map(printable, str(answer["text"]).splitlines())))
    return 0
