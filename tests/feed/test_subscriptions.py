"""Which prices may be requested: by the answers to the requests for definitions, in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.messages import (
    MarketDataRequest,
    MarketDepthRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
)
from mia_daemon.feed.subscriptions import REFERENCE_ID, TRADED_ID, Subscriptions

NAMES = {TRADED_ID: "ESZ26_FUT_CME", REFERENCE_ID: "NQZ26_FUT_CME"}


@pytest.fixture
def both():
    return Subscriptions(NAMES, depth_levels=10)


def test_without_definitions_no_symbol_waits(both):
    assert both.start(defined=False) == [TRADED_ID, REFERENCE_ID]
    assert both.waiting == []


def test_each_symbol_waits_for_its_own_definition(both):
    assert both.start(defined=True) == []
    assert both.end_wait(REFERENCE_ID, known=True)
    assert both.waiting == [TRADED_ID]
    assert both.names(both.waiting) == "ESZ26_FUT_CME"


def test_a_second_answer_ends_no_wait(both):
    both.start(defined=True)
    assert both.end_wait(TRADED_ID, known=True)
    assert not both.end_wait(TRADED_ID, known=True)


@given(st.lists(st.tuples(st.sampled_from([TRADED_ID, REFERENCE_ID]), st.booleans())))
def test_the_next_subscription_waits_for_what_was_never_defined(answers):
    both = Subscriptions(NAMES, depth_levels=10)
    both.start(defined=True)
    for symbol_id, known in answers:
        both.end_wait(symbol_id, known=known)
    defined = {symbol_id for symbol_id, known in answers if known}
    assert set(both.waiting) == NAMES.keys() - {symbol_id for symbol_id, _ in answers}
    assert set(both.start(defined=True)) == defined
    assert set(both.waiting) == NAMES.keys() - defined


@pytest.mark.parametrize(
    ("definition", "symbol_ids"),
    [
        (SecurityDefinitionResponse(RequestID=2, Symbol="as the server likes"), [REFERENCE_ID]),
        (SecurityDefinitionResponse(Symbol="ESZ26_FUT_CME"), [TRADED_ID]),
        (SecurityDefinitionResponse(Symbol="another"), []),
        (SecurityDefinitionResponse(RequestID=9, Symbol="ESZ26_FUT_CME"), []),
    ],
)
def test_a_definition_is_of_the_symbol_it_was_requested_for_or_else_of_its_name(both, definition, symbol_ids):
    assert both.defined_by(definition) == symbol_ids


def test_a_reject_without_a_request_id_is_of_all_symbols_that_wait(both):
    both.start(defined=True)
    assert both.refused_by(SecurityDefinitionReject()) == [TRADED_ID, REFERENCE_ID]
    both.end_wait(TRADED_ID, known=True)
    assert both.refused_by(SecurityDefinitionReject()) == [REFERENCE_ID]


def test_a_reject_is_of_no_symbol_that_does_not_wait(both):
    both.start(defined=True)
    both.end_wait(TRADED_ID, known=True)
    assert both.refused_by(SecurityDefinitionReject(RequestID=TRADED_ID)) == []
    assert both.refused_by(SecurityDefinitionReject(RequestID=9)) == []


def test_depth_is_requested_with_the_traded_symbol_only(both):
    kinds = {TRADED_ID: [MarketDataRequest, MarketDepthRequest], REFERENCE_ID: [MarketDataRequest]}
    for symbol_id, requested in kinds.items():
        requests = both.price_requests([symbol_id])
        assert list(map(type, requests)) == requested
        assert {(r.SymbolID, r.Symbol) for r in requests} == {(symbol_id, NAMES[symbol_id])}
    assert len(Subscriptions(NAMES, depth_levels=0).price_requests(NAMES)) == 2
