"""Live needs all of: `--mode live`, the account named a second time, and an approved bundle."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mia_daemon import __version__
from mia_daemon.config import Settings, VarPaths
from mia_daemon.errors import BundleError, UsageError
from mia_daemon.setting_types import Account
from mia_daemon.user_file import read_toml

if TYPE_CHECKING:
    from mia_daemon.model.bundle import Bundle  # slow to import, and only needed for typing


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
        if path.stat().st_mode & 0o022:
            raise UsageError(f"arm file {path} can be written by others than its owner: chmod 600 it, or use --arm")
        file = _ArmFile.model_validate(read_toml(path, "arm file", remedy))
    except OSError as error:
        raise UsageError(f"arm file {path} can't be read: {error.strerror}; {remedy}") from error
    except ValidationError as error:
        finding = error.errors()[0]
        raise UsageError(
            f"arm file {path} is refused: {'.'.join(map(str, finding['loc']))}: {finding['msg']}; it holds account, "
            "and, if wanted, version and config_sha256"
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
