"""One probe from start to end: lock, connection, procedure, and the files it leaves."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from mia_daemon import lock_file, private_file
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.clock import NS_PER_S, Clock, iso_utc
from mia_daemon.config import Settings, VarPaths
from mia_daemon.errors import MiaError, PeerError, StartError, UsageError
from mia_daemon.feed.scid_feed import newest_scid_trade
from mia_daemon.lock_file import InUse
from mia_daemon.probe.evidence import Evidence
from mia_daemon.probe.findings import Finding, differs, server_findings
from mia_daemon.probe.fitting_settings import Overrides, as_toml, fitting_settings
from mia_daemon.probe.link import ProbeLink
from mia_daemon.probe.order_findings import order_findings
from mia_daemon.probe.procedure import SIMULATED, ProbePlan, Procedure
from mia_daemon.probe.transcript import TranscriptFile
from mia_daemon.products.instruments import instrument

MAX_PRICE_AGE_S: Final = 2 * 3600.0
"""Of the newest price in a file: Globex pauses for an hour every day."""

_log = logging.getLogger(__name__)
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came of a probe.

    Attributes:
        findings: each assumption, and whether it holds.
        settings: that fit the server; empty when the probe did not come to orders.
        left: orders and positions that may be left at the server.
        stopped: why it ended before its time; "" if it did not.
        directory: where transcript, report and settings are.
    """

    findings: list[Finding]
    settings: Overrides
    left: list[str]
    stopped: str
    directory: Path

    @property
    def complete(self) -> bool:
        return not self.stopped and not self.left


async def probe(
    settings: Settings, account: str, directory: Path, clock: Clock, say: Callable[[str], None], price: float | None
) -> ProbeResult:
    """Probe the server that `settings` name with orders of `account`, and write what was found to `directory`.

    Args:
        settings: of server and symbol.
        account: a simulated one.
        clock: of this machine.
        directory: made when missing; must hold no transcript.
        say: called with one line on what is done.
        price: of the market, points; None: as the `.scid` of the configuration or the server says.

    Raises:
        UsageError: the account is not a simulated one.
        StartError: no transcript can be begun, or the `.scid` has no price of the present.
        PeerError: the server can't be reached, or refuses the logon.
    """
    if not account.startswith(SIMULATED):
        raise UsageError(
            f"a probe sends orders, so it takes simulated accounts only, whose names begin with {SIMULATED}: "
            f"{account} is not one of them"
        )
    settings = settings.model_copy(
        update={"instrument": settings.instrument.model_copy(update={"trade_account": account})}
    )
    scope = ServerScope.of(settings, instrument(settings.instrument.symbol, settings.products))
    began_ns = clock.now_ns()
    plan = ProbePlan(
        scope,
        f"P{_base36(began_ns // NS_PER_S)}-",
        price or _file_price(settings, began_ns),
        settings.dtc.request_timeout_s,
    )
    dtc = settings.dtc
    secrets = (dtc.username.get_secret_value(), dtc.password.get_secret_value())
    transcript = TranscriptFile(directory / "transcript.jsonl", secrets, account, plan.prefix)
    link = ProbeLink(dtc, clock, transcript)
    try:
        await link.open()
        procedure = Procedure(link, plan, clock, say)
        stopped = await _carry_out(procedure)
    finally:
        link.close()
        with suppress(OSError):  # `unwritten` says so where it matters
            transcript.close()
    result = _result(procedure.evidence, scope, link, stopped or link.unwritten, directory)
    try:
        _write(result, settings, began_ns)
    except StartError as error:  # what was found, and what may be left, is in the result
        return replace(result, stopped=result.stopped or str(error))
    return result


async def _carry_out(procedure: Procedure) -> str:
    """Why it stopped; "" if it came to its end."""
    try:
        await procedure.run()
    except asyncio.CancelledError:
        return "it was interrupted"
    except PeerError as error:
        return f"the connection ended: {error}"
    except MiaError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # what may be left at the server has to be named all the same
        _log.exception("the probe failed")
        return f"it failed with {type(error).__name__}: {error}"
    return ""


def _result(found: Evidence, scope: ServerScope, link: ProbeLink, stopped: str, directory: Path) -> ProbeResult:
    findings = [*server_findings(found, scope), *order_findings(found)]
    if link.unreadable:
        findings.append(differs("readable", f"{len(link.unreadable)} frames can't be read: {link.unreadable[0]}"))
    fitting = {} if found.limit is None else fitting_settings(found, scope)
    return ProbeResult(findings, fitting, found.left, stopped, directory)


def _file_price(settings: Settings, now_ns: int) -> float | None:
    """The newest price of the `.scid` that the configuration names; None where it names none, or has no trade.

    Raises:
        StartError: the file is no `.scid` of ticks, or its newest price is an old one.
    """
    feed = settings.feed
    if feed.source != "scid":
        return None
    path = feed.scid_file(settings.instrument.symbol)
    newest = newest_scid_trade(path)
    if newest is None:
        return None
    traded_ns, price = newest
    if (age_s := (now_ns - traded_ns) / NS_PER_S) > MAX_PRICE_AGE_S:
        raise StartError(
            f"the newest price in {path} is {age_s / 3600:.0f} h old, and orders must stay away from the market's: "
            "name it with --price"
        )
    return price * settings.price_scale(settings.instrument.symbol).multiplier


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _write(result: ProbeResult, settings: Settings, began_ns: int) -> None:
    """`report.json`, and `settings.toml` where there are any."""
    report = {
        "probed_at": iso_utc(began_ns),
        "server": f"{settings.dtc.host}:{settings.dtc.port}",
        "account": settings.instrument.trade_account,
        "symbol": settings.instrument.symbol,
        "stopped": result.stopped,
        "left": result.left,
        "findings": [asdict(finding) for finding in result.findings],
        "settings": result.settings,
    }
    _write_text(result.directory / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if result.settings:
        reasons = (
            f"Fits the server at {report['server']}, as probed with {report['account']} at {report['probed_at']}.\n"
            "Copy these keys into your configuration; report.json says why."
        )
        _write_text(result.directory / "settings.toml", as_toml(result.settings, reasons))


def _write_text(path: Path, text: str) -> None:
    try:
        private_file.replace_file(path, [text.encode()])
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}; name another directory with --out") from error


@contextmanager
def no_daemon_beside(paths: VarPaths) -> Iterator[None]:
    """Keep a daemon with this directory from running meanwhile. Raises StartError when one runs."""
    try:
        lock = lock_file.hold(paths.lock)
    except InUse as error:
        raise StartError(
            f"a daemon (process {error.holder}) trades with {paths.root}: stop it, then probe again"
        ) from None
    except OSError as error:
        raise StartError(
            f"{paths.lock} can't be locked: {error.strerror}; name another directory with --var"
        ) from error
    try:
        yield
    finally:
        os.close(lock)
