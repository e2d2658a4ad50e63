"""What is looked at before a start, what is said of it, and that looking changes nothing."""

import contextlib
import shutil
import socket
import ssl
import threading
from pathlib import Path

import numpy as np
import pytest
import trustme

from mia_daemon import config
from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon import preflight
from mia_daemon.daemon.preflight import broker_kind, refuse_unfit, unfit
from mia_daemon.errors import ConfigError, ExitStatus, StartError
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD, to_us

LIMITS = dict.fromkeys(config.RiskSettings.model_fields, 1)


NOW_NS = 1_795_532_400 * NS_PER_S  # 2026-11-24T15:00Z


def settings(**tables):
    return config.parse({"risk": LIMITS, **tables}, "test", environ={})


@pytest.fixture
def look(tmp_path, monkeypatch):
    """The findings by subject, on a day on which ESZ26 is traded."""
    monkeypatch.setattr(preflight.WallClock, "now_ns", staticmethod(lambda: NOW_NS))

    def run(mode=Mode.PAPER, var=tmp_path / "var", **tables):
        findings = preflight.preflight(settings(**tables), mode, VarPaths(var), "Sim1")
        return {finding.subject: finding for finding in findings}

    return run


@pytest.fixture
def listening():
    """A server that answers; its settings."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"port": server.getsockname()[1]}


@pytest.fixture
def encrypted(tmp_path):
    """A server that takes TLS connections; its settings, but for whom to trust, and its authority's file."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as peer:
                        peer.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield {"port": server.getsockname()[1]}, tmp_path / "ca.pem"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_has_to_prove_who_it_is(look, encrypted):
    port, ca_file = encrypted
    trusting = {**port, "tls": "verify", "tls_ca_file": str(ca_file)}
    assert "encrypted (TLSv1." in look(feed={"source": "dtc"}, dtc=trusting)["feed"].text
    stranger = look(feed={"source": "dtc"}, dtc={**port, "tls": "verify"})["feed"]
    assert not stranger.fit
    assert "the certificate of 127.0.0.1:" in stranger.text
    pinned = {**port, "tls": "pinned", "tls_fingerprint_sha256": "ab" * 32}
    assert "is not the pinned one" in look(feed={"source": "dtc"}, dtc=pinned)["feed"].text


def test_what_is_shipped_is_fit_for_paper(look, tmp_path):
    found = look()
    assert list(found) == [
        "instrument", "bundle", "risk", "kill file", "directories", "kernel cache",
        "control socket", "journal", "macro events", "clock", "feed", "orders",
    ]  # fmt: skip
    assert list(unfit(list(found.values()))) == []
    assert "tick 0.25, 12.5 USD a tick" in found["instrument"].text
    assert "research only" in found["bundle"].text
    assert not (tmp_path / "var").exists()


def test_a_finding_is_one_line_to_read(look):
    found = look(instrument={"symbol": "XYF27"})
    assert str(found["feed"]).startswith("ok    feed           embedded simulator, seed 7, 20 times as fast")
    assert str(found["instrument"]).startswith("FAIL  instrument     symbol 'XYF27'")
    assert list(unfit(list(found.values()))) == [f"instrument: {found['instrument'].text}"]
    assert all("\n" not in str(finding) for finding in found.values())


def test_a_server_that_is_not_there(look, listening):
    found = look(feed={"source": "dtc"}, dtc=listening)
    assert found["feed"].fit
    assert found["orders"].fit
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = {"port": server.getsockname()[1]}
    found = look(feed={"source": "dtc"}, dtc=free)
    assert not found["feed"].fit
    assert not found["orders"].fit
    assert found["feed"].text.startswith(f"nothing listens at 127.0.0.1:{free['port']}: start Sierra Chart")
    assert "Enable DTC Protocol Server" in found["feed"].text
    assert list(unfit(list(found.values()))) == [f"feed, orders: {found['feed'].text}"]


def test_a_start_waits_for_a_server_and_is_refused_for_what_waiting_does_not_mend(look, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = {"feed": {"source": "dtc"}, "dtc": {"port": server.getsockname()[1]}}
    found = look(**away)
    assert not found["orders"].fit
    refuse_unfit(list(found.values()))
    for more, status in (
        ({"model": {"bundle": str(tmp_path / "missing")}}, ExitStatus.NO_INPUT),
        ({"instrument": {"symbol": "XYF27"}}, ExitStatus.USAGE),
    ):
        with pytest.raises(StartError) as refused:
            refuse_unfit(list(look(**away, **more).values()))
        assert refused.value.exit_status is status
        assert "nothing listens" not in str(refused.value)


def test_a_certificate_that_is_refused_is_not_awaited(look, encrypted):
    port, _ = encrypted
    with pytest.raises(StartError, match="the certificate of") as refused:
        refuse_unfit(list(look(feed={"source": "dtc"}, dtc={**port, "tls": "verify"}).values()))
    assert refused.value.exit_status is ExitStatus.NO_PERMISSION


def test_who_is_trusted_is_looked_at_before_a_server_is(look):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = {"port": server.getsockname()[1]}
    found = look(feed={"source": "dtc"}, dtc={**free, "tls": "verify", "tls_ca_file": "/no/ca.pem"})["orders"]
    assert found.text == (
        "dtc.tls_ca_file /no/ca.pem can't be used: No such file or directory; name a file of PEM certificates"
    )


def test_a_host_that_nobody_knows(look):
    found = look(feed={"source": "dtc"}, dtc={"host": "no-such-host.invalid"})["feed"]
    assert not found.fit
    assert found.text.startswith("the host no-such-host.invalid is not known (")
    assert found.text.endswith("check dtc.host")


def test_a_file_to_read_prices_from(look, tmp_path):
    path = tmp_path / "ESZ26_FUT_CME.scid"
    feed = {"source": "scid", "scid_path": str(tmp_path / "{symbol}.scid")}
    assert look(feed=feed)["feed"].text.startswith(f"{path} is not there yet")
    assert look(feed=feed)["feed"].fit  # Sierra Chart may start after us
    path.write_bytes(SCID.header() + b"\0" * 39)
    assert look(feed=feed)["feed"].text == f"{path}: no records yet"  # it is being written
    path.write_bytes(b"time,price\n" * 10)
    assert "is not a .scid file" in look(feed=feed)["feed"].text
    assert look(feed=feed)["orders"].text == "filled here by the paper broker"


def test_a_file_of_bars_is_found_out_before_the_start(look, tmp_path):
    path = tmp_path / "ESZ26_FUT_CME.scid"
    record = np.zeros(1, SCID_RECORD)
    record["time"], record["close"] = to_us(1_790_000_000_000_000_000), 6000.25
    path.write_bytes(SCID.header() + record.tobytes())
    feed = {"source": "scid", "scid_path": str(path)}
    assert look(feed=feed)["feed"].text == f"{path}: newest of 2026-09-21T14:13:20.000000Z"
    record["open"] = 6000.0
    path.write_bytes(path.read_bytes() + record.tobytes())
    found = look(feed=feed)["feed"]
    assert not found.fit
    assert found.text.startswith(f"{path}: record 1 (2026-09-21T14:13:20.000000Z) is a bar, not a single trade;")


def test_directories_of_files_to_read_have_to_be_there(look, tmp_path):
    feed = {"source": "scid", "scid_path": str(tmp_path / "no" / "x.scid")}
    assert "set feed.scid_path" in look(feed=feed)["feed"].text
    feed = {"source": "scid", "scid_path": str(tmp_path / "x.scid"), "depth_directory": str(tmp_path / "no")}
    assert "set feed.depth_directory" in look(feed=feed)["feed"].text


def test_a_real_file_tells_how_far_it_reaches(look, mnq_scid):
    found = look(instrument={"symbol": "MNQU21-CME"}, feed={"source": "scid", "scid_path": str(mnq_scid)})["feed"]
    assert (
        found.text.partition("; warning: MNQU21-CME expired on 2021-09-17: set instrument.symbol")[0]
        == f"{mnq_scid}: newest of 2021-05-31T16:58:07.577000Z"
    )


def test_a_contract_tells_when_it_rolls(look):
    assert "ESZ24_FUT_CME, expired on 2024-12-20" in look(instrument={"symbol": "ESZ24_FUT_CME"})["instrument"].text
    assert ", until it rolls into NQ" in look(instrument={"root": "NQ"})["instrument"].text
    refused = look(instrument={"root": "XY"})
    assert list(refused) == ["instrument"]
    assert not refused["instrument"].fit


def test_a_contract_whose_last_trading_day_has_passed_is_not_fit_where_time_is_real(look, tmp_path):
    expired = {"symbol": "ESU26_FUT_CME"}
    feed = {"source": "scid", "scid_path": str(tmp_path / "{symbol}.scid")}
    found = look(instrument=expired, feed=feed)["instrument"]
    assert not found.fit
    assert found.text == (
        "ESU26_FUT_CME, expired on 2026-09-18: set instrument.symbol to a later contract, or instrument.root"
    )
    assert look(instrument=expired, feed={**feed, "max_event_age_s": 0})["instrument"].fit  # a server with its own time
    assert look(instrument=expired)["instrument"].fit  # the embedded simulator


def test_a_control_socket_whose_path_is_too_long_is_found(look, tmp_path):
    exact = tmp_path / ("x" * (107 - len(str(tmp_path)) - 1))
    assert look(ops={"control_socket": str(exact)})["control socket"].fit
    found = look(ops={"control_socket": f"{exact}x"})["control socket"]
    assert not found.fit
    assert found.text == f"control socket {exact}x has a longer path than 107 bytes: set ops.control_socket"


@pytest.mark.parametrize(
    ("home", "says"),
    [
        ("/proc/1", "/proc/1 can't be written by this user: change its owner or set features.cache_dir"),
        ("/dev/null", "/dev/null is a file where a directory is needed: set features.cache_dir"),
        (None, "this user has no home directory: set features.cache_dir to a directory that this user can write"),
    ],
    ids=["read-only", "a file", "none"],
)
def test_a_home_that_can_not_keep_kernels_is_found(look, tmp_path, monkeypatch, home, says):
    def nowhere():
        raise RuntimeError

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if home is None:
        monkeypatch.setattr(Path, "home", nowhere)
    else:
        monkeypatch.setenv("HOME", home)
    found = look()["kernel cache"]
    assert not found.fit
    assert says in found.text
    assert look(features={"cache_dir": str(tmp_path / "cache")})["kernel cache"].fit
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert look()["kernel cache"].fit
    assert not (tmp_path / "cache").exists()


def test_a_file_of_another_product_is_not_fit(look, mnq_scid, tmp_path):
    feed = {"source": "scid", "scid_path": str(mnq_scid)}
    other = look(feed=feed)["feed"]
    assert not other.fit
    assert "is named after a contract of MNQ, and ESZ26_FUT_CME is one of ES" in other.text
    copy = shutil.copy(mnq_scid, tmp_path / "CLF27_FUT_CME.scid")
    oil = look(instrument={"symbol": "CLF27_FUT_CME"}, feed={"source": "scid", "scid_path": str(copy)})["feed"]
    assert not oil.fit
    assert "has prices around 13466.5, and CL trades between -60 and 400" in oil.text
    hundredths = look(instrument={"symbol": "MNQU21-CME"}, feed={**feed, "price_multiplier": 100.0})["feed"]
    assert not hundredths.fit
    assert "set feed.price_multiplier to 0.01 times what it is" in hundredths.text
    micro = look(instrument={"symbol": "NQZ26_FUT_CME"}, feed=feed)["feed"]  # a micro has the prices of its mini
    assert micro.fit


def trades_of(path, level, tick):
    """A file of trades at twenty prices, a tick apart."""
    records = np.zeros(20, SCID_RECORD)
    records["time"] = to_us(1_790_000_000_000_000_000) + np.arange(20)
    records["close"] = level + tick * np.arange(20)
    path.write_bytes(SCID.header() + records.tobytes())
    return str(path)


@pytest.fixture
def beside(look, tmp_path):
    """The finding about the feed with a file of 6J beside one of ZN."""
    feed = {"source": "scid", "scid_path": trades_of(tmp_path / "ZNZ26_FUT_CME.scid", 110.5, 1 / 64)}

    def run(path, symbol="6JZ26_FUT_CME", feed=feed, multiplier=None, **tables):
        reference = {"symbol": symbol, "scid_path": str(path)}
        reference |= {} if multiplier is None else {"price_multiplier": multiplier}
        return look(instrument={"symbol": "ZNZ26_FUT_CME"}, feed=feed, reference=reference, **tables)["feed"]

    return run


def test_the_reference_file_is_looked_at_as_one_of_its_own_product(beside, tmp_path):
    path = trades_of(tmp_path / "6JZ26_FUT_CME.scid", 0.0065, 5e-7)
    fit = beside(path)
    assert fit.fit
    assert fit.text.endswith(f"; reference {path}")
    other = beside(path, "CLZ26_FUT_CME")
    assert not other.fit
    assert "is named after a contract of 6J, and CLZ26_FUT_CME is one of CL" in other.text


def test_the_reference_files_multiplier_is_its_own(beside, tmp_path):
    path = trades_of(tmp_path / "6JZ26_FUT_CME.scid", 0.65, 5e-5)  # hundredths
    refused = beside(path)
    assert not refused.fit
    assert "and 6J trades between" in refused.text
    assert "set reference.price_multiplier to 0.01 times what it is" in refused.text
    assert beside(path, multiplier=0.01).fit
    assert beside(path, product={"6J": {"price_multiplier": 0.01}}).fit


def test_a_reference_file_that_can_not_be_read_or_judged_is_a_warning(beside, tmp_path):
    """It holds up nothing while the daemon runs either."""
    missing = beside(tmp_path / "6JZ26_FUT_CME.scid")
    assert missing.fit
    assert f"; warning: reference {tmp_path / '6JZ26_FUT_CME.scid'}: it is not there yet" in missing.text
    (tmp_path / "6JZ26_FUT_CME.scid").write_bytes(b"no such format")
    foreign = beside(tmp_path / "6JZ26_FUT_CME.scid")
    assert foreign.fit
    assert ": trading goes on without the reference symbol: " in foreign.text
    unknown = beside(trades_of(tmp_path / "XYZ26_FUT_CME.scid", 3.0, 0.125), "XYZ26_FUT_CME")
    assert unknown.fit
    assert "XYZ26_FUT_CME is a contract of no product known: its prices are neither rounded to" in unknown.text


FDAX = {
    "currency": "EUR", "tick_size": 1.0, "tick_value": 25.0, "lowest_price": 2000.0, "highest_price": 200000.0,
    "simulated_price": 24000.0, "commission_per_side": 1.2, "exchange_fee_per_side": 0.7, "months": "HMUZ",
    "symbols": ["{root}{month}{year}-EUREX"], "calendar": "", "time_zone": "Europe/Berlin", "session_open": "01:10",
    "session_close": "22:00", "regular_open": "09:00", "regular_close": "17:30",
    "expiry": {"day": "third_friday", "business_days_before": 0}, "last_trade_at": "13:00",
    "roll": {"day": "third_friday", "days_before": 1}, "closed_days": ["2026-12-25"],
}  # fmt: skip


def test_a_future_that_the_configuration_describes_is_fit(look):
    found = look(product={"FDAX": FDAX}, instrument={"symbol": "FDAXH27-EUREX"})
    assert list(unfit(list(found.values()))) == []
    assert "it expires on 2027-03-19: tick 1, 25 EUR a tick, costs 1.9 EUR a side" in found["instrument"].text
    pattern = "{root}{month}{year}-EUREX"
    rolling = look(product={"FDAX": FDAX}, instrument={"root": "FDAX", "symbol_pattern": pattern})
    assert rolling["instrument"].fit
    assert ", until it rolls into FDAX" in rolling["instrument"].text


def test_directories(look, tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b" / "c"
    assert look(var=deep)["directories"].fit  # it will be made
    (tmp_path / "file").write_text("")
    assert "is a file where a directory is needed" in look(var=tmp_path / "file" / "var")["directories"].text
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    assert "can't be written by this user" in look(var=deep)["directories"].text
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)._replace(free=preflight.MIN_FREE_BYTES - 1)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)
    assert "has 499 MB left, 500 are needed" in look(var=deep)["directories"].text


def test_directories_that_others_can_read_are_named_with_the_remedy(look, tmp_path):
    var = tmp_path / "var"
    (var / "logs").mkdir(parents=True)
    (var / "logs").chmod(0o750)
    assert "open to others" not in look(var=var)["directories"].text
    (var / "logs").chmod(0o755)
    found = look(var=var)["directories"]
    assert found.fit
    assert found.text.endswith(f"; open to others: {var / 'logs'}: chmod -R g-w,o-rwx {var}, unless that is meant")


def test_announcements(look, tmp_path):
    path = tmp_path / "macro.csv"
    windows = {"macro_events_csv": str(path)}
    assert str(path) in look(windows=windows)["macro events"].text
    path.write_text("start_time,type,impact,cluster_id\n2026-12-09T19:00:00Z,FOMC,0.9,1\n")
    found = look(windows=windows)["macro events"]
    assert (found.fit, found.text) == (True, f"1 in {path}")
    path.write_text("start_time,type,impact,cluster_id\nsoon,FOMC,0.9,1\n")
    assert not look(windows=windows)["macro events"].fit


def test_a_bundle_that_is_not_there(look, tmp_path):
    assert str(tmp_path / "none") in look(model={"bundle": str(tmp_path / "none")})["bundle"].text


def test_live_wants_a_market_and_an_approved_bundle(look, listening, approved):
    found = look(Mode.LIVE)
    assert "research-only" in found["bundle"].text
    assert "no market to trade live on" in found["feed"].text
    found = look(Mode.LIVE, feed={"source": "dtc"}, dtc=listening, model=approved)
    assert list(unfit(list(found.values()))) == []
    assert ", approved for live, sha256 " in found["bundle"].text
    assert found["arming"].text == "account Sim1, by --arm"
    found = look(Mode.LIVE, feed={"source": "dtc"}, dtc=listening, model=approved, broker={"kind": "paper"})
    assert "sends no orders" in found["orders"].text


@pytest.mark.parametrize(
    ("mode", "source", "kind", "expected"),
    [
        (Mode.PAPER, "simulator", "auto", "dtc"),
        (Mode.PAPER, "dtc", "auto", "dtc"),
        (Mode.PAPER, "scid", "auto", "paper"),
        (Mode.PAPER, "scid", "dtc", "dtc"),
        (Mode.PAPER, "simulator", "paper", "paper"),
        (Mode.LIVE, "scid", "auto", "dtc"),
        (Mode.LIVE, "dtc", "dtc", "dtc"),
        (Mode.REPLAY, "dtc", "dtc", "paper"),
    ],
)
def test_who_takes_the_orders(mode, source, kind, expected):
    chosen = settings(feed={"source": source, "scid_path": "x.scid"}, broker={"kind": kind})
    assert broker_kind(chosen, mode) == expected


def test_live_never_fills_its_own_orders():
    with pytest.raises(ConfigError, match="sends no orders"):
        broker_kind(settings(feed={"source": "dtc"}, broker={"kind": "paper"}), Mode.LIVE)


def test_live_trades_on_no_bundle_that_the_configuration_does_not_approve(look, approved):
    unnamed = look(Mode.LIVE, model={**approved, "approved_bundles": ["0" * 64]})["bundle"]
    assert not unnamed.fit
    (sha256,) = approved["approved_bundles"]
    assert unnamed.text.endswith(f"put its sha256, {sha256}, into model.approved_bundles")
    assert look(Mode.PAPER, model={**approved, "approved_bundles": []})["bundle"].fit
    with pytest.raises(ConfigError, match=r"model\.approved_bundles"):
        settings(model={"approved_bundles": ["short"]})


def test_where_a_kill_file_is_nothing_starts(look, tmp_path):
    assert look()["kill file"].fit
    (tmp_path / "var" / "run").mkdir(parents=True)
    (tmp_path / "var" / "run" / "kill").symlink_to("nowhere")  # also one that leads nowhere
    found = look()["kill file"]
    assert not found.fit
    assert found.text.endswith("find out why, remove it, then start")
    elsewhere = tmp_path / "stop-all"
    assert look(ops={"kill_file": str(elsewhere)})["kill file"].fit
    elsewhere.touch()
    assert str(elsewhere) in look(ops={"kill_file": str(elsewhere)})["kill file"].text


def test_a_limit_that_is_waived_is_named(look):
    assert look()["risk"].text.endswith("limits waived: none")
    waiving = LIMITS | {"max_order_notional": "waived", "max_executions": "waived"}
    assert look(risk=waiving)["risk"].text.endswith("limits waived: max_order_notional, max_executions")


def test_announcements_that_have_ended_are_reported_and_are_no_obstacle(look, tmp_path):
    path = tmp_path / "macro_events.csv"
    header = "start_time,type,impact,cluster_id\n"
    path.write_text(f"{header}2020-11-05T19:00:00,FOMC,0.9,1\n")
    found = look(windows={"macro_events_csv": str(path)})["macro events"]
    assert found.fit
    assert found.text.startswith(f"1 in {path}: the last announcement is of 2020-11-05")
    path.write_text(f"{header}2099-11-05T19:00:00,FOMC,0.9,1\n")
    assert look(windows={"macro_events_csv": str(path)})["macro events"].text == f"1 in {path}"


@pytest.mark.parametrize(
    ("synchronized", "says"), [(True, "synchronised"), (False, "is not synchronised: "), (None, "does not say")]
)
def test_the_machines_clock_is_looked_at_where_time_is_real(look, listening, monkeypatch, synchronized, says):
    monkeypatch.setattr(preflight, "is_synchronized", lambda: synchronized)
    found = look(feed={"source": "dtc"}, dtc=listening)["clock"]
    assert found.fit
    assert says in found.text
    assert "time of its own" in look()["clock"].text
