"""Live is armed by naming the account once more; anything else is told in one sentence."""

import os
from pathlib import Path

import pytest

from mia_daemon import __version__, config
from mia_daemon.config import VarPaths
from mia_daemon.daemon import arming
from mia_daemon.daemon.arming import check_armed
from mia_daemon.errors import UsageError

LIMITS = dict.fromkeys(config.RiskSettings.model_fields, 1)
SETTINGS = config.parse({"risk": LIMITS, "instrument": {"trade_account": "F.7"}}, "test", environ={})


@pytest.fixture
def arm(tmp_path):
    """Write an arm file and look whether it arms."""
    paths = VarPaths(tmp_path)
    paths.arm_file.parent.mkdir(parents=True)

    def write(text, named=None, mode=0o600):
        paths.arm_file.write_text(text)
        paths.arm_file.chmod(mode)
        return check_armed(SETTINGS, paths, named)

    return write


def test_the_command_line_arms(tmp_path):
    assert check_armed(SETTINGS, VarPaths(tmp_path), "F.7") == "account F.7, by --arm"


@pytest.mark.parametrize("named", [None, "", "F.8", "f.7"])
def test_without_the_very_account_live_is_not_armed(tmp_path, named):
    with pytest.raises(UsageError, match=r"^live is not armed: say --arm F\.7, or write account = \"F\.7\" into "):
        check_armed(SETTINGS, VarPaths(tmp_path), named)


def test_a_file_arms(arm, tmp_path):
    assert arm('account = "F.7"\n') == f"account F.7, by {tmp_path / 'run' / 'arm.toml'}"
    assert arm(f'account = "F.7"\nversion = "{__version__}"\nconfig_sha256 = "{SETTINGS.sha256()}"\n')


def test_what_is_said_at_the_start_counts_before_the_file(arm):
    with pytest.raises(UsageError, match="not armed"):
        arm('account = "F.7"\n', named="F.8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('account = "F.8"', "names account F.8, here it is F.7"),
        ('account = "F.7"\nversion = "9.9"', "names version 9.9"),
        (f'account = "F.7"\nconfig_sha256 = "{"0" * 64}"', "names config_sha256 000"),
        ("", "account: Field required"),
        ('account = "F.7"\nacount = "F.7"', "acount: Extra inputs"),
        ("account = 7", "account: "),
        ("account", "is not valid TOML"),
        ('account = "F.7\\n"', "account: an account has a name without control characters"),
        ("account = " + "[" * 5000, "more than 16 deep"),
        ("# " + "x" * (1 << 22), "has more than 4 MiB"),
    ],
)
def test_a_file_that_does_not_fit_arms_nothing(arm, text, said):
    with pytest.raises(UsageError, match="arm") as refusal:
        arm(text)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value).split("can't be read")[0]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_arms_nothing(arm, mode):
    with pytest.raises(UsageError, match=r"^arm file .*arm\.toml can be written by others than its owner: chmod 600"):
        arm('account = "F.7"\n', mode=mode)


def test_a_link_arms_nothing_wherever_it_leads(arm, tmp_path):
    arm('account = "F.7"\n')
    path = VarPaths(tmp_path).arm_file
    path.rename(tmp_path / "real.toml")
    for target in ("real.toml", "nowhere.toml"):
        path.symlink_to(tmp_path / target)
        with pytest.raises(UsageError, match=r"arm\.toml is a symbolic link: write a plain file there"):
            check_armed(SETTINGS, VarPaths(tmp_path), None)
        path.unlink()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a named pipe", "a directory"])
def test_what_is_no_file_arms_nothing_and_is_not_waited_for(tmp_path, make):
    path = VarPaths(tmp_path).arm_file
    path.parent.mkdir()
    make(path)
    with pytest.raises(UsageError, match=r"arm\.toml is no plain file"):
        check_armed(SETTINGS, VarPaths(tmp_path), None)


@pytest.mark.parametrize(("mode", "armed"), [(0o755, True), (0o775, False), (0o777, False), (0o1777, True)])
def test_a_directory_in_which_others_can_replace_the_file_arms_nothing(arm, tmp_path, mode, armed):
    """In a sticky one they can't."""
    directory = VarPaths(tmp_path).arm_file.parent
    directory.chmod(mode)
    if armed:
        assert arm('account = "F.7"\n')
        return
    with pytest.raises(UsageError, match=r"directory .*run can be written by others than its owner: chmod go-w"):
        arm('account = "F.7"\n')


@pytest.mark.parametrize(("owner", "armed"), [("us", True), ("root", True), ("another", False)])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_only_root_and_the_daemons_user_can_arm(arm, monkeypatch, what, owner, armed):
    us = os.geteuid() + 1000
    uid = {"us": us, "root": 0, "another": us + 1}[owner]
    real_fstat, real_stat = os.fstat, Path.stat

    def owned(status, by):
        return os.stat_result((*status[:4], by, *status[5:]))

    monkeypatch.setattr(arming.os, "geteuid", lambda: us)
    monkeypatch.setattr(arming.os, "fstat", lambda fd: owned(real_fstat(fd), uid if what == "file" else us))
    monkeypatch.setattr(Path, "stat", lambda path, **how: owned(real_stat(path, **how), uid if what != "file" else us))
    if armed:
        assert arm('account = "F.7"\n')
        return
    with pytest.raises(UsageError, match=rf"{what}.* belongs to user {uid}, not to root or to the daemon's user {us}"):
        arm('account = "F.7"\n')
