"""What a client may subscribe to, under which SymbolID, and what it gets at once."""

import pytest

from mia_daemon.dtc import messages as dtc
from mia_daemon.simulator.depth_view import DepthViews
from mia_daemon.simulator.market_messages import Subscriptions, dialect
from mia_daemon.simulator.market_subscriptions import NOT_ALLOWED, MarketSubscriptions

SYMBOL, OTHER = "ESZ26_FUT_CME", "NQZ26_FUT_CME"
SUBSCRIBE, UNSUBSCRIBE, SNAPSHOT, INTERVAL = 1, 2, 3, 4


@pytest.fixture
def exchange(make_exchange):
    return make_exchange()


def views_of(exchange):
    return {symbol: DepthViews(market) for symbol, market in exchange.markets.items()}


@pytest.fixture
def client(exchange):
    return MarketSubscriptions(exchange, dialect(0, 1), views_of(exchange))


class Trades:
    """Requests for trades and quotes, rejected by a 103."""

    request, reject, snapshot = dtc.MarketDataRequest, dtc.MarketDataReject, dtc.MarketDataSnapshot

    @staticmethod
    def ask(client, symbol_id, symbol=SYMBOL, action=SUBSCRIBE):
        request = dtc.MarketDataRequest(RequestAction=action, SymbolID=symbol_id, Symbol=symbol)
        return client.answer_market_data(request)


class Depth:
    """Requests for depth, rejected by a 121."""

    request, reject, snapshot = dtc.MarketDepthRequest, dtc.MarketDepthReject, dtc.MarketDepthSnapshotLevel

    @staticmethod
    def ask(client, symbol_id, symbol=SYMBOL, action=SUBSCRIBE):
        request = dtc.MarketDepthRequest(RequestAction=action, SymbolID=symbol_id, Symbol=symbol)
        return client.answer_market_depth(request)


each_kind = pytest.mark.parametrize("kind", [Trades, Depth])


def rejected(kind, answer, symbol_id):
    """The text of the rejection, which is all of the answer."""
    [reject] = answer
    assert isinstance(reject, kind.reject)
    assert reject.SymbolID == symbol_id
    return reject.RejectText


@each_kind
def test_a_symbol_is_subscribed_under_one_symbol_id(client, kind):
    assert isinstance(kind.ask(client, 7)[0], kind.snapshot)
    before = dict(client.ids)
    said = rejected(kind, kind.ask(client, 8), 8)
    assert said == f"{SYMBOL} is subscribed already, under SymbolID 7"
    assert client.ids == before


@each_kind
def test_a_symbol_may_be_subscribed_again_under_its_symbol_id(client, kind):
    kind.ask(client, 7)
    assert isinstance(kind.ask(client, 7)[0], kind.snapshot)


@each_kind
def test_after_unsubscribing_another_symbol_id_is_free_to_be_used(client, kind):
    kind.ask(client, 7)
    assert kind.ask(client, 7, action=UNSUBSCRIBE) == []
    assert client.ids == {}
    assert isinstance(kind.ask(client, 8)[0], kind.snapshot)


def test_one_symbol_id_stands_for_one_symbol(client):
    Trades.ask(client, 7)
    assert (
        rejected(Trades, Trades.ask(client, 7, OTHER), 7) == f"SymbolID 7 stands for {SYMBOL}: use another for {OTHER}"
    )
    Trades.ask(client, 8, OTHER)
    assert rejected(Depth, Depth.ask(client, 8), 8) == f"SymbolID 8 stands for {OTHER}: use another for {SYMBOL}"


def test_trades_and_depth_of_a_symbol_may_share_a_symbol_id_or_not(client):
    Trades.ask(client, 7)
    Depth.ask(client, 7)
    Depth.ask(client, 7, action=UNSUBSCRIBE)
    assert client.ids == {SYMBOL: Subscriptions(market=7)}
    Depth.ask(client, 8)
    assert client.ids == {SYMBOL: Subscriptions(market=7, depth=8)}


@each_kind
def test_a_snapshot_of_a_subscribed_symbol_may_be_asked_for_under_any_free_symbol_id(client, kind):
    kind.ask(client, 7)
    before = dict(client.ids)
    assert kind.ask(client, 9, action=SNAPSHOT)[0].SymbolID == 9
    assert client.ids == before


@each_kind
def test_a_request_action_that_is_not_served_is_rejected(client, kind):
    said = rejected(kind, kind.ask(client, 7, action=INTERVAL), 7)
    assert said == "RequestAction 4 is not served: subscribe with 1"


@each_kind
def test_unsubscribing_what_is_not_subscribed_changes_nothing(client, kind):
    kind.ask(client, 7)
    before = dict(client.ids)
    assert kind.ask(client, 9, action=UNSUBSCRIBE) == []
    assert client.ids == before


@each_kind
def test_the_policy_of_sierra_chart_rejects_every_symbol_with_its_text(exchange, kind):
    client = MarketSubscriptions(exchange, dialect(0, 1), views_of(exchange), allowed=False)
    assert rejected(kind, kind.ask(client, 7), 7) == NOT_ALLOWED == "Market data request not allowed"


def test_each_traded_symbol_has_subscriptions_of_its_own(make_exchange):
    exchange = make_exchange(SYMBOL, OTHER)
    client = MarketSubscriptions(exchange, dialect(0, 1), views_of(exchange))
    Trades.ask(client, 7)
    Depth.ask(client, 7)
    assert isinstance(Trades.ask(client, 8, OTHER)[0], dtc.MarketDataSnapshot)
    assert isinstance(Depth.ask(client, 8, OTHER)[0], dtc.MarketDepthSnapshotLevel)
    assert client.ids == {SYMBOL: Subscriptions(7, 7), OTHER: Subscriptions(8, 8)}
    assert rejected(Depth, Depth.ask(client, 8), 8) == f"SymbolID 8 stands for {OTHER}: use another for {SYMBOL}"
