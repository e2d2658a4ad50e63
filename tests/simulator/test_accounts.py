"""Several trade accounts at one server: the same market, and orders, fills, positions and money of their own."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.products.instruments import instrument
from mia_daemon.simulator.account import Account, account_from
from mia_daemon.simulator.order_log import OrderLog

SYMBOL = "ESZ26_FUT_CME"
ES = instrument(SYMBOL)
FIRST, SECOND, NOBODY = "Sim1", "Sim2", "Sim9"
BUY, SELL, MARKET, LIMIT, STOP = 1, 2, 1, 2, 3
OPEN, FILLED, CANCELED, REJECTED = 4, 7, 8, 9


@pytest.fixture
def exchange(make_exchange):
    return make_exchange(accounts=(FIRST, SECOND))


def order(account, client_id, side=BUY, kind=MARKET, quantity=1.0, price=0.0, **more):
    return dtc.SubmitNewSingleOrder(
        Symbol=SYMBOL, TradeAccount=account, ClientOrderID=client_id, OrderType=kind, BuySell=side, Quantity=quantity,
        Price1=price, TimeInForce=2, **more,
    )  # fmt: skip


def touch(exchange):
    bid, _, ask, _ = exchange.main.touch()
    return bid * ES.tick_size, ask * ES.tick_size


def news(exchange, message, kind=dtc.OrderUpdate):
    """What every client is sent about a request."""
    return [m for m in exchange.handle(message).news if isinstance(m, kind)]


def answers(exchange, request):
    return exchange.handle(request).answers


def working(exchange, account, client_id, price):
    """The ServerOrderID of an order that rests."""
    return news(exchange, order(account, client_id, BUY, LIMIT, 1, price))[-1].ServerOrderID


def test_every_account_is_listed(exchange):
    listed = answers(exchange, dtc.TradeAccountsRequest(RequestID=4))
    assert [(m.TradeAccount, m.RequestID, m.MessageNumber, m.TotalNumberMessages) for m in listed] == [
        (FIRST, 4, 1, 2),
        (SECOND, 4, 2, 2),
    ]


def test_fills_move_the_position_and_the_balance_of_their_account_alone(exchange):
    sent = exchange.handle(order(SECOND, "a", BUY, MARKET, 3)).news
    assert {m.TradeAccount for m in sent} == {SECOND}
    assert [type(m) for m in sent[-2:]] == [dtc.PositionUpdate, dtc.AccountBalanceUpdate]
    assert (exchange.position(FIRST), exchange.position(SECOND)) == (0, 3)
    assert exchange.accounts[FIRST] == Account(FIRST, 100_000.0)
    assert exchange.accounts[SECOND].cash == 100_000.0 - 3 * ES.cost_per_side


def test_orders_of_two_accounts_meet_in_one_book(exchange):
    bid, ask = touch(exchange)
    inside = (bid + ask) / 2 if ask - bid > ES.tick_size else None
    if inside is None:  # the whole touch is taken first, so that the next order stands alone
        exchange.handle(order(FIRST, "clear", BUY, MARKET, exchange.main.touch()[3]))
        inside = ask
    rests = news(exchange, order(FIRST, "rests", BUY, LIMIT, 2, inside))[-1]
    assert rests.OrderStatus == OPEN
    before = exchange.position(FIRST)
    filled = [m for m in news(exchange, order(SECOND, "takes", SELL, MARKET, 2)) if m.OrderStatus == FILLED]
    assert {(m.TradeAccount, m.ClientOrderID, m.LastFillPrice) for m in filled} == {
        (FIRST, "rests", inside),
        (SECOND, "takes", inside),
    }
    assert (exchange.position(FIRST) - before, exchange.position(SECOND)) == (2, -2)


def test_a_request_without_an_account_is_answered_for_all_and_with_one_for_that_one(exchange):
    bid, _ = touch(exchange)
    for account in (FIRST, SECOND):
        exchange.handle(order(account, f"{account}m"))
        working(exchange, account, f"{account}w", bid - 5)
    requests = (dtc.OpenOrdersRequest, dtc.CurrentPositionsRequest, dtc.AccountBalanceRequest)
    for request in requests:
        of_all = answers(exchange, request(RequestID=1))
        assert [m.TradeAccount for m in of_all] == [FIRST, SECOND]
        assert [m.MessageNumber for m in of_all] == [1, 2]
        assert [m.TradeAccount for m in answers(exchange, request(RequestID=1, TradeAccount=SECOND))] == [SECOND]


def test_historical_fills_are_those_of_the_account_that_is_named(exchange):
    exchange.handle(order(FIRST, "a", BUY, MARKET, 1))
    exchange.handle(order(SECOND, "b", SELL, MARKET, 1))
    for account, position in ((FIRST, 1), (SECOND, -1)):
        [fill] = answers(exchange, dtc.HistoricalOrderFillsRequest(RequestID=1, TradeAccount=account, NumberOfDays=90))
        assert (fill.TradeAccount, fill.PositionQuantity, fill.Symbol) == (account, position, SYMBOL)


def test_an_account_without_orders_or_position_says_that_there_are_none(exchange):
    exchange.handle(order(FIRST, "a"))
    [orders] = answers(exchange, dtc.OpenOrdersRequest(RequestID=1, TradeAccount=SECOND))
    [position] = answers(exchange, dtc.CurrentPositionsRequest(RequestID=1, TradeAccount=SECOND))
    assert (orders.NoOrders, position.NoPositions, position.TradeAccount) == (1, 1, SECOND)


@pytest.mark.parametrize(
    ("request_", "reject"),
    [
        (dtc.OpenOrdersRequest, dtc.OpenOrdersReject),
        (dtc.HistoricalOrderFillsRequest, dtc.HistoricalOrderFillsReject),
        (dtc.CurrentPositionsRequest, dtc.CurrentPositionsReject),
        (dtc.AccountBalanceRequest, dtc.AccountBalanceReject),
    ],
)
def test_a_request_for_an_unknown_account_is_rejected(exchange, request_, reject):
    [answer] = answers(exchange, request_(RequestID=7, TradeAccount=NOBODY))
    assert type(answer) is reject
    assert (answer.RequestID, answer.RejectText) == (7, f"trade account {NOBODY} is unknown")


def test_an_order_for_an_unknown_account_is_rejected_with_those_that_can_be_used(exchange):
    [update] = news(exchange, order(NOBODY, "a"))
    assert update.OrderStatus == REJECTED
    assert update.InfoText.endswith(f"use {FIRST} or {SECOND}")


def test_an_order_is_changed_by_its_own_account_only(exchange):
    bid, _ = touch(exchange)
    server_id = working(exchange, FIRST, "a", bid - 5)
    exchange.handle(dtc.CancelOrder(ServerOrderID=server_id, TradeAccount=SECOND))
    [refused] = news(
        exchange,
        dtc.CancelReplaceOrder(ServerOrderID=server_id, TradeAccount=SECOND, Quantity=2, Price1IsSet=0, Price2IsSet=0),
    )
    assert refused.OrderUpdateReason == 10
    [still] = answers(exchange, dtc.OpenOrdersRequest(RequestID=1))
    assert (still.OrderStatus, still.OrderQuantity) == (OPEN, 1)
    canceled = news(exchange, dtc.CancelOrder(ServerOrderID=server_id, TradeAccount=FIRST))
    assert canceled[-1].OrderStatus == CANCELED


def test_a_bracket_belongs_to_its_parents_account(exchange):
    bid, ask = touch(exchange)
    exchange.handle(order(FIRST, "entry", BUY, LIMIT, 1, bid - 5, IsParentOrder=1))
    pair = dtc.SubmitNewOCOOrder(
        Symbol=SYMBOL, TradeAccount=SECOND, TimeInForce=2, ParentTriggerClientOrderID="entry",
        ClientOrderID_1="t", OrderType_1=LIMIT, BuySell_1=SELL, Price1_1=ask + 5, Quantity_1=1,
        ClientOrderID_2="s", OrderType_2=STOP, BuySell_2=SELL, Price1_2=bid - 10, Quantity_2=1,
    )  # fmt: skip
    refused = news(exchange, pair)
    assert [(m.OrderStatus, m.InfoText) for m in refused] == [(REJECTED, "parent order entry is not known")] * 2
    own = replace(pair, TradeAccount=FIRST)
    held = news(exchange, own)
    assert {m.TradeAccount for m in held} == {FIRST}
    assert [m.OrderStatus for m in held if m.ClientOrderID != "entry"][-1] == 3  # pending child


def test_a_flatten_closes_the_position_of_its_account_alone(exchange):
    exchange.handle(order(FIRST, "a", BUY, MARKET, 2))
    exchange.handle(order(SECOND, "b", BUY, MARKET, 3))
    exchange.handle(dtc.SubmitFlattenPositionOrder(Symbol=SYMBOL, TradeAccount=FIRST, ClientOrderID="f"))
    assert (exchange.position(FIRST), exchange.position(SECOND)) == (0, 3)


def test_a_client_order_id_is_used_once_whatever_the_account(exchange):
    exchange.handle(order(FIRST, "a"))
    [update] = news(exchange, order(SECOND, "a"))
    assert "used already" in update.InfoText


def test_accounts_come_back_after_a_restart_and_new_ones_are_added(make_exchange):
    exchange = make_exchange(accounts=(FIRST, SECOND))
    bid, _ = touch(exchange)
    exchange.handle(order(SECOND, "a", SELL, MARKET, 2))
    working(exchange, FIRST, "w", bid - 5)
    exchange.close()
    again = make_exchange(accounts=(NOBODY, SECOND))
    assert list(again.accounts) == [NOBODY, SECOND, FIRST]
    assert again.accounts[SECOND] == exchange.accounts[SECOND]
    assert again.accounts[NOBODY] == Account(NOBODY, 100_000.0)
    [order_] = answers(again, dtc.OpenOrdersRequest(RequestID=1))
    [fill] = answers(again, dtc.HistoricalOrderFillsRequest(RequestID=1, TradeAccount=SECOND, NumberOfDays=90))
    assert (order_.TradeAccount, order_.ClientOrderID, fill.PositionQuantity) == (FIRST, "w", -2)


def test_a_new_session_begins_the_day_of_every_account(make_exchange):
    exchange = make_exchange(accounts=(FIRST, SECOND), events_per_s=0.1)  # a day is gone through
    for account in (FIRST, SECOND):
        exchange.handle(order(account, f"{account}in"))
        exchange.handle(order(account, f"{account}out", SELL))
        exchange.accounts[account].realized_today = 5.0
    exchange.advance(exchange.add_time(exchange.now_ns, 24 * 3_600 * 1_000_000_000))
    assert [account.realized_today for account in exchange.accounts.values()] == [0.0, 0.0]
    assert exchange.desk.orders == {}


@given(st.lists(st.sampled_from(["order", "execution"])))
def test_no_number_is_given_twice(kinds):
    log = OrderLog()
    taken = [(kind, log.take_order_id() if kind == "order" else log.take_execution_id()) for kind in kinds]
    assert len(set(taken)) == len(taken)


@given(st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 5), st.integers(23_900, 24_100)), max_size=9))
def test_a_saved_account_comes_back_as_it_was(fills):
    account = Account(FIRST, 1.0)
    for n, (side, quantity, price) in enumerate(fills, 1):
        account.fill(n, side, quantity, price, ES)
    assert account_from(asdict(account)) == account
