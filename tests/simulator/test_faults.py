"""Faults of orders, drawn and told: what comes twice, late, in the wrong order or never."""

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.config import FaultSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.simulator.faults import REFUSAL, OrderFaults, parse

S = 1_000_000_000


def updates(*names):
    return [dtc.OrderUpdate(ClientOrderID=name, LatestTransactionDateTime=100.0) for name in names]


def names(messages):
    return [message.ClientOrderID for message in messages]


def faults(**settings):
    return OrderFaults(FaultSettings(**settings), "7")


def test_by_default_nothing_goes_wrong():
    none = faults()
    news = updates("a", "b")
    assert none.tell(news, 0) == news
    assert (none.refusal(), none.fills_before_cancel()) == ("", False)
    assert none.tell([], 10**18) == []


def test_each_fault_does_what_it_is_named_for():
    assert names(faults(duplicate_share=1.0).tell(updates("a", "b"), 0)) == ["a", "a", "b", "b"]
    assert names(faults(lose_share=1.0).tell(updates("a", "b"), 0)) == []
    assert faults(reject_share=1.0).refusal() == REFUSAL
    assert faults(late_fill_share=1.0).fills_before_cancel()


def test_an_update_that_is_overtaken_comes_in_time_at_the_latest():
    one = faults(reorder_share=1.0, late_ms=500.0)
    assert one.tell(updates("a"), 10 * S) == []
    assert one.tell([], 10 * S + S // 4) == []
    assert names(one.tell([], 10 * S + S // 2)) == ["a"]


@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), max_size=20))
def test_reordering_alone_loses_and_adds_nothing(seed, sizes):
    one = OrderFaults(FaultSettings(reorder_share=0.4), str(seed))
    told, sent = [], []
    for now, size in enumerate(sizes):
        news = updates(*(f"{now}.{i}" for i in range(size)))
        sent += names(news)
        told += names(one.tell(news, now))
    told += names(one.tell([], 10 * S))
    assert sorted(told) == sorted(sent)


@given(st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_faults(seed):
    settings = FaultSettings(duplicate_share=0.3, reorder_share=0.3, lose_share=0.3)
    runs = [OrderFaults(settings, str(seed)) for _ in range(2)]
    told = [[names(run.tell(updates(str(now)), now)) for now in range(50)] for run in runs]
    assert told[0] == told[1]


def test_a_late_fill_is_told_after_the_cancel_it_beat_and_so_is_what_would_give_it_away():
    one = faults(late_ms=500.0)
    cancelled, (fill,) = dtc.OrderUpdate(ClientOrderID="a", OrderStatus=8), updates("a")
    fill.LastFillQuantity = 1.0
    one.confirm("a", cancelled)
    stop, position = updates("stop")[0], dtc.PositionUpdate(Quantity=1.0)
    assert one.tell([fill, stop, position], 0) == [cancelled, stop]
    assert one.tell([], S // 4) == []
    assert one.tell([], S // 2) == [fill, position]


def test_the_clock_of_orders_is_ahead_and_questions_are_understood_by_it():
    one = faults(clock_skew_s=2.5)
    (told,) = one.tell(updates("a"), 0)
    assert told.LatestTransactionDateTime == 102.5
    assert told.LastFillDateTime == 0  # unset stays unset
    (fill,) = one.dated([dtc.HistoricalOrderFillResponse(DateTime=100)])
    assert fill.DateTime == 102
    asked = dtc.HistoricalOrderFillsRequest(StartDateTime=102)
    assert one.asked(asked).StartDateTime == 100
    assert asked.StartDateTime == 102
    assert one.asked(dtc.HistoricalOrderFillsRequest()).StartDateTime == 0


def test_a_list_of_faults_is_read():
    assert parse("split, delay_ms=50,seed = 3") == {"split": True, "delay_ms": 50.0, "seed": 3.0}
    assert parse("mute=false,split=true") == {"mute": False, "split": True}
    assert parse("") == {}
    settings = FaultSettings.model_validate(parse("split,delay_ms=50,seed=3,connections=2"))
    assert settings == FaultSettings(split=True, delay_ms=50.0, seed=3, connections=2)
