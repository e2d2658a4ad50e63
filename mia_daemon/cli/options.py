"""What the commands have in common: their options, values of options, and what an option leads to."""

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mia_daemon
from mia_daemon.config import Settings, VarPaths, load
from mia_daemon.errors import UsageError
from mia_daemon.printable import printable

CONFIG_PLACES = (Path("etc/mia.toml"), Path("/etc/mia-daemon/mia.toml"))
SHIPPED_CONFIG = Path(mia_daemon.__file__).parent / "mia.toml"
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s?)?")
_MAX_DURATION_S = 366 * 86_400


def add_common(parser: argparse.ArgumentParser, var: str = "var", absent: Any = argparse.SUPPRESS) -> None:
    """Options that may stand before a command or after it: after, an absent one leaves alone what stood before."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=absent, help="default: etc/mia.toml, then /etc/mia-daemon/"
    )
    parser.add_argument("--var", type=Path, metavar="DIR", default=absent, help=f"where to write (default: {var})")


def duration_s(text: str) -> float:
    """`120s`, `2h`, `1h30m` or plain seconds."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 120s, 15m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    if not (total := hours * 3600 + minutes * 60 + seconds):
        raise argparse.ArgumentTypeError("a duration has to be longer than nothing")
    if total > _MAX_DURATION_S:
        raise argparse.ArgumentTypeError("a duration is a year at most; without the option there is no end")
    return total


def time_ns(text: str) -> int:
    """`2026-11-22` or `2026-11-22T14:30:00`, UTC unless it names an offset; nanoseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-11-22 or 2026-11-22T14:30 (UTC)") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000) * 1_000


def symbol(text: str) -> str:
    """A symbol, which may become the name of a file."""
    from mia_daemon.products.instruments import check_symbol

    try:
        return check_symbol(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no symbol: {error}") from None


def account(text: str) -> str:
    """The name of a trade account."""
    from mia_daemon.setting_types import check_account

    try:
        return check_account(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no account: {error}") from None


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


def names(text: str) -> tuple[str, ...]:
    """`Sim1,Sim2` as the names it lists."""
    listed = tuple(name.strip() for name in text.split(","))
    if not all(listed):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name: write one name after the other, with commas")
    return listed


def config_path(options: argparse.Namespace) -> Path:
    path = _found_config(options)
    if path is None:
        raise UsageError(
            f"no configuration found ({' or '.join(map(str, CONFIG_PLACES))}): name one with --config FILE, or write "
            "one with `mia-daemon init`"
        )
    return path


def _found_config(options: argparse.Namespace) -> Path | None:
    path: Path | None = options.config or next((place for place in CONFIG_PLACES if place.is_file()), None)
    return path


def allow_shipped_config(options: argparse.Namespace) -> None:
    """Where no configuration is found, use the one that ships with the package, and say so.

    Never called for what trades or connects with an operator's account: there the settings are the operator's own.
    """
    if _found_config(options) is None:
        options.config = SHIPPED_CONFIG
        say(
            f"no configuration found: the one that ships with mia-daemon is used ({SHIPPED_CONFIG}); "
            "`mia-daemon init` writes one of your own"
        )


def load_settings(options: argparse.Namespace, **overrides: Any) -> Settings:
    from mia_daemon.clock import WallClock
    from mia_daemon.daemon.roll import contract_in_force

    given = {key.replace("__", "."): value for key, value in overrides.items() if value is not None}
    return contract_in_force(load(config_path(options), given), WallClock().now_ns())


def use_kernel_cache(settings: Settings) -> None:
    """Kernels look for their compiled form when they are imported, so this comes before that."""
    if settings.features.cache_dir is not None:
        from mia_daemon.features import cache

        cache.use_cache(settings.features.cache_dir)


def var_paths(options: argparse.Namespace, default: str = "var") -> VarPaths:
    return VarPaths(options.var or Path(default))


def say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
