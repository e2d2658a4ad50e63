"""`mia-daemon status | halt | resume | flatten | stop`: words to a running daemon."""

import argparse
import json
from typing import Any

from mia_daemon.cli.options import CONFIG_PLACES, add_common, load_settings, var_paths
from mia_daemon.errors import StartError

_WORDS = {
    "status": "what a running daemon is doing",
    "halt": "no new orders from now on; what works is cancelled, the position keeps its stop",
    "resume": "trade again; clears latched limits",
    "flatten": "close the position, cancel everything, then halt",
    "stop": "stop the daemon as Ctrl-C does",
}


def add(commands: Any) -> None:
    for word, about in _WORDS.items():
        parser = commands.add_parser(word, help=about)
        add_common(parser)
        if word == "status":
            parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
        parser.set_defaults(command=_control, word=word)


def _control(options: argparse.Namespace) -> int:
    from mia_daemon.ops.control import ask

    paths = var_paths(options)
    socket = paths.control_socket
    if options.config is not None or any(place.is_file() for place in CONFIG_PLACES):
        socket = load_settings(options).ops.control_socket or socket
    answer = ask(socket, options.word)
    if not answer.get("ok", False):
        raise StartError(str(answer.get("error", "the daemon refused without a reason")))
    if getattr(options, "json", False):
        print(json.dumps(answer["status"]))
    else:
        print(answer["text"])
    return 0
