"""What a server's messages mean: statuses, prices on the tick, and values that make no sense."""

import math
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sierra_session import ES, bracket, order, scope_of

from mia_daemon.brokers.sierra_mapping import (
    MAX_CONTRACTS,
    MAX_MONEY,
    MAX_PRICE,
    MAX_TIME_NS,
    DtcOrderMapper,
)
from mia_daemon.dtc import messages as dtc
from mia_daemon.products.ticks import nearest_decimal
from mia_daemon.records import BalanceReport, Fill, OrderReport, OrderStatus, PositionReport, Side

FLOAT32_CENT = 0.009999999776482582  # 0.01 as a float32
INT64 = 2**63


@pytest.fixture
def mapper():
    return DtcOrderMapper(scope_of())


def said(status=4, reason=3, **more):
    """An update of an order of two contracts at 100.00."""
    facts = {"ServerOrderID": "S1", "ClientOrderID": "E", "Symbol": ES.symbol, "TradeAccount": "Sim1", "BuySell": 1}
    facts |= {"OrderQuantity": 2.0, "FilledQuantity": 0.0, "Price1": 100.0, "OrderType": 2}
    facts |= {"LatestTransactionDateTime": 1.0, "OrderStatus": status, "OrderUpdateReason": reason}
    return dtc.OrderUpdate(**(facts | more))


# Statuses.


@pytest.mark.parametrize(
    ("status", "reason", "more", "means"),
    [
        (1, 3, {}, OrderStatus.ACCEPTED),
        (2, 2, {}, OrderStatus.ACCEPTED),
        (3, 3, {}, OrderStatus.HELD),
        (4, 2, {}, OrderStatus.WORKING),
        (4, 3, {"FilledQuantity": 1.0}, OrderStatus.PARTIAL),
        (4, 7, {}, OrderStatus.REPLACED),
        (10, 5, {"FilledQuantity": 1.0}, OrderStatus.PARTIAL),
        (7, 4, {"FilledQuantity": 2.0}, OrderStatus.FILLED),
        (8, 6, {}, OrderStatus.CANCELED),
        (9, 8, {}, OrderStatus.REJECTED),
        (9, 9, {}, OrderStatus.CANCEL_REJECTED),
        (4, 9, {}, OrderStatus.CANCEL_REJECTED),
        (9, 10, {}, OrderStatus.REPLACE_REJECTED),
        (0, 10, {}, OrderStatus.REPLACE_REJECTED),
        (0, 3, {}, OrderStatus.ACCEPTED),  # alive, until told otherwise
        (99, 5, {"FilledQuantity": 1.0}, OrderStatus.PARTIAL),
        (0, 4, {"FilledQuantity": 2.0}, OrderStatus.FILLED),
        (0, 6, {}, OrderStatus.CANCELED),
    ],
)
def test_status_and_reason_together_say_what_became_of_an_order(mapper, status, reason, more, means):
    assert mapper.update(said(status, reason, **more), unsolicited=True).status is means


@pytest.mark.parametrize("status", [5, 6])
def test_a_change_under_way_is_no_news_but_the_order_is_listed(mapper, status):
    assert mapper.update(said(status), unsolicited=True) is None
    assert mapper.update(said(status), unsolicited=False).status is OrderStatus.WORKING
    assert mapper.update(said(status, FilledQuantity=1.0), unsolicited=False).status is OrderStatus.PARTIAL


@pytest.mark.parametrize("unsolicited", [True, False])
def test_the_number_from_before_a_replace_is_in_every_report(mapper, unsolicited):
    fill = {"FilledQuantity": 1.0, "LastFillQuantity": 1.0, "LastFillPrice": 99.75}
    message = said(PreviousServerOrderID="S0", ClientOrderID="", **fill)
    update, execution = mapper.update(message, unsolicited=unsolicited), mapper.fill(message)
    assert (update.server_order_id, update.previous_server_order_id) == ("S1", "S0")
    assert (execution.server_order_id, execution.previous_server_order_id) == ("S1", "S0")


@pytest.mark.parametrize(
    ("status", "means"), [(0, OrderStatus.WORKING), (99, OrderStatus.WORKING), (3, OrderStatus.HELD)]
)
def test_what_is_listed_as_open_is_alive_whatever_its_status(mapper, status, means):
    assert mapper.update(said(status, reason=0), unsolicited=False).status is means


@pytest.mark.parametrize("missing", [{"BuySell": 0}, {"BuySell": 7}, {"Quantity": 0.0}, {"Price": dtc.UNSET_F64}])
def test_a_past_execution_that_is_not_whole_is_never_guessed(mapper, missing):
    whole = {"ServerOrderID": "S1", "UniqueExecutionID": "x7", "BuySell": 2, "Price": 99.75, "Quantity": 2.0}
    assert mapper.past_fill(dtc.HistoricalOrderFillResponse(**whole)).side is Side.SELL
    assert mapper.past_fill(dtc.HistoricalOrderFillResponse(**whole | missing)) is None


# Prices.


def test_a_float32_multiplier_leaves_prices_on_the_tick_both_ways(mapper):
    mapper.multiplier = nearest_decimal(FLOAT32_CENT)
    assert mapper.single(order("E", Side.BUY, 6008.0)).Price1 == 600800.0
    update = mapper.update(said(Price1=600825.0, LastFillQuantity=1.0, LastFillPrice=600825.0), unsolicited=True)
    assert (update.price, update.fill.price) == (6008.25, 6008.25)


@given(ticks=st.integers(1, 300_000), scale=st.sampled_from([1.0, 100.0, 10.0, 0.1, 0.01, 0.001, 0.25, 1e-4]))
def test_every_price_returns_as_it_was_sent(ticks, scale):
    """Although the server's multiplier is a float32."""
    mapper, price = DtcOrderMapper(scope_of()), ticks * ES.tick_size
    mapper.multiplier = nearest_decimal(float(np.float32(scale)))
    sent = mapper.single(order("E", Side.BUY, price)).Price1
    assert sent == pytest.approx(price / scale, rel=1e-12)
    assert mapper.update(said(Price1=sent), unsolicited=True).price == price


@given(st.integers(1, 40_000))
def test_a_price_that_went_through_a_float32_is_on_the_tick(ticks):
    mapper, price = DtcOrderMapper(scope_of()), ticks * ES.tick_size
    mapper.multiplier = 0.01
    assert mapper.update(said(Price1=float(np.float32(price * 100))), unsolicited=True).price == price


def test_a_pair_and_a_replace_are_scaled_too(mapper):
    mapper.multiplier = nearest_decimal(FLOAT32_CENT)
    pair = mapper.pair(bracket(6008.0))
    assert (pair.Price1_1, pair.Price1_2) == (598900.0, 602900.0)
    assert mapper.replace("E", "S1", 6008.25, 1).Price1 == 600825.0


def test_an_average_price_may_lie_between_ticks_and_any_other_price_is_told_as_it_is(mapper):
    update = mapper.update(said(Price1=100.1, AverageFillPrice=100.125), unsolicited=True)
    assert (update.price, update.average_fill_price) == (100.1, 100.125)  # whoever reads it sees that it is off


def test_the_servers_symbol_is_in_every_message_to_it(mapper):
    mapper = DtcOrderMapper(scope_of(trade_symbol="ESZ26-CME"))
    entry = order("E", Side.BUY, 100.0)
    for message in (mapper.single(entry), mapper.pair(bracket(100.0)), mapper.flatten(entry)):
        assert message.Symbol == "ESZ26-CME"


# Values that make no sense.

ODD = st.one_of(
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, dtc.UNSET_F64, -dtc.UNSET_F64, 0.0, -0.0, 5e-324, 1e300, -1.0]),
    st.sampled_from([INT64 - 1, -INT64, 2**31 - 1, -(2**31), 2**32, 0, -1]),
    st.floats(0.0, 1e5),
)
SIDES = st.sampled_from([0, 1, 2, 3, -1, 255, 2**31 - 1])
UPDATE_FIELDS = dict.fromkeys(
    [
        *("Price1", "Price2", "OrderQuantity", "FilledQuantity", "RemainingQuantity", "AverageFillPrice"),
        *(
            "LastFillPrice",
            "LastFillQuantity",
            "LastFillDateTime",
            "LatestTransactionDateTime",
            "OrderReceivedDateTime",
        ),
        *("OrderStatus", "OrderUpdateReason", "OrderType"),
    ],
    ODD,
)


def limits(record):
    """The largest value that each number of a record may have."""
    if isinstance(record, PositionReport):
        return {"ts_ns": 0, "quantity": MAX_CONTRACTS, "average_price": MAX_PRICE}
    if isinstance(record, BalanceReport):
        return {"ts_ns": 0, "cash": MAX_MONEY}
    contracts = dict.fromkeys(("quantity", "filled"), MAX_CONTRACTS)
    prices = dict.fromkeys(("price", "limit_price", "average_fill_price"), MAX_PRICE)
    return {"ts_ns": MAX_TIME_NS, **contracts, **prices}


def check(record):
    """No number of a record is beyond reason; those inside are of the type that they claim."""
    assert is_dataclass(record)
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Fill):
            check(value)
            assert value.quantity > 0
            assert value.price != 0.0
        elif isinstance(value, int | float) and not isinstance(value, bool) and field.name in limits(record):
            assert math.isfinite(value)
            assert abs(value) <= limits(record)[field.name]
            assert field.name not in {"ts_ns", "quantity", "filled"} or isinstance(value, int)
    if isinstance(record, OrderReport | Fill):
        assert record.quantity >= 0
        assert record.filled >= 0
        assert record.ts_ns >= 0


@given(odd=st.fixed_dictionaries({"BuySell": SIDES}, optional=UPDATE_FIELDS), unsolicited=st.booleans())
def test_no_value_in_an_order_update_gets_through_that_makes_no_sense(odd, unsolicited):
    mapper, message = DtcOrderMapper(scope_of()), said(**odd)
    if (update := mapper.update(message, unsolicited=unsolicited)) is not None:
        check(update)
    if (fill := mapper.fill(message)) is not None:
        check(fill)


@given(st.fixed_dictionaries({"BuySell": SIDES, "Price": ODD, "Quantity": ODD, "DateTime": ODD}))
def test_no_value_in_a_past_execution_gets_through_that_makes_no_sense(odd):
    if (fill := DtcOrderMapper(scope_of()).past_fill(dtc.HistoricalOrderFillResponse(**odd))) is not None:
        check(fill)
        assert fill.quantity > 0


@given(st.fixed_dictionaries({"Quantity": ODD, "AveragePrice": ODD}), st.booleans())
def test_no_value_in_a_position_gets_through_that_makes_no_sense(odd, unsolicited):
    check(DtcOrderMapper(scope_of()).position(dtc.PositionUpdate(**odd), unsolicited=unsolicited))


@given(ODD)
def test_no_balance_gets_through_that_makes_no_sense(cash):
    if (balance := DtcOrderMapper(scope_of()).balance(dtc.AccountBalanceUpdate(CashBalance=cash))) is not None:
        check(balance)


@given(st.sampled_from(sorted(UPDATE_FIELDS)), ODD)
def test_one_odd_value_leaves_the_others_as_they_are(field, odd):
    """What is told beside it is still about our order."""
    update = DtcOrderMapper(scope_of()).update(said(**{field: odd}), unsolicited=False)
    assert update is not None
    assert (update.client_order_id, update.server_order_id, update.side) == ("E", "S1", Side.BUY)
    assert update.price == 100.0 or field == "Price1"
    assert update.quantity == 2 or field == "OrderQuantity"


def test_what_the_server_left_unset_is_nothing(mapper):
    unset = dict.fromkeys(("Price1", "OrderQuantity", "FilledQuantity", "AverageFillPrice"), dtc.UNSET_F64)
    update = mapper.update(said(**unset, LatestTransactionDateTime=0.0), unsolicited=True)
    assert (update.price, update.quantity, update.filled, update.average_fill_price, update.ts_ns) == (
        0.0,
        0,
        0,
        0.0,
        0,
    )


@pytest.mark.parametrize(("told", "decimal"), [(FLOAT32_CENT, 0.01), (1.0, 1.0), (100.0, 100.0), (0.25, 0.25)])
def test_the_decimal_of_a_float32(told, decimal):
    assert nearest_decimal(told) == decimal
