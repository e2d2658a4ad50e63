"""What a recording states of the session it begins: the configuration, as a repetition reads it again."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from daemon_process import PROJECT

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode, Settings, load
from mia_daemon.daemon.roll import contract_in_force
from mia_daemon.daemon.session_recorder import SessionBeginning, recorded_settings
from mia_daemon.errors import FileFormatError
from mia_daemon.trading.assembly import FLAT

IN_NOVEMBER_NS = int(datetime(2026, 11, 3, 15, tzinfo=UTC).timestamp()) * NS_PER_S
SECRETS = {"MIA_DTC_USERNAME": "me", "MIA_DTC_PASSWORD": "hidden"}
EXAMPLE = (PROJECT / "etc" / "mia.toml").read_text()


def settings_of(tmp_path: Path, *changes: tuple[str, str], more: str = "") -> Settings:
    text = EXAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    config = tmp_path / "mia.toml"
    config.write_text(text + more)
    return contract_in_force(load(config, environ=SECRETS), IN_NOVEMBER_NS)


def beginning(settings: dict[str, object]) -> SessionBeginning:
    return SessionBeginning(
        run_id="R", mode=Mode.PAPER, settings=settings, bundle_sha256="", catalogue_sha256="", cash=0.0,
        time_scale=1.0, has_own_clock=True, replaces=True, account=FLAT,
    )  # fmt: skip


ROOT = ('symbol = "ESZ26_FUT_CME"', 'root = "ES"')
REFERENCE = ('# root = "NQ"  ', 'root = "NQ"  ')
DTC = ('source = "simulator" ', 'source = "dtc" ')
WAIVED = ("max_daily_loss = 1500.0", 'max_daily_loss = "waived"')
PRODUCT = '\n[product.MCL]\nlike = "CL"\ntick_value = 1.0\n'


@pytest.mark.parametrize(
    ("changes", "more"),
    [((), ""), ((ROOT,), ""), ((ROOT, REFERENCE, DTC), ""), ((WAIVED,), ""), ((), PRODUCT)],
    ids=["as shipped", "root", "root of the reference", "a waived limit", "a product"],
)
def test_a_configuration_is_read_from_the_recording_as_it_was(tmp_path, changes, more):
    settings = settings_of(tmp_path, *changes, more=more)
    again = beginning(recorded_settings(settings)).session_settings(tmp_path)
    assert again.effective() == settings.effective()
    assert again.products == settings.products
    assert "hidden" not in str(recorded_settings(settings))


def test_a_bundle_is_found_from_another_directory_too(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, ('# bundle = "var/models/mine"', 'bundle = "models/mine"'))
    monkeypatch.chdir(tmp_path)
    recorded = recorded_settings(settings)
    monkeypatch.chdir("/")
    assert beginning(recorded).session_settings(tmp_path).model.bundle == tmp_path / "models" / "mine"


def test_a_configuration_that_this_version_refuses_is_named(tmp_path):
    recorded = {**recorded_settings(settings_of(tmp_path)), "unknown": {}}
    with pytest.raises(FileFormatError, match="a configuration that this version refuses"):
        beginning(recorded).session_settings(tmp_path)
