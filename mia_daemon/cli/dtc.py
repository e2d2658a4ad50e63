"""`mia-daemon dtc decode | encode`: DTC bytes as lines of JSON, and back."""

import argparse
import sys
from io import BufferedReader
from typing import Any, cast

from mia_daemon.cli.options import say

_ENCODINGS = {
    **{name: name for name in ("binary", "binary_vls", "json", "json_compact")},  # as dtc.encoding has them
    "vls": "binary_vls",
    "json-compact": "json_compact",
}
_PIECE = 1 << 16


def add(commands: Any) -> None:
    parser = commands.add_parser("dtc", help="read and write captures of the DTC protocol")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, command, about in (
        ("decode", _decode, "DTC bytes from standard input as one JSON object per message"),
        ("encode", _encode, "such objects, one a line, as DTC bytes: the inverse of decode, but for credentials"),
    ):
        each = actions.add_parser(action, help=about, description=about)
        each.add_argument("--encoding", choices=_ENCODINGS, default="binary", help="of the DTC bytes (default: binary)")
        each.set_defaults(command=command)


def _decode(options: argparse.Namespace) -> int:
    from mia_daemon.dtc.encodings import BY_NAME
    from mia_daemon.dtc.transcript import Decoder

    decoder = Decoder(BY_NAME[_ENCODINGS[options.encoding]])
    source, sink = cast("BufferedReader", sys.stdin.buffer), sys.stdout.buffer
    try:
        for lines in decoder.lines(lambda: source.read1(_PIECE)):
            sink.write("".join(f"{line}\n" for line in lines).encode())
            sink.flush()
    finally:
        if decoder.skipped:
            say(f"{decoder.skipped} messages of unknown type were skipped")
    return 0


def _encode(options: argparse.Namespace) -> int:
    from mia_daemon.dtc.encodings import BY_NAME
    from mia_daemon.dtc.transcript import MAX_LINE_BYTES, encoded

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    for message in encoded(lambda: source.readline(MAX_LINE_BYTES), BY_NAME[_ENCODINGS[options.encoding]]):
        sink.write(message)
        sink.flush()
    return 0
