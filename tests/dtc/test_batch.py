import pytest

from mia_daemon.dtc.batch import QUERIES, MessageBatch
from mia_daemon.dtc.messages import (
    AccountBalanceRequest,
    AccountBalanceUpdate,
    CurrentPositionsReject,
    CurrentPositionsRequest,
    HistoricalOrderFillResponse,
    HistoricalOrderFillsRequest,
    OpenOrdersRequest,
    OrderUpdate,
    PositionUpdate,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionResponse,
    SecurityDefinitionResponseV2,
    TradeAccountResponse,
    TradeAccountsRequest,
)

NUMBERED = [
    (OpenOrdersRequest, OrderUpdate, "TotalNumMessages"),
    (HistoricalOrderFillsRequest, HistoricalOrderFillResponse, "TotalNumberMessages"),
    (CurrentPositionsRequest, PositionUpdate, "TotalNumberMessages"),
    (TradeAccountsRequest, TradeAccountResponse, "TotalNumberMessages"),
    (AccountBalanceRequest, AccountBalanceUpdate, "TotalNumberMessages"),
]


@pytest.mark.parametrize(("request_", "answer", "total"), NUMBERED)
def test_a_numbered_batch_ends_at_its_total(request_, answer, total):
    batch = MessageBatch(QUERIES[request_])
    name = {"TradeAccount": "Sim1"} if answer is TradeAccountResponse else {}
    parts = [answer(MessageNumber=i, **{total: 3}, **name) for i in (1, 2, 3)]
    for part in parts:
        assert not batch.complete
        assert batch.take(part)
    assert batch.complete
    assert batch.messages == parts
    assert batch.take(parts[0])
    assert batch.messages == parts


@pytest.mark.parametrize(
    ("request_", "nothing"),
    [
        (OpenOrdersRequest, OrderUpdate(NoOrders=1)),
        (HistoricalOrderFillsRequest, HistoricalOrderFillResponse(NoOrderFills=1)),
        (CurrentPositionsRequest, PositionUpdate(NoPositions=1, TotalNumberMessages=1, MessageNumber=1)),
        (AccountBalanceRequest, AccountBalanceUpdate(NoAccountBalances=1)),
    ],
)
def test_an_empty_batch_is_complete_at_once(request_, nothing):
    batch = MessageBatch(QUERIES[request_])
    assert batch.take(nothing)
    assert (batch.complete, batch.messages, batch.refusal) == (True, [], "")


@pytest.mark.parametrize("answer", [SecurityDefinitionResponse, SecurityDefinitionResponseV2])
def test_security_definitions_end_with_a_flag(answer):
    batch = MessageBatch(QUERIES[SecurityDefinitionForSymbolRequest])
    batch.take(answer(Symbol="A"))
    assert not batch.complete
    batch.take(answer(Symbol="B", IsFinalMessage=1))
    assert batch.complete


@pytest.mark.parametrize(
    ("request_", "nothing"),
    [
        (TradeAccountsRequest, TradeAccountResponse(TotalNumberMessages=1, MessageNumber=1)),
        (TradeAccountsRequest, TradeAccountResponse(TotalNumberMessages=1)),
        (SecurityDefinitionForSymbolRequest, SecurityDefinitionResponse(IsFinalMessage=1)),
        (SecurityDefinitionForSymbolRequest, SecurityDefinitionResponseV2()),
    ],
)
def test_an_answer_that_names_nothing_is_none(request_, nothing):
    batch = MessageBatch(QUERIES[request_])
    assert batch.take(nothing)
    assert (batch.complete, batch.messages) == (True, [])


def test_a_single_answer_without_numbers_is_the_whole():
    batch = MessageBatch(QUERIES[AccountBalanceRequest])
    batch.take(AccountBalanceUpdate(CashBalance=5.0))
    assert batch.complete


def test_a_refusal_completes_and_says_why():
    batch = MessageBatch(QUERIES[CurrentPositionsRequest])
    assert batch.take(CurrentPositionsReject(RejectText="no such account"))
    assert (batch.complete, batch.refusal) == (True, "no such account")


def test_other_messages_are_not_taken():
    batch = MessageBatch(QUERIES[CurrentPositionsRequest])
    assert not batch.take(OrderUpdate())
    assert not batch.complete
