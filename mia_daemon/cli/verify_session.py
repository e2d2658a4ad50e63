"""`mia-daemon verify-session`: whether a recorded session repeats as its journal has it."""

import argparse
import json
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import say
from mia_daemon.config import VarPaths


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "verify-session", help="repeat a recorded session and compare it with its journal; exit status 1: it differs"
    )
    parser.add_argument("recording", type=Path, help="directory of a recording: var/recordings/RUN")
    parser.add_argument(
        "--var", type=Path, metavar="DIR", default=None, help="with the journal (default: where the recording lies)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    parser.set_defaults(command=_verify)


def _verify(options: argparse.Namespace) -> int:
    from mia_daemon.daemon.verify_session import verify_session

    var = None if options.var is None else VarPaths(options.var)
    found = verify_session(options.recording, var, say)
    print(json.dumps(found.as_dict()) if options.json else found)
    return 1 if found.parted else 0
