"""The configuration: what is accepted, what is refused and how that is said, what is secret."""

import copy
import tomllib
import traceback
from datetime import date
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mia_daemon import config
from mia_daemon.cli import main
from mia_daemon.credentials import without_secrets
from mia_daemon.errors import ConfigError
from mia_daemon.product_settings import ProductSettings
from mia_daemon.products.price_scale import AS_STORED, PriceScale

SHIPPED = Path(__file__).resolve().parent.parent / "etc" / "mia.toml"


@pytest.fixture
def document():
    return tomllib.loads(SHIPPED.read_text())


def test_the_shipped_file_states_every_option(document):
    """Each setting stands in etc/mia.toml, set or as a commented example."""
    text = SHIPPED.read_text()
    fields = config.Settings.model_fields.items()
    tables = {table: (field.annotation, document[table]) for table, field in fields if table != "product"}
    tables["product"] = (ProductSettings, {})
    tables["simulator.faults"] = (config.FaultSettings, document["simulator"]["faults"])
    for table, (model, stated) in tables.items():
        for name in model.model_fields:
            if f"{table}.{name}" in {"dtc.username", "dtc.password"}:
                continue
            assert name in stated or f"# {name} = " in text, f"{table}.{name} is not in {SHIPPED.name}"


def test_the_shipped_values_are_the_defaults(document):
    """Leaving out what may be left out changes nothing."""
    whole = config.parse(document, "whole", environ={})
    short = config.parse({"risk": document["risk"]}, "short", environ={})
    assert whole == short


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risk": {"max_daily_los": 5}}, "unknown key risk.max_daily_los; did you mean max_daily_loss?"),
        ({"feeed": {}}, "unknown key feeed; did you mean feed?"),
        ({"feed": {"source": "scid"}}, "needs scid_path"),
        ({"feed": {"source": "simulator", "dtc_port": 11199}}, 'only with source = "dtc"'),
        ({"feed": {"source": "telepathy"}}, "feed.source"),
        ({"dtc": {"port": 70000}}, "dtc.port"),
        ({"risk": {"max_daily_loss": float("nan")}}, "risk.max_daily_loss"),
        ({"risk": {"max_position_contracts": 1}, "decision": {"max_position": 2}}, "decision.max_position (2)"),
        ({"decision": {"exit_below": 0.9}}, "exit_below must not exceed enter_above"),
        ({"dtc": {"password": "hunter2"}}, "MIA_DTC_PASSWORD"),
        ({"dtc": 5}, "dtc"),
        ({"dtc": {"client_name": "a name as long as this one"}}, "dtc.client_name: String should have at most 20"),
        ({"dtc": {"tls": "pinned"}}, "tls_fingerprint_sha256 go together"),
        ({"dtc": {"tls_fingerprint_sha256": "ab" * 32}}, "tls_fingerprint_sha256 go together"),
        ({"dtc": {"tls": "pinned", "tls_fingerprint_sha256": "ab:cd"}}, "64 hexadecimal digits"),
        ({"dtc": {"tls_ca_file": "ca.pem"}}, 'only with tls = "verify"'),
        ({"simulator": {"faults": {"delay_m": 5}}}, "unknown key simulator.faults.delay_m; did you mean delay_ms?"),
        ({"simulator": {"faults": {"lose_share": 1.5}}}, "simulator.faults.lose_share"),
        ({"simulator": {"faults": {"stall_s": 1.5}}}, "stall_every_s and stall_s go together"),
        ({"dtc": {"port": "11099"}}, 'dtc.port: Input should be a valid integer, not "11099"'),
        ({"risk": {"max_daily_loss": True}}, "risk.max_daily_loss: Input should be a valid number, not true"),
        (
            {"risk": {"max_order_contracts": True}},
            "max_order_contracts: Input should be a valid integer, not true",
        ),
        ({"dtc": {"encoding_is_preset": 1}}, "dtc.encoding_is_preset: Input should be a valid boolean, not 1"),
        ({"feed": {"source": "sierra"}}, "Input should be 'simulator', 'dtc' or 'scid', not \"sierra\""),
        ({"model": {"approved_bundles": ["abc"]}}, 'not "abc"'),
        ({"instrument": {"trade_account": ""}}, "instrument.trade_account"),
        ({"decision": {"min_hold_s": 5000.0}}, "min_hold_s must not exceed max_hold_s"),
        (
            {"feed": {"scid_path": "/sc/{sym}.scid"}},
            "feed.scid_path: {sym} stands for nothing here; {symbol} ",
        ),
        ({"reference": {"symbol": "NQZ26", "scid_path": "{}.scid"}}, "reference.scid_path: {} stands for nothing here"),
    ],
)
def test_a_bad_value_is_refused_by_name(document, change, said):
    for table, values in change.items():
        document[table] = {**document.get(table, {}), **values} if isinstance(values, dict) else values
    with pytest.raises(ConfigError, match=r"^configuration mine\.toml is refused: ") as refusal:
        config.parse(document, "mine.toml", environ={})
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "overrides", "origin"),
    [
        ({}, {"simulator.speed": -1.0}, "an option of the command line"),
        ({}, {"simulator.faults": {"splitt": True}}, "an option of the command line"),
        ({"risk": {"max_daily_loss": 1e12}}, {"simulator.speed": 2.0}, "configuration mine.toml"),
        ({"risk": {"max_daily_loss": 1e12}}, {"simulator.speed": -1.0}, "configuration mine.toml"),
    ],
)
def test_a_refusal_names_the_file_or_the_command_line_wherever_the_value_is(document, change, overrides, origin):
    with pytest.raises(ConfigError) as refusal:
        config.parse({**document, **change}, "mine.toml", overrides, environ={})
    assert str(refusal.value).startswith(f"{origin} is refused: ")
    mixed = bool(change) and overrides.get("simulator.speed", 0.0) < 0.0
    assert ("simulator.speed: Input should be greater than 0 (an option of" in str(refusal.value)) == mixed


def test_text_is_a_path_or_a_date_and_a_whole_number_an_amount(document):
    settings = config.parse(
        {
            **document,
            "feed": {"source": "scid", "scid_path": "/sc/{symbol}.scid"},
            "simulator": {"start_date": "2026-11-03"},
            "risk": {**document["risk"], "max_daily_loss": 1500},
            "model": {"approved_bundles": ["ab" * 32]},
        },
        "mine.toml",
        environ={},
    )
    assert settings.feed.scid_file("ESZ26") == Path("/sc/ESZ26.scid")
    assert settings.simulator.start_date == date(2026, 11, 3)
    assert settings.risk.max_daily_loss == 1500.0
    assert settings.model.approved_bundles == ("ab" * 32,)


def test_a_credential_that_can_not_be_read_is_said_and_never_shown(document, tmp_path):
    file = tmp_path / "MIA_DTC_PASSWORD"
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    file.write_bytes(b"hunter2\xff")
    with pytest.raises(ConfigError, match=f"^the credential {file} is not UTF-8 text: write it again$"):
        config.parse(document, "x", environ=environ)
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=f"^the credential {file} can't be read: Is a directory; check its"):
        config.parse(document, "x", environ=environ)
    nowhere = {"CREDENTIALS_DIRECTORY": str(tmp_path / "none"), "MIA_DTC_PASSWORD": "hunter2"}
    assert config.parse(document, "x", environ=nowhere).dtc.password.get_secret_value() == "hunter2"


def test_a_limit_is_never_absent_by_accident(document):
    for name in list(document["risk"]):
        without = {**document, "risk": {k: v for k, v in document["risk"].items() if k != name}}
        with pytest.raises(ConfigError, match=rf"risk\.{name} is missing"):
            config.parse(without, "mine.toml", environ={})


def test_a_limit_may_be_waived_by_the_word_and_by_no_other(document):
    for name, limit in document["risk"].items():
        if name in {"cancel_reserve_share", "market_pause_s"}:  # parts of others: 0 is nothing
            continue
        for word, accepted in (("waived", True), ("none", False), ("", False), (0 - limit, False)):
            changed = {**document, "risk": {**document["risk"], name: word}}
            if accepted:
                settings = config.parse(changed, "mine.toml", environ={})
                assert settings.risk.waived == (name,)
                assert settings.effective()["risk"][name] == "waived"
                risk = settings.effective()["risk"]
                assert config.parse({**document, "risk": risk}, "again", environ={}) == settings
            else:
                with pytest.raises(ConfigError, match=rf"risk\.{name}: "):
                    config.parse(changed, "mine.toml", environ={})


def test_secrets_come_from_outside_and_stay_hidden(document, tmp_path):
    plain = config.parse(document, "x", environ={})
    from_environment = config.parse(document, "x", environ={"MIA_DTC_PASSWORD": "hunter2"})
    (tmp_path / "MIA_DTC_PASSWORD").write_text("correct horse\n")
    from_credentials = config.parse(
        document, "x", environ={"MIA_DTC_PASSWORD": "hunter2", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    )
    assert from_environment.dtc.password.get_secret_value() == "hunter2"
    assert from_credentials.dtc.password.get_secret_value() == "correct horse"
    for settings in (from_environment, from_credentials):
        for told in (repr(settings), str(settings.effective())):
            assert "hunter2" not in told
            assert "correct horse" not in told
    assert from_environment.dtc.username == plain.dtc.username


def test_a_server_for_prices_alone_gets_no_password(document):
    secrets = {"MIA_DTC_USERNAME": "me", "MIA_DTC_PASSWORD": "pw"}
    document["feed"]["source"] = "dtc"
    assert (settings := config.parse(document, "x", environ=secrets)).price_server == settings.dtc
    document["feed"]["dtc_port"] = 11199
    prices = config.parse(document, "x", environ=secrets).price_server
    assert (prices.host, prices.port, prices.has_credentials) == ("127.0.0.1", 11199, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_a_password_may_go_to_this_machine_in_the_clear(document, host):
    document["dtc"]["host"] = host
    assert not config.parse(document, "x", environ={"MIA_DTC_PASSWORD": "pw"}).dtc.encrypted


@pytest.mark.parametrize("variable", ["MIA_DTC_USERNAME", "MIA_DTC_PASSWORD"])
@pytest.mark.parametrize("host", ["10.0.0.7", "sierra.lan", "localhost.evil.net"])
def test_a_password_goes_elsewhere_in_the_clear_only_when_that_is_said(document, host, variable):
    document["dtc"]["host"] = host
    assert not config.parse(document, "x", environ={}).dtc.has_credentials
    with pytest.raises(ConfigError, match=f"would travel to {host} .* set dtc.tls to") as refusal:
        config.parse(document, "x", environ={variable: "hunter2"})
    assert "hunter2" not in str(refusal.value)
    for tls in ("off", "verify"):
        document["dtc"]["tls"] = tls
        assert config.parse(document, "x", environ={variable: "hunter2"}).dtc.encrypted == (tls == "verify")


def test_a_fingerprint_may_be_written_as_openssl_prints_it(document):
    document["dtc"] |= {"tls": "pinned", "tls_fingerprint_sha256": ":".join(["AB"] * 32)}
    assert config.parse(document, "x", environ={}).dtc.tls_fingerprint_sha256 == "ab" * 32


def test_the_hash_is_of_the_values_in_force(document):
    plain = config.parse(document, "x", environ={})
    faster = config.parse(document, "x", {"simulator.speed": 21.0}, environ={})
    assert faster.simulator.speed == 21.0
    assert plain.sha256() == config.parse(document, "y", environ={}).sha256()
    assert plain.sha256() != faster.sha256()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "can't be read: No such file"), (b"[risk\n", "not valid TOML"), (b"\xff\xfe", "not UTF-8")],
)
def test_an_unreadable_file_is_named(tmp_path, content, said):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml") as refusal:
        config.load(path, environ={})
    assert said in str(refusal.value)


def test_settings_do_not_change(document):
    settings = config.parse(document, "x", environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.risk.max_daily_loss = 1e9


@pytest.mark.parametrize(
    ("source", "reference", "said"),
    [
        ("simulator", {"symbol": "NQZ26_FUT_CME"}, "the simulator has one of its own"),
        ("scid", {"symbol": "NQZ26_FUT_CME"}, "reference.scid_path is missing"),
        ("dtc", {"symbol": "ESZ26_FUT_CME"}, "name another"),
        ("dtc", {"symbol": "NQZ26_FUT_CME", "root": "NQ"}, "leave one of them out"),
        ("scid", {"scid_path": "/data/NQ.scid"}, "scid_path needs symbol or root"),
        ("scid", {"root": "NQ", "scid_path": "/data/NQ.scid"}, "needs {symbol}"),
    ],
)
def test_a_reference_that_could_bring_nothing_is_refused(document, source, reference, said):
    document["feed"].update(source=source, scid_path="/data/ES.scid")
    document["reference"] = reference
    with pytest.raises(ConfigError, match=said):
        config.parse(document, "test", environ={})


@pytest.mark.parametrize(
    ("feed", "reference", "product", "multipliers"),
    [
        (None, None, {}, (1.0, 1.0)),
        (None, None, {"6J": {"price_multiplier": 0.01}}, (1.0, 0.01)),
        (None, 100.0, {"6J": {"price_multiplier": 0.01}}, (1.0, 100.0)),
        (0.01, None, {}, (0.01, 0.01)),  # feed's serves both symbols where it stands alone
        (0.01, 1.0, {}, (0.01, 1.0)),
        (None, None, {"ES": {"price_multiplier": 0.01}, "6J": {"price_multiplier": 1.0}}, (0.01, 1.0)),
        (None, None, {"ES": {"price_multiplier": 0.01}}, (0.01, 0.01)),  # 6J is like ES
    ],
)
def test_each_symbol_has_the_multiplier_and_the_tick_of_its_own_product(
    document, feed, reference, product, multipliers
):
    document["feed"] |= {} if feed is None else {"price_multiplier": feed}
    document["reference"] |= {} if reference is None else {"price_multiplier": reference}
    settings = config.parse({**document, "product": product}, "test", environ={})
    assert settings.price_scale("ESZ26_FUT_CME") == PriceScale(multipliers[0], 0.25)
    assert settings.reference_price_scale("6JZ26_FUT_CME") == PriceScale(multipliers[1], 5e-7)


def test_prices_of_a_reference_of_no_product_known_stay_as_they_are(document):
    settings = config.parse(document, "test", environ={})
    assert settings.reference_price_scale("XYZ26_FUT_CME") == AS_STORED
    document["reference"] |= {"price_multiplier": 0.01}
    settings = config.parse(document, "test", environ={})
    assert settings.reference_price_scale("XYZ26_FUT_CME") == PriceScale(0.01)


@pytest.mark.parametrize("secret", ["hunter2\x1b[2J", "hun\nter2", "hunter2\udcff", "hunter2\x7f"])
def test_a_secret_with_a_control_character_is_refused_and_not_shown(document, secret):
    with pytest.raises(ConfigError, match="MIA_DTC_PASSWORD has a control character, or bytes that are not") as refusal:
        config.parse(document, "x", environ={"MIA_DTC_PASSWORD": secret})
    assert "hun" not in str(refusal.value)


def test_a_password_that_is_a_part_of_the_account_is_refused_and_not_shown(document):
    document["instrument"] = {"trade_account": "Joe-Hunter2"}
    with pytest.raises(ConfigError, match=r"MIA_DTC_PASSWORD is a part of instrument\.trade_account") as refusal:
        config.parse(document, "x", environ={"MIA_DTC_PASSWORD": "hunter2"})
    assert "unter2" not in str(refusal.value)


def test_no_error_of_the_chain_shows_a_secret(document):
    document["dtc"] = {"host": "10.1.2.3", "port": "no number"}
    environ = {"MIA_DTC_PASSWORD": "hunter2", "MIA_DTC_USERNAME": "trader-joe"}
    with pytest.raises(ConfigError) as refusal:
        config.parse(document, "x", environ=environ)
    told = "".join(traceback.format_exception(refusal.value))
    assert "hunter2" not in told
    assert "trader-joe" not in told


def test_a_child_that_logs_on_nowhere_gets_no_secrets():
    environ = {"PATH": "/bin", "MIA_DTC_USERNAME": "joe", "MIA_DTC_PASSWORD": "pw", "CREDENTIALS_DIRECTORY": "/run"}
    assert without_secrets(environ) == {"PATH": "/bin"}


# Bounds.


def numbers(model=config.Settings, parents=()):
    """The path of every setting that is a number."""
    for name, field in model.model_fields.items():
        kinds = {field.annotation, *get_args(field.annotation)}
        kinds |= {get_args(kind)[0] for kind in kinds if get_origin(kind) is Annotated}
        of_tables = ("ES",) if get_origin(field.annotation) is dict else ()
        for nested in kinds:
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                yield from numbers(nested, (*parents, name, *of_tables))
        if kinds & {int, float}:
            yield (*parents, name)


NUMBERS = list(numbers())


def with_value(document, path, value):
    changed = copy.deepcopy(document)
    table = changed
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value
    return changed


def test_the_numbers_of_every_table_are_looked_at():
    assert {path[0] for path in NUMBERS} == set(config.Settings.model_fields) - {"incidents"}
    assert len(NUMBERS) > 90


@pytest.mark.parametrize("value", [1e300, -1e300, float("inf"), float("-inf"), float("nan"), 10**300], ids=str)
@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_a_number_that_would_switch_its_setting_off_is_refused_by_name(document, path, value):
    with pytest.raises(ConfigError) as refusal:
        config.parse(with_value(document, path, value), "x", environ={})
    assert ".".join(path) in str(refusal.value)
    assert len(str(refusal.value)) < 250


@given(st.sampled_from(NUMBERS), st.floats(min_value=1e13) | st.integers(min_value=10**19))
def test_no_setting_is_without_an_upper_bound(path, value):
    with pytest.raises(ConfigError):
        config.parse(with_value(tomllib.loads(SHIPPED.read_text()), path, value), "x", environ={})


def test_a_limit_that_is_too_high_says_its_bound_and_that_it_may_be_waived(document):
    with pytest.raises(ConfigError) as refusal:
        config.parse(with_value(document, ("risk", "max_daily_loss"), 1e12), "mia.toml", environ={})
    assert str(refusal.value) == (
        "configuration mia.toml is refused: risk.max_daily_loss: 1000000000000.0 is more than can be meant: "
        'write 1000000000 at most, or "waived" where nothing is to be limited'
    )
    with pytest.raises(ConfigError, match=r"dtc\.request_timeout_s: .* write 600 at most$"):
        config.parse(with_value(document, ("dtc", "request_timeout_s"), 1e12), "x", environ={})


# Symbols, accounts and other text.


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        ("instrument", "symbol", "ESZ26_FUT_CME\n"),
        ("instrument", "symbol", "ESZ26-/../../etc/x"),
        ("instrument", "symbol", "ESZ26\0"),
        ("instrument", "symbol", "../ESZ26"),
        ("instrument", "symbol", ""),
        ("instrument", "root", "ES\n"),
        ("instrument", "symbol_pattern", "{root}{month}{year}\n"),
        ("instrument", "trade_symbol", "ES\x1b[2J"),
        ("instrument", "trade_account", "Sim1\n"),
        ("instrument", "trade_account", " Sim1"),
        ("instrument", "trade_account", ""),
        ("broker", "symbol_spellings", ["F.US.EPZ26\n"]),
        ("broker", "account_spellings", ["SIM1", "Sim\u202e1"]),
        ("reference", "symbol", "NQZ26_FUT_CME\r"),
        ("reference", "symbol", "NQZ26/.."),
        ("dtc", "host", "127.0.0.1\n"),
        ("dtc", "client_name", "mia\0"),
        ("ops", "kill_file", "run/kill\0"),
        ("model", "approved_bundles", ["a" * 64 + "\n"]),
    ],
)
def test_control_characters_and_ways_out_of_a_directory_are_refused(document, table, name, value):
    document.setdefault(table, {})[name] = value
    if name == "root":
        del document["instrument"]["symbol"]
    with pytest.raises(ConfigError, match=rf"{table}\.{name}") as refusal:
        config.parse(document, "x", environ={})
    assert str(refusal.value).isprintable()


# Files that can't be a configuration.


def deep(levels):
    return ("x = " + "[" * levels + "]" * levels).encode()


FILES = {
    "deep": (deep(100_000), "more than 16 deep"),
    "less deep": (deep(150), "more than 16 deep"),
    "deep tables": (b"[" + b".".join([b"a"] * 5000) + b"]\n", "more than 16 deep"),
    "huge": (b"# " + b"x" * (1 << 23), "has more than 4 MiB"),
    "long number": (b"x = " + b"9" * 10_000, "is not valid TOML"),
    "UTF-16": ("[feed]\n".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "Latin-1": ("# für\n".encode("latin-1"), "is not UTF-8 text (byte 3)"),
    "twice": (b"[feed]\nsource = 'dtc'\nsource = 'scid'\n", "is not valid TOML: Cannot overwrite a value (at line 3"),
    "a table twice": (b"[feed]\n[feed]\n", "is not valid TOML"),
    "NUL": (b"[feed]\0", "is not valid TOML"),
    "many unknown": (b"".join(b"x%d = 1\n" % n for n in range(10_000)), "and 9996 more"),
    "a long key": (b"x" * 100_000 + b" = 1\n", "unknown key xxx"),
    "a key that clears the screen": (b'"\\u001b[2J" = 1\n', "unknown key \\x1b[2J"),
}


@pytest.mark.parametrize(("content", "said"), FILES.values(), ids=FILES)
def test_a_file_that_can_be_no_configuration_is_refused_in_one_sentence(tmp_path, capsys, content, said):
    file = tmp_path / "mia.toml"
    file.write_bytes(content)
    assert main(["check", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    (sentence,) = err.splitlines()
    assert out == ""
    assert str(file) in sentence
    assert said in sentence
    assert len(sentence) < 1200
    assert sentence.isprintable()


def test_a_byte_order_mark_is_passed_over(tmp_path):
    file = tmp_path / "mia.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SHIPPED.read_bytes())
    assert config.load(file, environ={}) == config.load(SHIPPED, environ={})


def test_a_device_is_no_configuration():
    with pytest.raises(ConfigError, match="has more than 4 MiB"):
        config.load(Path("/dev/zero"))
