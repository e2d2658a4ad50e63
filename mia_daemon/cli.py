"""The command line: it knows options, not trading.

Exit status: 0 done, 1 the surroundings or the market side failed, 2 the command or the configuration is wrong.
"""

import argparse
import json
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mia_daemon import __version__
from mia_daemon.config import Mode, Settings, VarPaths, load
from mia_daemon.errors import MiaError, StartError, UsageError

CONFIG_PLACES = (Path("etc/mia.toml"), Path("/etc/mia-daemon/mia.toml"))
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named on the command line; its exit status."""
    try:
        options = _parser().parse_args(argv)
        return int(options.command(options))
    except UsageError as error:
        return _fail(error, 2)
    except MiaError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130  # as a shell says of a command that SIGINT ended
    except BrokenPipeError:
        # Whoever read our output went away (| head): nothing is left to say, and nothing went wrong.
        sys.stderr.close()
        return 0


def _fail(error: MiaError, status: int) -> int:
    print(f"mia-daemon: {error}", file=sys.stderr)
    return status


# ------------------------------------------------------------------------------------------------------------ options


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as all of the daemon does, instead of behind its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` lists what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mia-daemon",
        description="Trades index futures with Sierra Chart; --mode paper is the dry run.",
        epilog="exit status: 0 done, 1 the surroundings failed, 2 wrong use",
    )
    parser.add_argument("--version", action="version", version=f"mia-daemon {__version__}")
    _daemon_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_replay(commands)
    _add_simulator(commands)
    _add_check(commands)
    _add_prepare(commands)
    for word, about in (
        ("status", "what a running daemon is doing"),
        ("halt", "no new orders from now on; what works is cancelled, the position keeps its stop"),
        ("resume", "trade again; clears latched limits"),
        ("flatten", "close the position, cancel everything, then halt"),
        ("stop", "stop the daemon as Ctrl-C does"),
    ):
        _add_control(commands, word, about)
    return parser


def _common(parser: argparse.ArgumentParser, var: str = "var", absent: Any = argparse.SUPPRESS) -> None:
    """Options that may stand before a command or after it: after, an absent one leaves alone what stood before."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=absent, help="default: etc/mia.toml, then /etc/mia-daemon/"
    )
    parser.add_argument("--var", type=Path, metavar="DIR", default=absent, help=f"where to write (default: {var})")


def _daemon_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=(Mode.PAPER.value, Mode.LIVE.value), help="trade: on paper, or with money")
    _common(parser, absent=None)
    parser.add_argument("--for", dest="duration_s", type=duration_s, metavar="TIME", help="stop after, e.g. 120s, 2h")
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second of the simulator")
    parser.add_argument("--seed", type=int, metavar="N", help="of the simulator's market")
    parser.add_argument("--arm", metavar="ACCOUNT", help="live only: the trade account, spelled out once more")
    parser.add_argument("--quiet", action="store_true", help="nothing on the terminal but the summary")
    parser.set_defaults(command=_run_daemon)


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser("replay", help="run recorded data through the same four tasks")
    parser.add_argument("file", type=Path, help="a .scid file or a recording")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="the .depth file of the same symbol and day")
    parser.add_argument("--symbol", help="contract, when the file's name does not say it (MNQU21-CME.scid does)")
    parser.add_argument("--batch", type=int, metavar="N", help="events per batch; decisions do not depend on it")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    _common(parser, var="var/replay")
    parser.set_defaults(command=_replay)


def _add_simulator(commands: Any) -> None:
    parser = commands.add_parser("simulator", help="a stand-in for Sierra Chart's DTC server")
    parser.add_argument("--port", type=port, default=11099, help="0 takes a free one (default: 11099)")
    parser.add_argument("--symbol", help="default: instrument.symbol")
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where it remembers (default: <var>/simulator)")
    parser.add_argument("--parent-watch", action="store_true", help="end when standard input does")
    _common(parser)
    parser.set_defaults(command=_simulator)


def _add_check(commands: Any) -> None:
    parser = commands.add_parser("check", help="is everything fit to start?")
    parser.add_argument("--mode", choices=(Mode.PAPER.value, Mode.LIVE.value), default=Mode.PAPER.value)
    _common(parser)
    parser.set_defaults(command=_check)


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="compile the feature kernels now, so that the first start needn't")
    _common(parser)
    parser.set_defaults(command=_prepare)


def _add_control(commands: Any, word: str, about: str) -> None:
    parser = commands.add_parser(word, help=about)
    _common(parser)
    if word == "status":
        parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
    parser.set_defaults(command=_control, word=word)


def duration_s(text: str) -> float:
    """`120s`, `2h`, `1h30m` or plain seconds."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 120s, 15m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    if not (total := hours * 3600 + minutes * 60 + seconds):
        raise argparse.ArgumentTypeError("a duration has to be longer than nothing")
    return total


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def port(text: str) -> int:
    """A TCP port; 0 stands for any free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 0 to 65535")
    return int(text)


def _config(options: argparse.Namespace) -> Path:
    path: Path | None = options.config or next((place for place in CONFIG_PLACES if place.is_file()), None)
    if path is None:
        raise UsageError(
            f"no configuration found ({' or '.join(map(str, CONFIG_PLACES))}): name one with --config FILE"
        )
    return path


def _settings(options: argparse.Namespace, **overrides: Any) -> Settings:
    given = {key.replace("__", "."): value for key, value in overrides.items() if value is not None}
    return load(_config(options), given)


def _use_kernel_cache(settings: Settings) -> None:
    """Kernels look for their compiled form when they are imported, so this comes before that."""
    if settings.features.cache_dir is not None:
        from mia_daemon.features import cache

        cache.use_cache(settings.features.cache_dir)


def _paths(options: argparse.Namespace, default: str = "var") -> VarPaths:
    return VarPaths(options.var or Path(default))


# ----------------------------------------------------------------------------------------------------------- commands


def _run_daemon(options: argparse.Namespace) -> int:
    if options.mode is None:
        raise UsageError("say what to do: --mode paper, --mode live, or a command (--help lists them)")
    settings = _settings(options, simulator__speed=options.speed, simulator__seed=options.seed)
    _use_kernel_cache(settings)
    from mia_daemon.daemon import run

    return run(
        settings,
        _config(options),
        Mode(options.mode),
        _paths(options),
        duration_s=options.duration_s,
        armed_account=options.arm,
        quiet=options.quiet,
    )


def _replay(options: argparse.Namespace) -> int:
    if not options.file.exists():
        raise UsageError(f"{options.file} does not exist: name a .scid file or a recording")
    settings = _settings(options, feed__batch_events=options.batch, instrument__symbol=options.symbol)
    _use_kernel_cache(settings)
    from mia_daemon.replay import replay

    summary = replay(
        settings,
        options.file,
        _paths(options, "var/replay"),
        depth=options.depth,
        symbol=options.symbol,
        on_progress=_say,
    )
    if options.json:
        print(json.dumps(summary.as_dict()))
    else:
        print(summary)
    return 0


def _simulator(options: argparse.Namespace) -> int:
    settings = _settings(
        options,
        simulator__speed=options.speed,
        simulator__seed=options.seed,
        instrument__symbol=options.symbol,
    )
    from mia_daemon.simulator.run import run_simulator

    run_simulator(
        settings,
        port=options.port,
        state_dir=options.state or _paths(options).simulator,
        parent_watch=options.parent_watch,
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from mia_daemon.preflight import preflight

    findings = preflight(settings, Mode(options.mode), _paths(options))
    for finding in findings:
        print(finding)
    return 0 if all(finding.fit for finding in findings) else 1


def _prepare(options: argparse.Namespace) -> int:
    _use_kernel_cache(_settings(options))
    from mia_daemon.clock import NS_PER_S, WallClock
    from mia_daemon.features import cache

    clock = WallClock()
    cache.prepare(_say, lambda: clock.monotonic_ns() / NS_PER_S)
    return 0


def _control(options: argparse.Namespace) -> int:
    from mia_daemon.ops.control import ask

    paths = _paths(options)
    socket = paths.control_socket
    if options.config is not None or any(place.is_file() for place in CONFIG_PLACES):
        socket = _settings(options).ops.control_socket or socket
    answer = ask(socket, options.word)
    if not answer.get("ok", False):
        raise StartError(str(answer.get("error", "the daemon refused without a reason")))
    if getattr(options, "json", False):
        print(json.dumps(answer["status"]))
    else:
        print(answer["text"])
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# A reader that closes our pipe early (| head) must not leave a traceback, nor end a daemon that still trades: the
# signal stays ignored, as Python sets it, and `main` ends short commands quietly.
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
