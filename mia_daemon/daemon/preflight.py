"""The checks before a start, the same for `mia-daemon check`. Nothing is written."""

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mia_daemon.clock import WallClock, is_synchronized
from mia_daemon.config import DtcSettings, Mode, Settings, VarPaths, is_loopback
from mia_daemon.daemon.arming import check_armed, check_bundle
from mia_daemon.daemon.day_checks import UNSYNCHRONIZED, events_ended_text
from mia_daemon.daemon.roll import Choice, choose_contract, has_expired
from mia_daemon.errors import (
    ConfigError,
    ConnectionLost,
    ExitStatus,
    MiaError,
    PeerError,
    ServerDenied,
    ServerNotReady,
    StartError,
    UsageError,
    exit_status_of,
)
from mia_daemon.features.cache_place import REMEDY, cache_base
from mia_daemon.journal import file as journal_file
from mia_daemon.link.connection import Endpoint, not_connected
from mia_daemon.link.tls import check_pin, client_context, handshake_failure
from mia_daemon.ops.control import check_path
from mia_daemon.private_file import open_directories
from mia_daemon.products.instruments import instrument
from mia_daemon.retention.rounds import MIN_FREE_BYTES


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: what was checked, whether it passed, and what to do when it did not.

    Attributes:
        error: why it did not pass; None where it did.
    """

    subject: str
    text: str
    error: MiaError | None = None

    @property
    def fit(self) -> bool:
        """Whether it passed."""
        return self.error is None

    def __str__(self) -> str:
        return f"{'ok  ' if self.fit else 'FAIL'}  {self.subject:<14} {self.text}"


def preflight(settings: Settings, mode: Mode, paths: VarPaths, armed_account: str | None = None) -> list[Finding]:
    """Check everything a start needs; nothing is written and no order connection is made.

    `armed_account` is the account named a second time for live; None to use the arm file.
    """
    now_ns = WallClock().now_ns()
    try:
        contract = choose_contract(settings, mode, paths, now_ns)
    except MiaError as error:  # the other checks depend on it
        return [Finding("instrument", str(error), error)]
    settings = contract.settings
    looks: dict[str, Callable[[], str]] = {
        "instrument": lambda: _instrument(contract, now_ns),
        "bundle": lambda: _bundle(settings, mode),
        "risk": lambda: _risk(settings),
        "kill file": lambda: _kill_file(settings, paths),
        "directories": lambda: _directories(paths.root),
        "kernel cache": lambda: _kernel_cache(settings),
        "control socket": lambda: _control_socket(settings, paths),
        "journal": lambda: journal_file.describe(paths.journal(mode)),
        "macro events": lambda: _macro_events(settings),
        "clock": lambda: _clock(settings),
        "feed": lambda: _feed(settings, mode),
        "orders": lambda: _orders(settings, mode),
    }
    if mode is Mode.LIVE:
        looks["arming"] = lambda: check_armed(settings, paths, armed_account)
    return [_look(subject, look) for subject, look in looks.items()]


def _look(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, look())
    except MiaError as error:
        return Finding(subject, str(error), error)


def _instrument(contract: Choice, now_ns: int) -> str:
    settings = contract.settings
    found = instrument(settings.instrument.symbol, settings.products)
    if _in_real_time(settings) and has_expired(settings, found.symbol, now_ns):
        raise ConfigError(contract.text)
    product = found.product
    costs = f"{found.cost_per_side:g} {product.currency} a side"
    return f"{contract.text}: tick {found.tick_size:g}, {found.tick_value:g} {product.currency} a tick, costs {costs}"


def _in_real_time(settings: Settings) -> bool:
    """Whether the market's time is the clock's; a simulator's, embedded or run apart, may be of any year."""
    return not settings.simulated and bool(settings.feed.max_event_age_s)


def _bundle(settings: Settings, mode: Mode) -> str:
    from mia_daemon.model import bundle

    found = bundle.load(settings.model.bundle or bundle.shipped())
    if mode is Mode.LIVE:
        check_bundle(found, settings)
    approved = not found.research_only and found.sha256 in settings.model.approved_bundles
    fit = "approved for live" if approved else "research only" if found.research_only else "not approved for live"
    return f"{found.name}, {fit}, sha256 {found.sha256}"


def _risk(settings: Settings) -> str:
    waived = settings.risk.waived
    return f"configuration {settings.sha256()}, limits waived: {', '.join(waived) or 'none'}"


def _kill_file(settings: Settings, paths: VarPaths) -> str:
    path = settings.ops.kill_file or paths.kill_file
    if os.path.lexists(path):
        raise UsageError(f"{path} is there: trading was stopped on purpose; find out why, remove it, then start")
    return f"{path} is not there"


def _writable(directory: Path, remedy: str) -> Path:
    """What is there of a directory that will be written. Raises ConfigError where that can't be; `remedy` ends it."""
    place = directory
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"{place} is a file where a directory is needed: {remedy}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} can't be written by this user: change its owner or {remedy}")
    return place


def _kernel_cache(settings: Settings) -> str:
    base = cache_base(settings.features.cache_dir)
    _writable(base, REMEDY)
    return f"compiled kernels are kept in {base}"


def _control_socket(settings: Settings, paths: VarPaths) -> str:
    path = settings.ops.control_socket or paths.control_socket
    check_path(path)
    return str(path)


def _directories(root: Path) -> str:
    place = _writable(root, "name another with --var DIR")
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise ConfigError(f"{place} has {free // 10**6} MB left, {MIN_FREE_BYTES // 10**6} are needed: make room")
    return f"{root} ({free / 1e9:.0f} GB free){open_to_others(root)}"


def open_to_others(root: Path) -> str:
    """Which directories others can read or the group can write, and what to do; empty when there are none.

    A file that the daemon opens is restricted by that; directories, and files that are not opened any more, are not
    changed: they may be shared on purpose.
    """
    found = open_directories(root)
    return (
        f"; open to others: {', '.join(map(str, found))}: chmod -R g-w,o-rwx {root}, unless that is meant"
        if found
        else ""
    )


def _macro_events(settings: Settings) -> str:
    path = settings.windows.macro_events_csv
    if path is None:
        return "none configured: announcements do not block entries"
    from mia_daemon.products.trading_calendar import load_macro_events

    events = load_macro_events(path)
    ended = events_ended_text(events, WallClock().now_ns())
    return f"{len(events)} in {path}{f': {ended}' if ended else ''}"


def _clock(settings: Settings) -> str:
    if settings.simulated:
        return "the embedded simulator has a time of its own"
    synchronized = is_synchronized()
    if synchronized is None:
        return "the kernel does not say whether it is synchronised"
    return "synchronised" if synchronized else UNSYNCHRONIZED


def _feed(settings: Settings, mode: Mode) -> str:
    source = settings.feed.source
    if source == "simulator":
        if mode is Mode.LIVE:
            raise ConfigError('feed.source = "simulator" is no market to trade live on: set "scid" or "dtc"')
        return f"embedded simulator, seed {settings.simulator.seed}, {settings.simulator.speed:g} times as fast"
    if source == "scid":
        from mia_daemon.daemon.price_files import check_live_files

        return str(check_live_files(settings, WallClock().now_ns()))
    return _reach(settings.price_server)


def _orders(settings: Settings, mode: Mode) -> str:
    kind = broker_kind(settings, mode)
    if kind == "paper":
        return "filled here by the paper broker"
    if settings.simulated:
        return f"the embedded simulator, account {settings.instrument.trade_account}"
    return f"{_reach(settings.dtc)}; the start logs on and looks for account {settings.instrument.trade_account}"


def broker_kind(settings: Settings, mode: Mode) -> str:
    """`dtc` or `paper`, with `auto` resolved: replays use the paper broker, a DTC feed's orders go to its server.

    Raises:
        ConfigError: live, and the orders would not reach a market.
    """
    if mode is Mode.REPLAY:
        return "paper"
    if mode is Mode.LIVE:
        if settings.broker.kind == "paper":
            raise ConfigError('broker.kind = "paper" sends no orders: live needs "dtc" or "auto"')
        return "dtc"
    if settings.broker.kind != "auto":
        return settings.broker.kind
    return "paper" if settings.feed.source == "scid" else "dtc"


def _reach(dtc: DtcSettings) -> str:
    endpoint, tls = Endpoint(dtc.host, dtc.port), client_context(dtc)
    try:
        with socket.create_connection(endpoint, timeout=dtc.connect_timeout_s) as connection:
            return f"a server listens at {endpoint}{_secured(dtc, connection, tls)}"
    except UnicodeError:
        raise ConfigError(f"the host {endpoint.host!r} is no name of a host: check dtc.host") from None
    except OSError as error:
        raise _unreachable(not_connected(error, endpoint)) from error


def _secured(dtc: DtcSettings, connection: socket.socket, context: ssl.SSLContext | None) -> str:
    """How the connection is encrypted. Raises ServerDenied where the server is not authenticated."""
    address = f"{dtc.host}:{dtc.port}"
    if context is None:
        return "" if is_loopback(dtc.host) else ", not encrypted: anyone on the way can read and change orders"
    try:
        with context.wrap_socket(connection, server_hostname=dtc.tls_server_name or dtc.host) as encrypted:
            check_pin(dtc, encrypted, address)
            return f", encrypted ({encrypted.version()})"
    except PeerError as error:
        raise _unreachable(error) from error
    except OSError as error:
        raise _unreachable(handshake_failure(error, address)) from error


def _unreachable(error: PeerError) -> StartError:
    """Whether waiting may help."""
    return (ServerNotReady if isinstance(error, ConnectionLost) else ServerDenied)(str(error))


class StartRefused(StartError):
    """Checks before the start failed, and waiting does not help."""

    def __init__(self, failed: list[Finding]) -> None:
        super().__init__("; ".join(unfit(failed)))
        statuses = [exit_status_of(finding.error) for finding in failed if finding.error is not None]
        lasting = (status for status in statuses if not status.restart)
        self.exit_status = next(lasting, ExitStatus.FAILED)


def refuse_unfit(findings: list[Finding]) -> None:
    """Raises StartRefused unless the start may go on; a server that is not there is awaited, and refuses nothing."""
    failed = [found for found in findings if not (found.fit or isinstance(found.error, ServerNotReady))]
    if failed:
        raise StartRefused(failed)


def unfit(findings: list[Finding]) -> Iterator[str]:
    """The texts of failed checks, each once: prices and orders may fail at the same server."""
    subjects: dict[str, list[str]] = {}
    for finding in findings:
        if not finding.fit:
            subjects.setdefault(finding.text, []).append(finding.subject)
    return (f"{', '.join(who)}: {text}" for text, who in subjects.items())
