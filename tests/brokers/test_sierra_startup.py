"""The start compares with the server how symbol and account are spelled, and names the setting to change."""

import pytest
from rig import RISK
from sierra_session import ES, scope_of

from mia_daemon import config
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra_startup import (
    check_account,
    check_flags,
    check_positions,
    keep_trying,
    patience_s,
    query_multiplier,
)
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, ServerMismatch, ServerNotReady, StartError

HERE = "127.0.0.1:11099"


def answers(*messages):
    async def ask(_query):
        return list(messages)

    return ask


async def refuses(_query):
    return None


class FakeLink:
    """A link whose server has said this of itself."""

    address = HERE
    up = False
    failure = None

    def __init__(self, **flags):
        self.server = dtc.LogonResponse(**flags) if flags else None


def account(name, **more):
    return dtc.TradeAccountResponse(TradeAccount=name, **more)


def held(symbol=ES.symbol, name="Sim1", quantity=1.0):
    return dtc.PositionUpdate(Symbol=symbol, TradeAccount=name, Quantity=quantity)


def definition(symbol=ES.symbol, tick=0.25, multiplier=1.0):
    return dtc.SecurityDefinitionResponse(Symbol=symbol, MinPriceIncrement=tick, DisplayPriceMultiplier=multiplier)


# Until the server is there.


class Absent:
    """A server that is not there before attempt number `there`; notes how long each attempt may take."""

    def __init__(self, there):
        self.there = there
        self.patience_s = []

    async def come_up(self):
        attempt = len(self.patience_s) + 1
        self.patience_s.append(patience_s(attempt))
        if attempt < self.there:
            raise ConnectionLost("nothing listens")


async def test_there_are_three_attempts_to_come_up_of_2_4_and_8_seconds():
    server = Absent(there=9)
    with pytest.raises(ConnectionLost):
        await keep_trying(FakeLink(), None)(server.come_up)
    assert server.patience_s == [2.0, 4.0, 8.0]


async def test_where_somebody_waits_for_it_the_third_attempt_is_reported_and_not_the_last():
    server, reasons = Absent(there=5), []
    await keep_trying(FakeLink(), reasons.append)(server.come_up)
    assert server.patience_s == [2.0, 4.0, 8.0, 8.0, 8.0]
    assert reasons == ["nothing listens"] * 2


# What the server can do.


@pytest.mark.parametrize("flags", [{"OCOOrdersSupported": 1}, {"BracketOrdersSupported": 1}])
def test_a_server_that_links_no_orders_is_refused_and_the_setting_named(flags):
    with pytest.raises(StartError, match=r'links no orders.*set broker.brackets = "client"'):
        check_flags(FakeLink(**flags), pairs_by_server=True)
    check_flags(FakeLink(**flags), pairs_by_server=False)


def test_a_server_that_links_orders_is_accepted():
    check_flags(FakeLink(OCOOrdersSupported=1, BracketOrdersSupported=1), pairs_by_server=True)


# The account.


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (["U0"], r"Sim1 does not exist .*there: U0.*set instrument.trade_account"),
        (["U1", "U2"], r"there: U1, U2"),
        (["U1", "SIM1"], r"it is spelled SIM1 there; set instrument.trade_account"),
    ],
)
async def test_an_account_that_is_not_there_is_refused_with_those_that_are(there, says):
    with pytest.raises(ServerMismatch, match=says):
        await check_account(answers(*map(account, there)), scope_of(), HERE)


async def test_a_server_without_any_account_is_not_ready():
    with pytest.raises(ServerNotReady, match="lists no trade account"):
        await check_account(answers(), scope_of(), HERE)


async def test_an_account_is_known_by_any_of_its_spellings():
    await check_account(answers(account("Sim1")), scope_of(), HERE)
    await check_account(answers(account("F.SIM1")), scope_of(accounts=("F.SIM1",)), HERE)
    with pytest.raises(StartError, match="trading is disabled for account Sim1"):
        await check_account(answers(account("Sim1", TradingIsDisabled=1)), scope_of(), HERE)


# The symbol.


async def test_another_symbol_in_the_answer_is_refused_unless_it_is_a_known_spelling():
    ask = answers(definition("F.US.EPZ26"))
    with pytest.raises(StartError, match=r"answers about F.US.EPZ26 .*ESZ26_FUT_CME: set instrument.trade_symbol"):
        await query_multiplier(ask, scope_of(), HERE)
    assert await query_multiplier(ask, scope_of(symbols=("F.US.EPZ26",)), HERE) == 1.0
    assert await query_multiplier(ask, scope_of(trade_symbol="F.US.EPZ26"), HERE) == 1.0


async def test_a_symbol_that_the_server_does_not_know_is_refused():
    with pytest.raises(StartError, match="does not know the symbol ESZ26-CME"):
        await query_multiplier(answers(), scope_of(trade_symbol="ESZ26-CME"), HERE)


@pytest.mark.parametrize(
    ("told", "multiplier"), [(0.009999999776482582, 0.01), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (dtc.UNSET_F32, 1.0)]
)
async def test_the_multiplier_is_the_decimal_that_its_float32_stands_for(told, multiplier):
    assert await query_multiplier(answers(definition(multiplier=told)), scope_of(), HERE) == multiplier


@pytest.mark.parametrize("told", [float("nan"), float("inf")])
async def test_a_multiplier_that_is_no_number_is_unset(told):
    assert await query_multiplier(answers(definition(multiplier=told, tick=told)), scope_of(), HERE) == 1.0


async def test_another_tick_is_another_product():
    with pytest.raises(StartError, match="not the product it is taken for"):
        await query_multiplier(answers(definition(tick=0.1)), scope_of(), HERE)


# Positions.


@pytest.mark.parametrize(
    ("position", "says"),
    [
        (held("ESZ6.CME"), r"spells ESZ26_FUT_CME ESZ6.CME in its positions: add that to broker.symbol_spellings"),
        (held(name="SIM1"), r"spells account Sim1 SIM1 in its positions: add that to broker.account_spellings"),
    ],
)
async def test_a_position_under_another_spelling_is_refused_and_the_setting_named(position, says):
    with pytest.raises(StartError, match=says):
        await check_positions(answers(position), scope_of(), HERE)
    await check_positions(answers(position), scope_of(symbols=("ESZ6.CME",), accounts=("SIM1",)), HERE)


@pytest.mark.parametrize(
    "position",
    [
        held(),
        held(name=""),
        held("NQZ26_FUT_CME"),
        held("ESH27_FUT_CME"),  # another month
        held(name="Sim2"),
        dtc.PositionUpdate(NoPositions=1),
    ],
)
async def test_positions_under_our_names_and_of_others_are_no_reason_to_refuse(position):
    await check_positions(answers(position), scope_of(), HERE)


async def test_a_server_that_lists_no_positions_is_asked_again_later():
    await check_positions(refuses, scope_of(), HERE)


# The settings.


def test_spellings_come_from_the_settings_with_the_contracts_own_parts():
    settings = config.parse(
        {
            "risk": RISK,
            "instrument": {"symbol": ES.symbol, "trade_symbol": "{root}{month}{year}-CME", "trade_account": "U1"},
            "broker": {"symbol_spellings": ["F.US.{root}{month}{year}", "EP-26"], "account_spellings": ["u1"]},
        },
        "test",
        environ={},
    )
    scope = ServerScope.of(settings, ES)
    assert scope.trade_symbol == "ESZ26-CME"
    assert scope.symbols == {ES.symbol, "ESZ26-CME", "F.US.ESZ26", "EP-26"}
    assert scope.accounts == {"U1", "u1"}
    assert [scope.symbol(told) for told in ("F.US.ESZ26", "", "NQZ26")] == [ES.symbol, ES.symbol, "NQZ26"]
    assert [scope.account_of(told) for told in ("u1", "", "U2")] == ["U1", "U1", "U2"]


def test_without_spellings_the_symbol_is_traded_under_its_own_name():
    scope = ServerScope.of(config.parse({"risk": RISK}, "test", environ={}), ES)
    assert (scope.trade_symbol, scope.symbols) == (ES.symbol, {ES.symbol})
