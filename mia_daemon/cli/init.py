"""`mia-daemon init`: a first configuration, from options or from the answers to questions."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon.cli.options import CONFIG_PLACES, SHIPPED_CONFIG, account, port, symbol
from mia_daemon.config import Mode
from mia_daemon.errors import StartError, UsageError
from mia_daemon.printable import printable

_PRIVATE: Final = 0o600
_SOURCES: Final = ("simulator", "scid", "dtc")
_MODES: Final = (Mode.PAPER.value, Mode.LIVE.value)


@dataclass(frozen=True, slots=True)
class _Question:
    """One value to be had, by an option or by an answer.

    Attributes:
        name: of the option, without its dashes.
        text: what is asked.
        read: makes a value of an answer; raises ArgumentTypeError.
        default: where nothing is given; None: it has to be.
        setting: "table.key" in the configuration; "" for an option of the command line.
        sources: of prices for which it is asked.
    """

    name: str
    text: str
    read: Callable[[str], str | int]
    default: str | int | None
    setting: str = ""
    sources: tuple[str, ...] = _SOURCES


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is empty or has characters that can't be printed")
    return text


def _contract(text: str) -> str:
    """A symbol that names a contract of a product that ships."""
    from mia_daemon.products.instruments import instrument

    try:
        return instrument(symbol(text)).symbol
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _server_port(text: str) -> int:
    """The port of a server to connect to."""
    if not (number := port(text)):
        raise argparse.ArgumentTypeError("no server listens at port 0: write a number from 1 to 65535")
    return number


def _questions() -> tuple[_Question, ...]:
    served = ("scid", "dtc")
    return (
        _Question(
            "source",
            "prices: simulator (embedded, no Sierra Chart needed), scid (files that Sierra Chart writes) or dtc",
            _one_of(*_SOURCES),
            "simulator",
            "feed.source",
        ),
        _Question("symbol", "contract, as Sierra Chart spells it", _contract, _front(), "instrument.symbol"),
        _Question("account", "trade account", account, "Sim1", "instrument.trade_account"),
        _Question(
            "scid-path",
            "path of the .scid file; {symbol} stands for the contract",
            _text,
            None,
            "feed.scid_path",
            ("scid",),
        ),
        _Question("host", "host of the DTC server", _text, "127.0.0.1", "dtc.host", served),
        _Question("port", "its port", _server_port, 11099, "dtc.port", served),
        _Question("mode", "mode to start in: paper or live", _one_of(*_MODES), Mode.PAPER.value),
        _Question("var", "directory to write to", _text, "var"),
    )


def _front() -> str:
    """The ES contract in force now: the one that ships may have expired by the time of its installation."""
    from mia_daemon.clock import WallClock
    from mia_daemon.config import InstrumentSettings
    from mia_daemon.products.contracts import contract_on
    from mia_daemon.products.product_table import shipped

    products, pattern = shipped(), InstrumentSettings().symbol_pattern
    today = products["ES"].hours.trade_date_at(WallClock().now_ns())
    return contract_on(today, pattern, "ES", None, products).symbol


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "init",
        help="write a first configuration, from options or from answers",
        description="Writes a first configuration. On a terminal, without options, it asks. It overwrites nothing.",
    )
    parser.add_argument("file", type=Path, nargs="?", default=CONFIG_PLACES[0], help="default: %(default)s")
    parser.add_argument("--source", choices=_SOURCES, help="of prices (default: simulator)")
    parser.add_argument("--symbol", type=_contract, help="contract (default: the ES contract in force)")
    parser.add_argument("--account", type=account, help="trade account (default: Sim1)")
    parser.add_argument("--scid-path", type=_text, metavar="FILE", help="with --source scid; {symbol}: the contract")
    parser.add_argument("--host", type=_text, help="of the DTC server (default: 127.0.0.1)")
    parser.add_argument("--port", type=_server_port, help="of the DTC server (default: 11099)")
    parser.add_argument("--mode", choices=_MODES, default=argparse.SUPPRESS, help="to start in (default: paper)")
    parser.add_argument(
        "--var", type=_text, metavar="DIR", default=argparse.SUPPRESS, help="to write to (default: var)"
    )
    parser.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    path: Path = options.file
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already and is not overwritten: name another file, or move it away")
    from mia_daemon.daemon.first_config import first_config

    questions = _questions()
    given = {question.name: getattr(options, question.name.replace("-", "_"), None) for question in questions}
    asking = sys.stdin.isatty() and all(value is None for value in given.values())
    found = dict(_values(questions, given, asking=asking))
    if found["mode"] == Mode.LIVE.value and found["source"] == "simulator":
        raise UsageError("live needs prices of a market: --source scid or --source dtc")
    settings = {question.setting: found[question.name] for question in questions if question.name in found}
    settings.pop("")
    text = first_config(SHIPPED_CONFIG.read_text(encoding="utf-8"), settings, str(path))
    _write(path, text)
    words = ["--mode", str(found["mode"]), "--config", str(path), "--var", str(found["var"])]
    print(f"{printable(str(path))} is written; look at its limits in [risk]. Next:")
    for command in ("mia-daemon check", "mia-daemon"):
        print(printable(f"  {command} {shlex.join(words)}"))
    return 0


def _values(
    questions: tuple[_Question, ...], given: dict[str, str | int | None], *, asking: bool
) -> Iterator[tuple[str, str | int]]:
    """Each value that applies: as given, as answered, or its default."""
    source = given["source"] or "simulator"
    for question in questions:
        value = given[question.name]
        if source not in question.sources and value is None:
            continue
        if value is None:
            value = _answer(question) if asking else question.default
        if value is None:
            raise UsageError(f"--source {source} needs --{question.name}: {question.text}")
        if question.name == "source":
            source = value
        yield question.name, value


def _answer(question: _Question) -> str | int:
    """Ask until the answer is one."""
    default = "" if question.default is None else f" [{question.default}]"
    while True:
        try:
            text = input(f"{question.text}{default}: ").strip()
        except EOFError:
            raise UsageError("the questions were not answered to their end: nothing was written") from None
        if not text and question.default is not None:
            return question.default
        try:
            return question.read(text)
        except argparse.ArgumentTypeError as error:
            print(printable(str(error)))


def _write(path: Path, text: str) -> None:
    """Make the file, for its owner alone; one that has appeared meanwhile is left as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}; name another file") from error
