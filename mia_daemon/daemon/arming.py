"""Live needs all of: `--mode live`, the account named a second time, and an approved bundle."""

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mia_daemon import __version__
from mia_daemon.config import Settings, VarPaths
from mia_daemon.errors import BundleError, UsageError
from mia_daemon.setting_types import Account
from mia_daemon.user_file import MAX_BYTES, decode, parse_toml

if TYPE_CHECKING:
    from mia_daemon.model.bundle import Bundle  # slow to import, and only needed for typing


_WRITERS: Final = 0o022  # bits of a mode: group or others write


class _ArmFile(BaseModel):
    """Contents of an arm file: the account and, optionally, the version and configuration it was written for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: Account
    version: str | None = None  # of mia-daemon
    config_sha256: str | None = None  # of the effective configuration


def check_armed(settings: Settings, paths: VarPaths, named: str | None) -> str:
    """Return a text on how live is armed for the configured account: by `named` (--arm), else by the arm file.

    Raises:
        UsageError: it is not armed; the text says what to do.
    """
    account = settings.instrument.trade_account
    path = settings.ops.arm_file or paths.arm_file
    if named is None and os.path.lexists(path):
        return _check_file(path, settings, account)
    if named != account:
        raise UsageError(
            f'live is not armed: say --arm {account}, or write account = "{account}" into {path}, to trade that '
            "account with money"
        )
    return f"account {account}, by --arm"


def _check_file(path: Path, settings: Settings, account: str) -> str:
    remedy = f"mend it, or use --arm {account}"
    try:
        text = decode(_read_trusted(path), path, "arm file")
        file = _ArmFile.model_validate(parse_toml(text, path, "arm file"))
    except OSError as error:
        raise UsageError(f"arm file {path} can't be read: {error.strerror}; {remedy}") from error
    except ValidationError as error:
        finding = error.errors()[0]
        key, reason = ".".join(map(str, finding["loc"])), finding["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"arm file {path} is refused: {key}: {reason}; it holds account, and, if wanted, version and config_sha256"
        ) from error
    for name, armed, found in (
        ("account", file.account, account),
        ("version", file.version, __version__),
        ("config_sha256", file.config_sha256, settings.sha256()),
    ):
        if armed not in {None, found}:
            raise UsageError(
                f"live is not armed: {path} names {name} {armed}, here it is {found}: look at what changed, then write "
                "the arm file anew"
            )
    return f"account {account}, by {path}"


def _read_trusted(path: Path) -> bytes:
    """The content of a file that only root or this user can have put there.

    Raises:
        UsageError: others could have written it, or it is a link; the text says what to do.
        OSError: it can't be read.
    """
    try:
        # Without O_NONBLOCK opening a named pipe waits for a writer.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"arm file {path} is a symbolic link: write a plain file there, or set ops.arm_file to what it leads to"
            ) from error
        raise
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"arm file {path} is no plain file: write it again, or use --arm")
        _check_owner(f"arm file {path}", status)
        if status.st_mode & _WRITERS:
            raise UsageError(f"arm file {path} can be written by others than its owner: chmod 600 it, or use --arm")
        directory = path.parent.stat()
        _check_owner(f"the arm file's directory {path.parent}", directory)
        if directory.st_mode & _WRITERS and not directory.st_mode & stat.S_ISVTX:
            raise UsageError(
                f"the arm file's directory {path.parent} can be written by others than its owner: chmod go-w it, or "
                "use --arm"
            )
        return os.read(opened, MAX_BYTES + 1)
    finally:
        os.close(opened)


def _check_owner(what: str, status: os.stat_result) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise UsageError(
            f"{what} belongs to user {status.st_uid}, not to root or to the daemon's user {os.geteuid()}: "
            "change its owner, or use --arm"
        )


def check_bundle(bundle: "Bundle", settings: Settings) -> None:
    """Raises BundleError when the bundle may not be used in live."""
    if bundle.research_only:
        raise BundleError(
            f"bundle {bundle.name} is marked research-only (it does not beat standing aside after costs) "
            "and live refuses it: set model.bundle to one that was approved"
        )
    if bundle.sha256 not in settings.model.approved_bundles:
        raise BundleError(
            f"bundle {bundle.name} is not approved for live: after looking at how it was validated, put its sha256, "
            f"{bundle.sha256}, into model.approved_bundles"
        )
