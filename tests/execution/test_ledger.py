import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mia_daemon.execution.ledger import Ledger
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EXTERNAL, EntryOrigin, Fill, JournaledFill, RegimeProbs, Side, Trade

ES = instrument("ESZ26_FUT_CME")
MNQ = instrument("MNQZ26_FUT_CME")
PROBS = RegimeProbs(0.7, 0.2, 0.1)


def fill(side, quantity, price, ts_ns=1, name=None):
    name = name or f"x{ts_ns}"
    return Fill(ts_ns, name, f"o{ts_ns}", "", ES.symbol, "Sim1", side, quantity, price)


def origin(name="d1"):
    return EntryOrigin(name, PROBS)


def test_a_round_trip_earns_the_difference_less_both_sides_costs():
    ledger = Ledger(ES, 100_000.0)
    assert ledger.apply(fill(Side.BUY, 2, 6000.0, 10), origin()) == []
    assert (ledger.position, ledger.average_price, ledger.opened_ns) == (2, 6000.0, 10)
    assert (ledger.origin, ledger.trade_id) == (origin(), "d1")
    (trade,) = ledger.apply(fill(Side.SELL, 2, 6001.5, 20), exit_reason="target")
    assert trade == Trade(
        "d1", ES.symbol, Side.BUY, 2, 10, 20, 6000.0, 6001.5, 150.0, 4.0, PROBS, "d1", "target"
    )  # fmt: skip
    assert (ledger.position, ledger.average_price, ledger.opened_ns, ledger.origin) == (0, 0.0, 0, None)
    assert ledger.realized == ledger.realized_today == 146.0
    assert ledger.equity == ledger.peak_equity == 100_146.0


def test_a_fill_through_zero_closes_one_trip_and_opens_the_other():
    ledger = Ledger(ES, 0.0)
    ledger.apply(fill(Side.SELL, 1, 6000.0, 1), origin("a"))
    (trade,) = ledger.apply(fill(Side.BUY, 3, 5999.0, 2), origin("b"), "reversal")
    assert (trade.trade_id, trade.side, trade.quantity, trade.profit) == ("a", Side.SELL, 1, 48.0)
    assert (ledger.position, ledger.average_price, ledger.trade_id, ledger.opened_ns) == (2, 5999.0, "b", 2)
    assert ledger.costs == 4.0


def test_partial_exits_leave_the_average_and_a_trade_holds_the_largest_size():
    ledger = Ledger(ES, 0.0)
    ledger.apply(fill(Side.BUY, 1, 6000.0, 1), origin())
    ledger.apply(fill(Side.BUY, 2, 6003.0, 2), origin())
    assert ledger.average_price == 6002.0
    assert ledger.apply(fill(Side.SELL, 2, 6004.0, 3)) == []
    assert ledger.average_price == 6002.0
    assert ledger.realized == pytest.approx(2 * 2.0 * 50 - 5)
    (trade,) = ledger.apply(fill(Side.SELL, 1, 6001.0, 4))
    assert (trade.quantity, trade.entry_price, trade.exit_price, trade.gross) == (3, 6002.0, 6003.0, 150.0)


def test_the_position_is_valued_where_it_could_be_closed():
    ledger = Ledger(ES, 10_000.0)
    ledger.apply(fill(Side.BUY, 1, 6000.0))
    assert ledger.unrealized == 0.0  # no touch yet
    ledger.mark(5999.0, 5999.25)
    assert ledger.unrealized == -50.0
    ledger.mark(math.nan, 5990.0)  # one side is unknown: the bid stays
    assert ledger.unrealized == -50.0
    ledger.apply(fill(Side.SELL, 2, 5999.0, 2))
    ledger.mark(5998.0, 5998.5)
    assert ledger.unrealized == 25.0
    ledger.mark(5000.0, math.nan)
    assert ledger.unrealized == 25.0


def test_drawdown_is_measured_from_the_peak_until_it_is_rebased():
    ledger = Ledger(ES, 10_000.0)
    ledger.apply(fill(Side.BUY, 1, 6000.0))
    ledger.mark(6020.0, 6020.25)
    assert ledger.peak_equity == 10_999.0
    ledger.mark(6000.0, 6000.25)
    assert ledger.drawdown == pytest.approx(1000 / 10_999)
    ledger.rebase_peak()
    assert ledger.drawdown == 0.0
    assert ledger.peak_equity == 9_999.0


def test_an_account_without_money_is_in_full_drawdown():
    ledger = Ledger(ES, 0.0)
    assert ledger.drawdown == 1.0


def test_a_new_day_counts_from_zero():
    ledger = Ledger(ES, 0.0)
    ledger.apply(fill(Side.BUY, 1, 6000.0, 1))
    ledger.apply(fill(Side.SELL, 1, 6001.0, 2))
    ledger.start_day()
    assert ledger.realized_today == 0.0
    ledger.apply(fill(Side.BUY, 1, 6000.0, 3))
    assert ledger.realized_today == -1.0
    assert ledger.realized == 47.0


def test_two_trips_of_one_decision_have_two_names():
    ledger = Ledger(ES, 0.0)
    names = []
    for n in range(3):
        ledger.apply(fill(Side.BUY, 1, 6000.0, 2 * n), origin("d"))
        names += [trade.trade_id for trade in ledger.apply(fill(Side.SELL, 1, 6000.0, 2 * n + 1))]
    assert names == ["d", "d.2", "d.3"]
    ledger.apply(fill(Side.BUY, 1, 6000.0, 99), EXTERNAL)
    assert ledger.trade_id == "foreign-99"


@pytest.mark.parametrize(("quantity", "price"), [(0, 6000.0), (-1, 6000.0), (1, math.nan), (1, math.inf)])
def test_what_is_no_fill_is_refused_and_changes_nothing(quantity, price):
    ledger = Ledger(ES, 0.0)
    with pytest.raises(ValueError, match="is no fill"):
        ledger.apply(fill(Side.BUY, quantity, price))
    assert (ledger.position, ledger.costs) == (0, 0.0)


fills = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 5), st.integers(-400, 400)), min_size=1, max_size=40
)  # fmt: skip


@given(fills)
@settings(max_examples=80)
def test_restored_from_its_fills_a_ledger_goes_on_as_if_nothing_had_happened(rows):
    booked = [
        JournaledFill(fill(side, quantity, 6000 + ticks / 4, n), origin(f"d{n // 3}"), f"reason {n}")
        for n, (side, quantity, ticks) in enumerate(rows)
    ]
    half = len(booked) // 2
    first = Ledger(ES, 50_000.0)
    trades = [trade for b in booked[:half] for trade in first.apply(b.fill, b.origin, b.exit_reason)]
    second = Ledger(ES, 50_000.0)
    assert trades == second.restore(booked[:half], day_start_ns=0, peak_equity=first.peak_equity)
    for b in booked[half:]:
        assert first.apply(b.fill, b.origin, b.exit_reason) == second.apply(b.fill, b.origin, b.exit_reason)
        first.mark(5999.0, 5999.5)
        second.mark(5999.0, 5999.5)
        for name in ("position", "average_price", "realized", "realized_today", "equity", "peak_equity", "trade_id"):
            assert getattr(first, name) == getattr(second, name), name


def test_a_restored_day_counts_only_its_own_fills():
    rows = [(Side.BUY, 6000.0, 1), (Side.SELL, 6002.0, 2), (Side.BUY, 6000.0, 11), (Side.SELL, 6001.0, 12)]
    booked = [JournaledFill(fill(side, 1, price, ts), origin(f"d{ts}"), "signal") for side, price, ts in rows]
    ledger = Ledger(ES, 0.0)
    ledger.restore(booked, day_start_ns=10, peak_equity=0.0)
    assert (ledger.realized_today, ledger.realized) == (48.0, 146.0)
    later = Ledger(ES, 0.0)
    later.restore(booked, day_start_ns=100, peak_equity=500.0)
    assert (later.realized_today, later.peak_equity) == (0.0, 500.0)


def naive(instr, rows, bid, ask):
    """Position, realised and unrealised by exact fractions, lot by lot arithmetic from the first fill on."""
    position, average, realized = 0, Fraction(0), Fraction(0)
    point, cost = Fraction(instr.point_value), Fraction(instr.cost_per_side)
    for side, quantity, price in rows:
        for _ in range(quantity):
            realized -= cost
            if position * side >= 0:
                average = (abs(position) * average + Fraction(price)) / (abs(position) + 1)
            else:
                realized += (Fraction(price) - average) * -side * point
            position += side
            average = average if position else Fraction(0)
    mark = Fraction(bid if position > 0 else ask)
    return position, average, realized, position * (mark - average) * point


class LedgerAgainstNaive(RuleBasedStateMachine):
    @initialize(micro=st.booleans())
    def start(self, micro):
        self.instrument = MNQ if micro else ES
        self.ledger = Ledger(self.instrument, 100_000.0)
        self.rows, self.trades, self.n = [], [], 0
        self.bid, self.ask, self.peak = 6000.0, 6000.25, 100_000.0
        self.ledger.mark(self.bid, self.ask)

    @rule(side=st.sampled_from(Side), quantity=st.integers(1, 7), ticks=st.integers(-2000, 2000))
    def trade(self, side, quantity, ticks):
        price = 6000 + ticks * 0.25
        self.n += 1
        self.rows.append((side, quantity, price))
        self.trades += self.ledger.apply(fill(side, quantity, price, self.n), origin(f"d{self.n}"))
        self.peak = max(self.peak, self.ledger.equity)

    @rule(ticks=st.integers(-2000, 2000), spread=st.integers(1, 8))
    def market(self, ticks, spread):
        self.bid = 6000 + ticks * 0.25
        self.ask = self.bid + spread * 0.25
        self.ledger.mark(self.bid, self.ask)
        self.peak = max(self.peak, self.ledger.equity)

    @invariant()
    def agrees(self):
        ledger = self.ledger
        position, average, realized, unrealized = naive(self.instrument, self.rows, self.bid, self.ask)
        assert ledger.position == position
        assert ledger.average_price == pytest.approx(float(average), abs=1e-6)
        assert ledger.realized == pytest.approx(float(realized), abs=1e-3)
        assert ledger.unrealized == pytest.approx(float(unrealized), abs=1e-3)
        assert ledger.equity == pytest.approx(100_000 + float(realized + unrealized), abs=1e-6)
        assert ledger.peak_equity == self.peak >= ledger.equity
        assert 0.0 <= ledger.drawdown <= 1.0
        if position == 0:
            assert sum(trade.profit for trade in self.trades) == pytest.approx(float(realized), abs=1e-6)
            assert ledger.unrealized == 0.0
        assert len({trade.trade_id for trade in self.trades}) == len(self.trades)


TestLedgerAgainstNaive = LedgerAgainstNaive.TestCase
TestLedgerAgainstNaive.settings = settings(max_examples=25, stateful_step_count=30)
