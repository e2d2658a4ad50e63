"""What a recording states of the session it begins: the configuration, as a repetition reads it again."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from daemon_process import PROJECT

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode, Settings, load
from mia_daemon.daemon.roll import contract_in_force
from mia_daemon.daemon.session_recorder import SessionBeginning, SessionRecorder, recorded_settings
from mia_daemon.errors import FileFormatError
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.execution.tape_file import TapeFile, read_tape
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


# ------------------------------------------------------------------------------------------ what can't be written


TIMER = TapeEntry(InputKind.TIMER, 1, 0, None)


@pytest.fixture
def alerts():
    return []


@pytest.fixture
def recorder(tmp_path, alerts):
    recorder = SessionRecorder(tmp_path / "R", "ESZ26_FUT_CME", 1, alerts.append)
    recorder.begin(beginning({}), None)
    yield recorder
    recorder.close()


def full(_self, _data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_inputs_that_the_disk_refuses_are_an_alert_and_no_error(recorder, alerts, monkeypatch):
    recorder.add(TIMER)
    recorder.flush()
    with monkeypatch.context() as patched:
        patched.setattr(TapeFile, "_write", full)
        recorder.add(TIMER)
        recorder.flush()
    recorder.add(TIMER)  # a tape with a hole would repeat as another session
    recorder.flush()
    assert [alert.code for alert in alerts] == ["inputs_not_recorded"]
    assert "No space left on device; trading goes on" in alerts[0].text
    assert list(read_tape(recorder.directory)) == [TIMER]


def test_an_input_that_has_no_json_is_an_alert_and_no_error(recorder, alerts):
    recorder.add(TapeEntry(InputKind.BROKER, 1, 0, (0, True, object())))
    recorder.flush()
    assert [alert.code for alert in alerts] == ["inputs_not_recorded"]
    assert "object can't be on a tape" in alerts[0].text
