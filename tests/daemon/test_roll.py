"""A contract with a position in it is not left behind unless told so."""

from datetime import UTC, datetime

import pytest
from run_headers import run_header

from mia_daemon import config
from mia_daemon.clock import EventClock
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.roll import choose_contract, contract_in_force
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.errors import ConfigError, UsageError
from mia_daemon.journal.writer import Journal
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Fill, Side
from mia_daemon.risk.codes import RiskCode

LIMITS = dict.fromkeys(config.RiskSettings.model_fields, 1)


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e9)


BEFORE, AFTER, EXPIRED = at("2026-12-10T15:00"), at("2026-12-15T15:00"), at("2027-01-05T15:00")


def settings(**instrument):
    return config.parse({"risk": LIMITS, "instrument": {"root": "ES", **instrument}}, "test", environ={})


@pytest.fixture
def paths(tmp_path):
    return VarPaths(tmp_path)


@pytest.fixture
def hold(paths):
    """Put a position on the books of paper trading."""

    def book(symbol, quantity, account="Sim1"):
        paths.journal(Mode.PAPER).parent.mkdir(exist_ok=True)
        journal = Journal(paths.journal(Mode.PAPER), durable=False)
        journal.begin_run(run_header(BEFORE))
        side = Side.BUY if quantity > 0 else Side.SELL
        journal.record_fill(
            Fill(BEFORE, f"x{symbol}{account}", "c1", "s1", symbol, account, side, abs(quantity), 6000.0)
        )
        journal.close()

    return book


def test_rolls_when_flat(paths):
    before = choose_contract(settings(), Mode.PAPER, paths, BEFORE)
    assert before.settings.instrument.symbol == "ESZ26_FUT_CME"
    assert before.text == "ESZ26_FUT_CME, until it rolls into ESH27_FUT_CME on 2026-12-14"
    after = choose_contract(settings(), Mode.PAPER, paths, AFTER)
    assert (after.settings.instrument.symbol, after.warning) == ("ESH27_FUT_CME", False)
    assert not list(paths.root.iterdir())


def test_a_position_keeps_its_contract(paths, hold):
    hold("ESZ26_FUT_CME", -2)
    assert not choose_contract(settings(), Mode.PAPER, paths, BEFORE).warning
    kept = choose_contract(settings(), Mode.PAPER, paths, AFTER)
    assert (kept.settings.instrument.symbol, kept.warning) == ("ESZ26_FUT_CME", True)
    assert "kept while the journal has -2" in kept.text
    assert "ESH27_FUT_CME is in force" in kept.text
    # TradingAccount of another mode or account, and of another product, have no say.
    assert choose_contract(settings(), Mode.LIVE, paths, AFTER).settings.instrument.symbol == "ESH27_FUT_CME"
    other = settings(trade_account="Sim2")
    assert choose_contract(other, Mode.PAPER, paths, AFTER).settings.instrument.symbol == "ESH27_FUT_CME"
    assert (
        choose_contract(settings(root="MES"), Mode.PAPER, paths, AFTER).settings.instrument.symbol == "MESH27_FUT_CME"
    )


def test_rolls_against_a_position_only_when_told_so_or_expired(paths, hold):
    hold("ESZ26_FUT_CME", 1)
    told = choose_contract(settings(roll_with_position=True), Mode.PAPER, paths, AFTER)
    assert (told.settings.instrument.symbol, told.warning) == ("ESH27_FUT_CME", True)
    assert "+1 ESZ26_FUT_CME is left to you" in told.text
    expired = choose_contract(settings(), Mode.PAPER, paths, EXPIRED)
    assert (expired.settings.instrument.symbol, expired.warning) == ("ESH27_FUT_CME", True)
    assert "has expired" in expired.text


def test_a_contract_named_is_the_one_traded(paths):
    named = config.parse({"risk": LIMITS}, "test", {"instrument.symbol": "NQU26-CME"}, {})
    choice = choose_contract(named, Mode.PAPER, paths, BEFORE)
    assert choice.settings is named
    assert (
        choice.text == "NQU26-CME, expired on 2026-09-18: set instrument.symbol to a later contract, or instrument.root"
    )
    over = config.parse({"risk": LIMITS, "instrument": {"root": "ES"}}, "test", {"instrument.symbol": "NQU26-CME"}, {})
    assert contract_in_force(over, BEFORE).instrument.symbol == "NQU26-CME"
    assert contract_in_force(settings(), AFTER).instrument.symbol == "ESH27_FUT_CME"


def test_contradictions_are_refused(paths):
    for chosen, said in [
        ({"symbol": "ESZ26"}, "leave one of them out"),
        ({"symbol_pattern": "ES"}, "symbol_pattern"),
    ]:
        with pytest.raises(ConfigError, match=said):
            settings(**chosen)
    feed = {"source": "scid", "scid_path": "ESZ26_FUT_CME.scid"}
    with pytest.raises(ConfigError, match=r"needs \{symbol\}"):
        config.parse({"risk": LIMITS, "instrument": {"root": "ES"}, "feed": feed}, "test", environ={})
    with pytest.raises(UsageError, match=r"instrument.root 'XY' is none of ES, .*\[product.XY\]"):
        choose_contract(settings(root="XY"), Mode.PAPER, paths, BEFORE)


@pytest.mark.parametrize(
    ("mode", "root", "ends"),
    [
        (Mode.PAPER, "ES", "2026-12-11T22:00"),  # the last session before CME's roll Monday
        (Mode.PAPER, None, "2026-12-18T14:30"),  # its expiry
        (Mode.REPLAY, "ES", "2026-12-18T14:30"),  # what was recorded was traded, whichever was in force
    ],
)
def test_a_run_leaves_its_contract_in_time(paths, mode, root, ends):
    chosen = config.parse({"risk": LIMITS, "instrument": {} if root is None else {"root": root}}, "test", environ={})
    with DaemonRun(chosen, instrument("ESZ26_FUT_CME"), mode, paths, EventClock()) as run:
        ends_ns = at(ends)
        assert run._windows.flat_rule(at("2026-12-09T15:00")).reason == ""
        assert run._windows.flat_rule(ends_ns - 300 * 10**9).reason == "contract_end"
        assert run._windows.check(ends_ns).code in {RiskCode.CONTRACT_END, RiskCode.MARKET_CLOSED}
        assert run._windows.check(ends_ns + 8 * 3600 * 10**9).code in {RiskCode.CONTRACT_END, RiskCode.MARKET_CLOSED}


def test_the_reference_rolls_with_the_date_whatever_is_held(paths, hold):
    hold("ESZ26_FUT_CME", 1)
    feed = {"source": "scid", "scid_path": "/data/{symbol}.scid"}
    reference = {"root": "NQ", "scid_path": "/data/{symbol}.scid"}
    both = config.parse(
        {"risk": LIMITS, "instrument": {"root": "ES"}, "feed": feed, "reference": reference}, "test", environ={}
    )
    chosen = choose_contract(both, Mode.PAPER, paths, AFTER).settings
    assert (chosen.instrument.symbol, chosen.reference.symbol) == ("ESZ26_FUT_CME", "NQH27_FUT_CME")
    assert str(chosen.reference.scid_file) == "/data/NQH27_FUT_CME.scid"
    assert choose_contract(settings(), Mode.PAPER, paths, AFTER).settings.reference.symbol == ""
